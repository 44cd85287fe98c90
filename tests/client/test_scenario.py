"""Scenario files say what the message says, and whatever does not fit is told at once."""

import json
import re
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format
from hypothesis import given
from hypothesis import strategies as st

from faultlane import InvalidScenario, errors, read_scenario, scenario_from, set_field, set_fields
from faultlane import v1 as pb
from faultlane.scenario import yaml_plain
from faultlane.units import BYTES, BYTES_PER_S, MILLIONTHS, NANOSECONDS, whole_number

YAML = """
workload:
  files:
    - {name: data, size_bytes: 16MiB, device: disk, initial: [{state: cached, length_bytes: 64KiB}]}
  processes:
    - name: app
      vmas:
        - {name: map, address: 0x10000, length_bytes: 16MiB, file: {file: data},
           protection: [READ, exec], advice: random}
      groups:
        - name: readers
          threads: 4
          daemon: true
          program:
            - loop:
                count: 1_000
                steps:
                  - touch: {vma: map, zipf: {theta_ppm: 90%}, count: 1e3}
                  - touch: {vma: map, explicit: {page_deltas: [5, -3]}}
                  - touch: {vma: map, uniform: {}}
                  - compute: {duration: {exponential_mean_ns: 1.5us}}
machine:
  arch: arm64
  cpus: 8
  costs_ns: {wake: 2us, switch: 700}
  devices:
    - {name: disk, latency: {fixed_ns: 4ms}, bandwidth_bytes_per_s: 2GiB/s, readahead_bytes: 0}
kernel: {generation: 6.10, policyId: rfc}
seed: 18446744073709551615
horizon_ns: 2s
"""

PROTOJSON: dict[str, Any] = {
    "workload": {
        "files": [
            {
                "name": "data",
                "sizeBytes": 16 << 20,
                "device": "disk",
                "initial": [{"state": "PAGE_STATE_CACHED", "lengthBytes": 65536}],
            }
        ],
        "processes": [
            {
                "name": "app",
                "vmas": [
                    {
                        "name": "map",
                        "address": 65536,
                        "lengthBytes": 16 << 20,
                        "file": {"file": "data"},
                        "protection": ["PROTECTION_READ", "PROTECTION_EXEC"],
                        "advice": "ADVICE_RANDOM",
                    }
                ],
                "groups": [
                    {
                        "name": "readers",
                        "threads": 4,
                        "daemon": True,
                        "program": [
                            {
                                "loop": {
                                    "count": 1000,
                                    "steps": [
                                        {
                                            "touch": {
                                                "vma": "map",
                                                "zipf": {"thetaPpm": 900_000},
                                                "count": "1000",
                                            }
                                        },
                                        {
                                            "touch": {
                                                "vma": "map",
                                                "explicit": {"pageDeltas": [5, -3]},
                                            }
                                        },
                                        {"touch": {"vma": "map", "uniform": {}}},
                                        {"compute": {"duration": {"exponentialMeanNs": 1500}}},
                                    ],
                                }
                            }
                        ],
                    }
                ],
            }
        ],
    },
    "machine": {
        "arch": "arm64",
        "cpus": 8,
        "costsNs": {"wake": 2000, "switch": 700},
        "devices": [
            {
                "name": "disk",
                "latency": {"fixedNs": 4_000_000},
                "bandwidthBytesPerS": 2 << 30,
                "readaheadBytes": 0,
            }
        ],
    },
    "kernel": {"generation": "6.10", "policyId": "rfc"},
    "seed": "18446744073709551615",
    "horizonNs": 2_000_000_000,
}


@pytest.fixture
def scenario() -> pb.Scenario:
    return json_format.ParseDict(PROTOJSON, pb.Scenario())


def violations(caught: pytest.ExceptionInfo[InvalidScenario]) -> list[str]:
    return [str(violation) for violation in caught.value.violations]


def test_a_yaml_file_says_what_the_message_says(tmp_path: Path, scenario: pb.Scenario) -> None:
    path = tmp_path / "scenario.yaml"
    path.write_text(YAML)

    assert read_scenario(path) == scenario


def test_a_json_file_may_be_what_protobuf_writes(tmp_path: Path, scenario: pb.Scenario) -> None:
    path = tmp_path / "scenario.json"
    path.write_text(json_format.MessageToJson(scenario))

    assert read_scenario(path) == scenario


@pytest.mark.parametrize("snake_case", [True, False])
def test_dictionaries_are_read_as_protobuf_reads_them(
    scenario: pb.Scenario, snake_case: bool
) -> None:
    plain = json_format.MessageToDict(scenario, preserving_proto_field_name=snake_case)

    assert scenario_from(plain) == scenario


def test_what_was_set_to_nothing_is_known_to_be_set() -> None:
    device = {"name": "disk", "readahead_bytes": 0}

    [read] = scenario_from({"machine": {"devices": [device]}}).machine.devices

    assert read.HasField("readahead_bytes")


def test_null_is_not_set() -> None:
    assert scenario_from({"machine": None, "seed": None}) == pb.Scenario()


MISFITS = [
    ({"sed": 1}, "sed: want the fields workload, machine, kernel, seed, "),
    ({"seed": -1}, "seed: want a whole number, 0 to 18446744073709551615, got -1"),
    ({"seed": 1.5}, "seed: want a whole number, 0 to 18446744073709551615, got 1.5"),
    ({"seed": True}, "seed: want a whole number, 0 to 18446744073709551615, got True"),
    ({"seed": 2**64}, f"seed: want a whole number, 0 to {2**64 - 1}, got {2**64}"),
    ({"seed": "4ms"}, "seed: want a whole number, 0 to 18446744073709551615, got '4ms'"),
    ({"seed": [1]}, "seed: want a whole number, 0 to 18446744073709551615, got [1]"),
    (
        {"horizon_ns": "4 weeks"},
        f"horizon_ns: want a whole number, 0 to {2**64 - 1}, or one in ns, us, µs, ms, s,"
        " got '4 weeks'",
    ),
    ({"machine": 3}, "machine: want the fields arch, page_size_bytes, cpus, "),
    ({"machine": {"arch": 3}}, "machine.arch: want text, got 3"),
    ({"machine": {"devices": {}}}, "machine.devices: want a list, got {}"),
    ({"machine": {"costs_ns": []}}, "machine.costs_ns: want names with values, got []"),
    (
        {"machine": {"costs_ns": {"wake": "soon"}}},
        f"machine.costs_ns.wake: want a whole number, 0 to {2**64 - 1}, or one in ns, us, µs,"
        " ms, s, got 'soon'",
    ),
    (
        {"recording": {"kind": "SOME"}},
        "recording.kind: want ALL or SAMPLED or SLOWER_THAN or RETRIED or SUMMARY_ONLY, got 'SOME'",
    ),
    (
        {"workload": {"processes": [{"groups": [{"daemon": "yes"}]}]}},
        "workload.processes[0].groups[0].daemon: want true or false, got 'yes'",
    ),
    (
        {"machine": {"devices": [{"latency": {"fixed_ns": 1, "exponential_mean_ns": 2}}]}},
        "machine.devices[0].latency.exponential_mean_ns: want nothing beside fixed_ns, got 2",
    ),
    (7, "scenario: want the fields workload, machine, "),
]


@pytest.mark.parametrize(("plain", "violation"), MISFITS)
def test_what_does_not_fit_is_told(plain: Any, violation: str) -> None:
    with pytest.raises(InvalidScenario) as caught:
        scenario_from(plain)

    [told] = violations(caught)
    assert told.startswith(violation)


def test_everything_that_does_not_fit_is_told_at_once() -> None:
    plain = {"seed": "x", "machine": {"cpus": "many", "devices": [{}, {"channels": -1}]}}

    with pytest.raises(InvalidScenario) as caught:
        scenario_from(plain)

    assert [violation.field for violation in caught.value.violations] == [
        "seed",
        "machine.cpus",
        "machine.devices[1].channels",
    ]


def a_bomb(levels: int) -> str:
    """A document of which each level repeats the one before nine times."""
    repeats = [f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]\n" for n in range(1, levels)]
    return f"l0: &l0 [{', '.join('x' * 9)}]\n{''.join(repeats)}"


UNREADABLE: list[tuple[str, str | bytes, str]] = [
    ("a.yaml", "seed: 1\nseed: 2\n", "2: the key 'seed' again"),
    ("a.yaml", "seed: [1\n", "2: "),
    ("a.yaml", "seed:\n\t- 1\n", "2: "),
    ("a.yaml", "seed: 1\nmachine: \x00", "2: control characters are not allowed"),
    ("a.yaml", "seed: 1\n---\nseed: 2\n", "2: a second document"),
    ("a.yaml", "seed: 1\n? [1, 2]\n: 3\n", "2: a key that is no name"),
    ("a.yaml", "seed: *none\n", "1: *none, of which there is no &none that ended before"),
    ("a.yaml", "machine: &m\n  devices:\n  - *m\n", "3: *m, of which there is no &m"),
    ("a.yaml", "- " * 100_000, "1: nested more than 100 deep"),
    ("a.yaml", "[" * 500, "1: nested more than 100 deep"),
    ("a.yaml", "[" * 100_000, "1: "),  # the reader's own words, where it stops before we do
    ("a.yaml", a_bomb(9), "7: more than 1048576 values, aliases included"),
    ("a.yaml", b"seed: 1\n# \xff", "2: no text in UTF-8: invalid start byte"),
    ("a.yaml", "", "1: scenario: want the fields workload, "),
    ("a.yaml", "# nothing", "1: scenario: want the fields workload, "),
    ("a.yaml", "- seed\n", "1: scenario: want the fields workload, "),
    ("a.yaml", "only words", "1: scenario: want the fields workload, "),
    ("a.json", "", "1: Expecting value"),
    ("a.json", "{", "1: Expecting property name"),
    ("a.json", '{"seed":\n1,}', "2: "),
    ("a.json", '{"machine": {\n"cpus": 1,\n"cpus": 2}, oops', "3: the key 'cpus' again"),
    ("a.json", '{"machine": {"cpus": 1},\n"seed": 2,\n"seed": 2}', "3: the key 'seed' again"),
    ("a.json", "[" * 100_000, "1: nested too deep"),
    ("a.json", b"\xff\xfe{\x00", "1: no text in UTF-8: invalid start byte"),
    ("a.json", '{"seed": ' + "9" * 10_000_000 + "}", "1: seed: want a whole number, "),
]


def read_from(tmp_path: Path, name: str, content: str | bytes) -> pb.Scenario:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_scenario(path)


@pytest.mark.timeout(10)
@pytest.mark.parametrize(("name", "content", "problem"), UNREADABLE)
def test_a_file_that_cannot_be_read_says_where(
    tmp_path: Path, name: str, content: str | bytes, problem: str
) -> None:
    with pytest.raises(InvalidScenario) as caught:
        read_from(tmp_path, name, content)

    [told] = violations(caught)
    assert told.startswith(f"{tmp_path / name}:{problem}")
    assert len(told) < 500


MISFITS_IN_A_FILE = """\
seed: x
machine:
  archs: x86  # a field that there is not
  devices:
    - {name: disk, channels: 4ms}
    - name: tape
      latency:
        fixed_ns:
          16MiB
  costs_ns:
    wake: soon
recording: {kind: SAMPLE}
"""


@pytest.mark.parametrize("name", ["a.yaml", "a.json"])
def test_what_does_not_fit_is_told_with_its_line(tmp_path: Path, name: str) -> None:
    text = MISFITS_IN_A_FILE
    if name == "a.json":
        text = json.dumps(yaml_plain(text), indent=2)
    line_of = {line.strip(' "-').split('"')[0].split(":")[0]: n for n, line in numbered(text)}

    with pytest.raises(InvalidScenario) as caught:
        read_from(tmp_path, name, text)

    assert [(v.field, v.place) for v in caught.value.violations] == [
        (field, f"{tmp_path / name}:{line_of[key]}")
        for field, key in [
            ("seed", "seed"),
            ("machine.archs", "archs"),
            ("machine.devices[0].channels", "channels" if name == "a.json" else "{name"),
            ("machine.devices[1].latency.fixed_ns", "fixed_ns"),
            ("machine.costs_ns.wake", "wake"),
            ("recording.kind", "kind" if name == "a.json" else "recording"),
        ]
    ]


def numbered(text: str) -> list[tuple[int, str]]:
    return list(enumerate(text.splitlines(), start=1))


def test_what_an_alias_repeats_is_told_with_the_line_where_it_was_written(tmp_path: Path) -> None:
    text = "machine:\n  devices:\n  - &disk\n    name: disk\n    chanels: 3\n  - *disk\n"

    with pytest.raises(InvalidScenario) as caught:
        read_from(tmp_path, "a.yaml", text)

    assert [(v.field, v.place) for v in caught.value.violations] == [
        ("machine.devices[0].chanels", f"{tmp_path / 'a.yaml'}:5"),
        ("machine.devices[1].chanels", f"{tmp_path / 'a.yaml'}:5"),
    ]


def test_an_alias_repeats_what_its_anchor_holds(tmp_path: Path) -> None:
    text = "machine: {devices: [{latency: &t {fixed_ns: 1us}}, {latency: *t}]}"

    devices = read_from(tmp_path, "a.yaml", text).machine.devices

    assert [device.latency.fixed_ns for device in devices] == [1000, 1000]


def test_a_file_larger_than_any_request_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").symlink_to("/dev/zero")

    with pytest.raises(InvalidScenario, match="more than 16777216 bytes"):
        read_scenario(tmp_path / "a.yaml")


def test_a_byte_order_mark_is_left_out(tmp_path: Path) -> None:
    assert read_from(tmp_path, "a.yaml", b"\xef\xbb\xbfseed: 5").seed == 5


@pytest.mark.timeout(10)
def test_after_a_hundred_violations_nothing_more_is_read(tmp_path: Path) -> None:
    with pytest.raises(InvalidScenario) as caught:
        read_from(tmp_path, "a.yaml", "machine: {devices: [" + "{nme: 1}, " * 100_000 + "]}")

    *first, last = violations(caught)
    assert len(first) == 100
    assert last == "these are the first 100: what comes after them was not read"


MEANT = [
    ({"machine": {"cpu": 1}}, "cpus"),
    ({"horizon": 1}, "horizon_ns"),
    ({"workload": {"files": [{"size": 1}]}}, "size_bytes"),
    ({"workload": {"proceses": []}}, "processes"),
    ({"recording": {"kind": "SAMPLE"}}, "SAMPLED"),
    ({"workload": {"processes": [{"vmas": [{"advice": "ADVICE_RNADOM"}]}]}}, "RANDOM"),
]


@pytest.mark.parametrize(("plain", "meant"), MEANT)
def test_a_name_that_is_nearly_right_is_answered_with_the_right_one(plain: Any, meant: str) -> None:
    with pytest.raises(InvalidScenario) as caught:
        scenario_from(plain)

    [told] = violations(caught)
    assert f" (did you mean {meant}?), got " in told


def test_without_pyyaml_json_still_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    monkeypatch.delitem(sys.modules, "faultlane.yaml_text", raising=False)
    monkeypatch.delattr("faultlane.yaml_text", raising=False)
    (tmp_path / "a.json").write_text(json.dumps({"seed": 5}))
    (tmp_path / "a.yaml").write_text("seed: 5")

    assert read_scenario(tmp_path / "a.json").seed == 5
    with pytest.raises(errors.MissingExtra, match=r"faultlane\[cli\]"):
        read_scenario(tmp_path / "a.yaml")


READERS = "workload.processes[0].groups[readers]"
MAP = "workload.processes[app].vmas[map]"
TOUCH = f"{READERS}.program[0].loop.steps[2].touch"
ASSIGNMENTS = [
    ("seed", "5", {"seed": 5}),
    ("horizon_ns", "3ms", {"horizon_ns": 3_000_000}),
    ("machine.cpus", "16", {"machine": {"cpus": 16}}),
    ("machine.costs_ns.wake", "500", {"machine": {"costs_ns": {"wake": 500}}}),
    ("machine.costs_ns[wake]", "1us", {"machine": {"costs_ns": {"wake": 1000}}}),
    ("kernel.policyId", "hold", {"kernel": {"policy_id": "hold"}}),
    ("recording.kind", "SUMMARY_ONLY", {"recording": {"kind": 5}}),
]


@pytest.mark.parametrize(("path", "text", "plain"), ASSIGNMENTS)
def test_a_field_is_set_by_its_path(path: str, text: str, plain: Any) -> None:
    scenario = pb.Scenario()

    set_field(scenario, path, text)

    assert scenario == scenario_from(plain)


def the_readers(scenario: pb.Scenario) -> pb.ThreadGroup:
    return scenario.workload.processes[0].groups[0]


def the_vma(scenario: pb.Scenario) -> pb.Vma:
    return scenario.workload.processes[0].vmas[0]


def the_disk(scenario: pb.Scenario) -> pb.Device:
    return scenario.machine.devices[0]


def the_touch(scenario: pb.Scenario) -> pb.Touch:
    return the_readers(scenario).program[0].loop.steps[2].touch


CHANGES: list[tuple[str, str, Callable[[pb.Scenario], Any], Any]] = [
    (f"{READERS}.threads", "64", lambda s: the_readers(s).threads, 64),
    (f"{READERS}.scheduling.nice", "-5", lambda s: the_readers(s).scheduling.nice, -5),
    (f"{READERS}.cpus", "0, 3", lambda s: list(the_readers(s).cpus), [0, 3]),
    (f"{READERS}.daemon", "false", lambda s: the_readers(s).daemon, False),
    ("workload.processes[0].groups[0].name", "r", lambda s: the_readers(s).name, "r"),
    (f"{MAP}.protection", "READ, WRITE", lambda s: list(the_vma(s).protection), [1, 2]),
    (f"{MAP}.protection", "", lambda s: list(the_vma(s).protection), []),
    (f"{MAP}.advice", "sequential", lambda s: the_vma(s).advice, 3),
    (f"{MAP}.anonymous", "{}", lambda s: the_vma(s).WhichOneof("backing"), "anonymous"),
    ("machine.devices[disk].channels", "4", lambda s: the_disk(s).channels, 4),
    ("machine.devices[0].latency.fixed_ns", "1s", lambda s: the_disk(s).latency.fixed_ns, 10**9),
    (f"{TOUCH}.count", "7", lambda s: the_touch(s).count, 7),
    (f"{TOUCH}.sequential.divided", "true", lambda s: the_touch(s).sequential.divided, True),
]


@pytest.mark.parametrize(("path", "text", "look", "value"), CHANGES)
def test_a_field_inside_what_repeats_is_set(
    scenario: pb.Scenario,
    path: str,
    text: str,
    look: Callable[[pb.Scenario], Any],
    value: Any,
) -> None:
    set_field(scenario, path, text)

    assert look(scenario) == value


WRONG_PATHS = [
    ("machine.cpu", "8", "machine.cpu: want the fields arch, page_size_bytes, "),
    ("machine", "8", "machine: want a path on to the fields arch, "),
    ("machine.cpus.more", "8", "machine.cpus.more: want a path that ends at cpus, got 'cpus'"),
    ("machine.costs_ns", "8", "machine.costs_ns: want one name after costs_ns, got ''"),
    ("machine.costs_ns.a.b", "8", "machine.costs_ns.a.b: want one name after costs_ns, got 'a.b'"),
    ("machine[0].cpus", "8", "machine[0].cpus: want machine without [0]: there is only one"),
    ("machine.cpus[0]", "8", "machine.cpus[0]: want cpus alone"),
    (
        "machine.devices[tape].channels",
        "8",
        "machine.devices[tape].channels: want devices[...] with a number below 1 or a name (disk),"
        " got 'tape'",
    ),
    ("machine.devices[1].channels", "8", "machine.devices[1].channels: want devices[...] with a"),
    ("machine.devices.channels", "8", "machine.devices.channels: want devices[...] with a number"),
    ("machine..cpus", "8", "machine..cpus: want a path such as machine.cpus or "),
    ("", "8", "want a path such as machine.cpus or "),
    ("machine.cpus", "eight", "machine.cpus: want a whole number, 0 to 4294967295, got 'eight'"),
]


@pytest.mark.parametrize(("path", "text", "violation"), WRONG_PATHS)
def test_a_path_that_leads_nowhere_is_told(
    scenario: pb.Scenario, path: str, text: str, violation: str
) -> None:
    with pytest.raises(InvalidScenario) as caught:
        set_field(scenario, path, text)

    [told] = violations(caught)
    assert told.startswith(violation)


def test_all_wrong_assignments_are_told_at_once(scenario: pb.Scenario) -> None:
    with pytest.raises(InvalidScenario) as caught:
        set_fields(scenario, [("sed", "1"), ("machine.cpus", "2"), ("machine.cpus", "x")])

    assert [violation.field for violation in caught.value.violations] == ["sed", "machine.cpus"]


UNITS = [
    ("0", {}, 0),
    ("-5", {}, -5),
    ("0x1000", {}, 4096),
    ("1_000_000", {}, 10**6),
    ("1e6", {}, 10**6),
    ("10us", NANOSECONDS, 10_000),
    ("10 µs", NANOSECONDS, 10_000),
    ("1.5ms", NANOSECONDS, 1_500_000),
    ("2s", NANOSECONDS, 2 * 10**9),
    ("16MiB", BYTES, 16 << 20),
    ("4kB", BYTES, 4000),
    ("7B", BYTES, 7),
    ("3.5GB/s", BYTES_PER_S, 3_500_000_000),
    ("12.5%", MILLIONTHS, 125_000),
]


@pytest.mark.parametrize(("text", "units", "value"), UNITS)
def test_numbers_may_have_units(text: str, units: dict[str, int], value: int) -> None:
    assert whole_number(text, units) == value


@pytest.mark.parametrize("text", ["", "ms", "1.5", "1.0001us", "1 ms 2", "1MS", "--1", "0x", "1e"])
def test_what_is_no_whole_number_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=re.escape(text) + "$"):
        whole_number(text, NANOSECONDS)


@given(st.integers(0, 10**15), st.sampled_from(sorted(NANOSECONDS)))
def test_no_nanosecond_is_lost(value_ns: int, unit: str) -> None:
    text = f"{Decimal(value_ns) / NANOSECONDS[unit]:f}{unit}"

    assert whole_number(text, NANOSECONDS) == value_ns
