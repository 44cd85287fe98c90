"""The command does what its options say, prints nothing else, and ends with the right code."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc.error_details_pb2 import BadRequest
from typer.testing import CliRunner, Result

from faultlane import Client, errors
from faultlane import v1 as pb
from faultlane.cli.app import app
from tests.client.fake import (
    NAME,
    QUEUED,
    SUCCEEDED,
    FakeServer,
    Refusal,
    a_simulation,
    an_explanation,
    some_faults,
    some_operations,
)

COMMAND = [sys.executable, "-c", "from faultlane.cli import main; main()"]

SCENARIO = pb.Scenario(
    horizon_ns=10**9,
    seed=1,
    machine=pb.Machine(arch="x86", cpus=4),
    kernel=pb.Kernel(policy_id="mainline"),
)
PRESET = pb.Preset(
    id="first-look",
    title="a first look",
    description="Readers and writers.",
    policies=["mainline", "rfc"],
    scenario=SCENARIO,
)
SUMMARY = pb.Summary(
    stop=pb.StopReason.STOP_REASON_HORIZON,
    end_ns=10**9,
    measured_ns=10**9,
    fingerprint=2**64 - 1,
    metrics=[pb.Metric(name="faults.per_second", value=3)],
    latencies=[pb.Latency(name="operation.mmap", count=1, p50_ns=1000, log2_counts=[0, 1])],
    locks=[pb.LockRow(lock="mmap_lock", mode="read", acquired=2)],
)

HOLD = pb.RetryPolicy(file=pb.RetryRule(drop_for_io=pb.DropForIo.DROP_FOR_IO_MMAP_ONLY))
MIXED = pb.RetryPolicy(
    file=pb.RetryRule(
        vma_lock_on=[pb.RetryReason.RETRY_REASON_F7, pb.RetryReason.RETRY_REASON_F8],
        vma_retries_max=2,
        drop_for_io=pb.DropForIo.DROP_FOR_IO_ALWAYS,
        relock_and_map=pb.RelockAndMap.RELOCK_AND_MAP_TRY,
    )
)


def ends_with(simulation: pb.Simulation) -> Any:
    """Three faults and an operation, and then the end."""

    def answer(request: pb.RunSimulationRequest) -> list[pb.RunSimulationResponse]:
        ended = pb.Simulation()
        ended.CopyFrom(simulation)
        ended.scenario.CopyFrom(request.scenario)
        return [
            pb.RunSimulationResponse(simulation=a_simulation(QUEUED)),
            pb.RunSimulationResponse(
                faults=some_faults([0, 1, 2], finished=[1, 1, 1], attempts=[1, 2, 2]),
                operations=some_operations([3]),
                next_fault_offset=3,
                next_operation_offset=1,
            ),
            pb.RunSimulationResponse(
                simulation=ended, next_fault_offset=3, next_operation_offset=1
            ),
        ]

    return answer


@pytest.fixture
def server(server: FakeServer) -> FakeServer:
    """A server with one preset, whose runs all end well."""
    server.says = {
        "GetPreset": lambda request: (
            pb.GetPresetResponse(preset=PRESET)
            if request.id == PRESET.id
            else Refusal(grpc.StatusCode.NOT_FOUND, "there is no such preset")
        ),
        "ListPresets": pb.ListPresetsResponse(presets=[PRESET]),
        "ListPolicies": pb.ListPoliciesResponse(
            policies=[pb.Policy(id="hold", columns=HOLD, description="hold the lock")]
        ),
        "CreateSimulation": pb.CreateSimulationResponse(),
        "RunSimulation": ends_with(a_simulation(SUCCEEDED, summary=SUMMARY)),
    }
    return server


def faultlane(server: FakeServer, *arguments: str) -> Result:
    """The command with these arguments; whatever happens, it must not be a traceback."""
    done = CliRunner().invoke(app, [*arguments, "--server", server.address])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done


def runs(server: FakeServer) -> list[pb.Scenario]:
    """The scenarios that were run."""
    return [each.scenario for each in server.heard if isinstance(each, pb.RunSimulationRequest)]


def test_run_tells_what_became_of_a_preset(server: FakeServer) -> None:
    done = faultlane(server, "run", "first-look")

    assert done.exit_code == 0
    assert done.stderr == ""
    assert done.stdout.splitlines()[:2] == [
        "first-look: policy mainline on x86, 4 CPUs, machine profile neutral, seed 1",
        "ended at the horizon after 1.00 s of simulated time, 1.00 s measured",
    ]
    sections = ["totals", "times", "attempts of the streamed faults", "operation.mmap", "locks"]
    assert [line for line in done.stdout.splitlines() if line in sections] == sections
    assert runs(server) == [SCENARIO]


def test_run_prints_json_and_nothing_else(server: FakeServer) -> None:
    done = faultlane(server, "run", "first-look", "--json")

    told = json.loads(done.stdout)
    assert done.stderr == ""
    assert told["streamed"] == {"faults": 3, "operations": 1}
    assert told["simulation"]["name"] == NAME
    assert told["simulation"]["state"] == "SIMULATION_STATE_SUCCEEDED"
    assert told["simulation"]["summary"]["fingerprint"] == 2**64 - 1
    assert told["simulation"]["summary"]["latencies"][0]["p50_ns"] == 1000
    assert "error" not in told["simulation"]


def test_the_scenario_in_the_json_can_be_run_again(server: FakeServer, tmp_path: Path) -> None:
    told = json.loads(faultlane(server, "run", "first-look", "--json").stdout)
    path = tmp_path / "again.json"
    path.write_text(json.dumps(told["simulation"]["scenario"]))

    assert faultlane(server, "run", str(path)).exit_code == 0

    assert runs(server) == [SCENARIO, SCENARIO]


def test_options_change_the_scenario(server: FakeServer) -> None:
    changes = ["--set", "machine.cpus=8", "--set", "horizon_ns = 2s"]

    faultlane(server, "run", "first-look", "--policy", "rfc", "--seed", "9", *changes)

    [scenario] = runs(server)
    assert (scenario.kernel.policy_id, scenario.seed) == ("rfc", 9)
    assert (scenario.machine.cpus, scenario.horizon_ns) == (8, 2 * 10**9)


def test_run_takes_a_file(server: FakeServer, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("{seed: 4, horizon_ns: 1ms}")

    assert faultlane(server, "run", str(path)).exit_code == 0

    assert runs(server) == [pb.Scenario(seed=4, horizon_ns=10**6)]


def test_costs_of_a_machine_replace_those_of_the_scenario(
    server: FakeServer, tmp_path: Path
) -> None:
    path, costs = tmp_path / "mine.yaml", tmp_path / "machine.yaml"
    path.write_text("{machine: {arch: x86, profile: icount-guest, costs_ns: {trap: 1, wake: 2}}}")
    costs.write_text("# measured\nprofile: neutral\ncosts_ns: {trap: 300ns, handle: 1us}\n")

    change = ["--set", "machine.costs_ns.handle=7"]
    assert faultlane(server, "run", str(path), "--machine", str(costs), *change).exit_code == 0

    [scenario] = runs(server)
    assert scenario.machine == pb.Machine(
        arch="x86", profile="neutral", costs_ns={"trap": 300, "handle": 7}
    )


def test_devices_of_a_machine_replace_those_of_the_scenario(
    server: FakeServer, tmp_path: Path
) -> None:
    path, machine = tmp_path / "mine.yaml", tmp_path / "machine.yaml"
    path.write_text("{machine: {cpus: 2, devices: [{name: disk}, {name: other}]}}")
    machine.write_text("{cpus: 8, devices: [{name: ssd}]}")

    assert faultlane(server, "compare", str(path), "--machine", str(machine)).exit_code == 0

    assert runs(server)[0].machine == pb.Machine(cpus=8, devices=[pb.Device(name="ssd")])


TWO_MACHINES = pb.ListMachinesResponse(
    machines=[
        pb.MachineProfile(name="neutral"),
        pb.MachineProfile(
            name="mine",
            description="a machine",
            costs=[pb.Cost(name="trap", ns=150, source="assumed: so", description="entry")],
        ),
    ]
)


def test_one_machine_is_told_with_every_cost(server: FakeServer) -> None:
    server.says["ListMachines"] = TWO_MACHINES

    done = faultlane(server, "machines", "mine")

    assert done.stdout.splitlines() == ["mine: a machine", "  trap  150 ns  assumed: so  entry"]
    [told] = json.loads(faultlane(server, "machines", "mine", "--json").stdout)
    assert told["name"] == "mine"


def test_a_machine_that_is_not_there_is_bad_input(server: FakeServer) -> None:
    server.says["ListMachines"] = TWO_MACHINES

    done = faultlane(server, "machines", "yours")

    assert done.exit_code == 2
    assert "want one of neutral, mine, got 'yours'" in " ".join(done.stderr.split())


def test_a_machine_that_is_no_file_is_a_profile(server: FakeServer) -> None:
    assert faultlane(server, "run", "first-look", "--machine", "icount-guest").exit_code == 0

    [scenario] = runs(server)
    assert scenario.machine == pb.Machine(arch="x86", cpus=4, profile="icount-guest")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("costs_ns:\n  trap: 3x\n", ":2: costs_ns.trap: want a whole number, 0 to "),
        ("machine:\n  cpus: 2\n", ":1: machine: want the fields arch, page_size_bytes, "),
        ("- 1\n", ":1: machine: want the fields arch, page_size_bytes, "),
    ],
)
def test_a_file_that_is_no_machine_is_bad_input(
    server: FakeServer, tmp_path: Path, text: str, told: str
) -> None:
    path = tmp_path / "machine.yaml"
    path.write_text(text)

    done = faultlane(server, "run", "first-look", "--machine", str(path))

    assert done.exit_code == 2
    assert done.stdout == ""
    [line] = done.stderr.splitlines()
    assert line.startswith(f"{path}{told}")


def test_violations_stand_on_lines_of_their_own(server: FakeServer) -> None:
    fields = [
        {"field": "machine.cpus", "description": "want 1 to 512, got 0"},
        {"field": "horizon_ns", "description": "want 1 to 1000000000000000, got 0"},
    ]
    server.says["RunSimulation"] = Refusal(
        grpc.StatusCode.INVALID_ARGUMENT, "bad", BadRequest(field_violations=fields)
    )

    done = faultlane(server, "run", "first-look")

    assert done.exit_code == 2
    assert done.stdout == ""
    assert done.stderr.splitlines() == [
        "machine.cpus: want 1 to 512, got 0",
        "horizon_ns: want 1 to 1000000000000000, got 0",
    ]


BAD_INPUTS = [
    (["last-look"], "last-look: no such file or preset; presets: first-look"),
    (["missing.yaml"], "missing.yaml: No such file or directory"),
    (["first-look", "--set", "machine.cpu=8"], "machine.cpu: want the fields arch, "),
    (["first-look", "--set", "machine.cpus=x"], "machine.cpus: want a whole number, 0 to "),
    (["first-look", "--set", "machine.cpus"], "want PATH=VALUE, got 'machine.cpus'"),
    (["first-look", "--seed", "-1"], "Invalid value for '--seed'"),
    (["first-look", "--seed", str(2**64)], "Invalid value for '--seed'"),
]


@pytest.mark.parametrize(("arguments", "problem"), BAD_INPUTS)
def test_bad_input_is_told_on_stderr(
    server: FakeServer, arguments: list[str], problem: str
) -> None:
    done = faultlane(server, "run", *arguments)

    assert done.exit_code == 2
    assert done.stdout == ""
    assert problem in done.stderr


def test_a_file_that_is_no_scenario_is_bad_input(server: FakeServer, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("machine:\n  cpu: 8\n  cpus: 4ms\n")

    done = faultlane(server, "run", str(path))

    assert done.exit_code == 2
    assert done.stdout == ""
    cpu, cpus = done.stderr.splitlines()
    assert cpu.startswith(f"{path}:2: machine.cpu: want the fields arch, ")
    assert cpu.endswith("(did you mean cpus?), got 'cpu'")
    assert cpus == f"{path}:3: machine.cpus: want a whole number, 0 to 4294967295, got '4ms'"


@pytest.mark.parametrize("command", [["run", "first-look"], ["compare", "first-look"], ["presets"]])
def test_who_reads_no_further_is_not_told_of_it(server: FakeServer, command: list[str]) -> None:
    reads, writes = os.pipe()
    os.close(reads)

    done = subprocess.run(
        [*COMMAND, *command, "--server", server.address],
        stdout=writes,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )

    os.close(writes)
    assert (done.returncode, done.stderr) == (1, "")


def in_latin_1(server: FakeServer, *arguments: str | bytes) -> "subprocess.CompletedProcess[bytes]":
    """The command on a terminal that shows nothing but Latin-1."""
    return subprocess.run(
        [*COMMAND, *arguments, "--server", server.address],
        env={**os.environ, "PYTHONIOENCODING": "latin-1"},
        capture_output=True,
        check=False,
    )


def test_what_a_terminal_cannot_show_is_written_in_latin_1(
    server: FakeServer, tmp_path: Path
) -> None:
    path = tmp_path / "Ω.yaml"
    path.write_text("workload: {files: [{name: Ω}]}")

    text, plain = (
        in_latin_1(server, "run", str(path)),
        in_latin_1(server, "run", str(path), "--json"),
    )

    assert (text.returncode, text.stderr) == (0, b"")
    assert b"\\u03a9.yaml: policy mainline" in text.stdout
    scenario = json.loads(plain.stdout)["simulation"]["scenario"]
    assert scenario["workload"]["files"][0]["name"] == "Ω"


def test_bytes_that_are_no_text_are_bad_input(server: FakeServer) -> None:
    done = in_latin_1(server, "run", b"\xff")

    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr == b"want text in UTF-8, got '\\udcff'\n"


@pytest.mark.parametrize("command", ["run", "compare"])
def test_an_interrupt_cancels_the_run(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("faultlane.cli.terminal.RunProgress.see", interrupt)
    server.says["CancelSimulation"] = pb.CancelSimulationResponse(simulation=a_simulation())

    done = faultlane(server, command, "first-look")

    assert (done.exit_code, done.stdout, done.stderr) == (130, "", "")
    assert server.heard[-1] == pb.CancelSimulationRequest(name=NAME)


def test_an_empty_address_is_bad_input(server: FakeServer) -> None:
    done = CliRunner().invoke(app, ["presets", "--server", ""])

    assert done.exit_code == 2
    assert "want HOST:PORT, got ''" in done.stderr


def test_a_directory_is_no_scenario(server: FakeServer, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.mkdir()

    done = faultlane(server, "run", str(path))

    assert (done.exit_code, done.stderr) == (2, f"{path}: Is a directory\n")


ENDS = [
    (pb.StopReason.STOP_REASON_FINISHED, 0),
    (pb.StopReason.STOP_REASON_DEADLOCK, 4),
    (pb.StopReason.STOP_REASON_NO_PROGRESS, 5),
]


@pytest.mark.parametrize("command", ["run", "compare"])
@pytest.mark.parametrize(("stop", "code"), ENDS)
def test_the_exit_code_tells_how_a_run_ended(
    server: FakeServer, command: str, stop: pb.StopReason.ValueType, code: int
) -> None:
    diagnosis = pb.Diagnosis(message="0 waits for 0")
    summary = pb.Summary(stop=stop, diagnosis=diagnosis)
    server.says["RunSimulation"] = ends_with(a_simulation(SUCCEEDED, summary=summary))

    done = faultlane(server, command, "first-look")

    assert done.exit_code == code
    assert ("0 waits for 0" in done.stdout) == (code != 0 or command == "run")


@pytest.mark.parametrize("command", ["run", "compare"])
def test_a_run_that_failed_has_a_code_of_its_own(server: FakeServer, command: str) -> None:
    server.says["RunSimulation"] = ends_with(
        a_simulation(
            pb.SimulationState.SIMULATION_STATE_FAILED,
            error=pb.RunError(reason="ROWS_LIMIT", message="too many rows"),
        )
    )

    done = faultlane(server, command, "first-look")

    assert (done.exit_code, done.stderr) == (6, "ROWS_LIMIT: too many rows\n")


NO_ANSWERS = [
    Refusal(grpc.StatusCode.UNAVAILABLE, "not ready yet"),
    Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, "the queue is full"),
]


@pytest.mark.parametrize("refusal", NO_ANSWERS)
def test_a_server_without_room_is_unavailable(server: FakeServer, refusal: Refusal) -> None:
    server.says["RunSimulation"] = refusal

    done = faultlane(server, "run", "first-look")

    assert (done.exit_code, done.stderr) == (3, f"{refusal.status.message}\n")


def test_no_server_at_all_is_unavailable(server: FakeServer) -> None:
    server.stop()

    assert faultlane(server, "presets").exit_code == 3


def test_a_server_that_stays_away_is_unavailable(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("faultlane.run.PATIENCE_S", 0.1)
    server.says["RunSimulation"] = [pb.RunSimulationResponse(simulation=a_simulation(QUEUED))]
    server.says["StreamEvents"] = Refusal(grpc.StatusCode.UNAVAILABLE, "gone")
    server.says["CancelSimulation"] = pb.CancelSimulationResponse(simulation=a_simulation())

    assert faultlane(server, "run", "first-look").exit_code == 3


def test_compare_runs_the_policies_of_the_preset(server: FakeServer) -> None:
    done = faultlane(server, "compare", "first-look", "--seeds", "2")

    assert done.exit_code == 0
    assert done.stderr == ""
    assert [(run.kernel.policy_id, run.seed) for run in runs(server)] == [
        ("mainline", 1),
        ("rfc", 1),
        ("mainline", 2),
        ("rfc", 2),
    ]
    assert done.stdout.splitlines()[:2] == [
        "first-look: policy mainline against rfc on x86, 4 CPUs, machine profile neutral,"
        " seeds 1, 2",
        "4 runs streamed 12 faults and 4 operations",
    ]
    assert "faults paired with those under mainline" in done.stdout


def test_compare_takes_policies_seed_and_changes(server: FakeServer) -> None:
    options = ["--policies", "hold, rfc,hold", "--seed", "7", "--set", "machine.cpus=2"]

    faultlane(server, "compare", "first-look", *options)

    assert [(run.kernel.policy_id, run.seed) for run in runs(server)] == [("hold", 7), ("rfc", 7)]
    assert all(run.machine.cpus == 2 for run in runs(server))


def test_the_seed_after_the_last_is_the_first(server: FakeServer) -> None:
    faultlane(server, "compare", "first-look", "--seed", str(2**64 - 1), "--seeds", "2")

    assert [run.seed for run in runs(server)] == [2**64 - 1, 2**64 - 1, 0, 0]


def test_compare_of_a_file_takes_the_designs_that_are_argued_about(
    server: FakeServer, tmp_path: Path
) -> None:
    path = tmp_path / "mine.json"
    path.write_text("{}")

    faultlane(server, "compare", str(path))

    assert [run.kernel.policy_id for run in runs(server)] == ["mainline", "rfc", "hold"]


def test_compare_prints_json_and_nothing_else(server: FakeServer) -> None:
    done = faultlane(server, "compare", "first-look", "--json")

    told = json.loads(done.stdout)
    assert done.stderr == ""
    assert (told["first"], told["seeds"]) == ("mainline", [1])
    rfc = told["policies"]["rfc"]
    assert rfc["runs"][0]["figures"]["faults.per_second"] == 3
    assert rfc["runs"][0]["streamed"] == {"faults": 3, "operations": 1}
    assert rfc["runs"][0]["pairing"]["paired"] == 3
    assert rfc["differences"]["operation.mmap.p50_ns"] == {"mean": 0, "margin": None}


CATALOG: list[tuple[str, str, Any, list[str]]] = [
    (
        "presets",
        "ListPresets",
        pb.ListPresetsResponse(presets=[PRESET]),
        ["first-look: a first look", "  Readers and writers.", "  policies: mainline, rfc"],
    ),
    (
        "archs",
        "ListArchitectures",
        pb.ListArchitecturesResponse(
            architectures=[
                pb.Architecture(
                    name="arm64",
                    page_sizes_bytes=[4096, 65536],
                    hz=250,
                    vma_lock_since="6.4",
                    source="fault.c",
                )
            ]
        ),
        [
            "arch   page sizes  HZ   VMA lock since  source",
            "arm64  4K, 64K     250  6.4             fault.c",
        ],
    ),
    (
        "policies",
        "ListPolicies",
        pb.ListPoliciesResponse(
            policies=[
                pb.Policy(id="hold", columns=HOLD, description="hold", source="a mail"),
                pb.Policy(id="mixed", columns=MIXED, description="both", source="nobody"),
            ]
        ),
        [
            "policy  VMA lock on  drop for I/O  more                         what it does  source",
            "hold    -            mmap_only     -                            hold          a mail",
            "mixed   f7, f8       always        at most 2 times, relock try  both          nobody",
        ],
    ),
    (
        "machines",
        "ListMachines",
        pb.ListMachinesResponse(
            machines=[
                pb.MachineProfile(
                    name="neutral",
                    description="no machine in particular",
                    costs=[pb.Cost(name="trap", ns=150, source="assumed", description="entry")],
                )
            ]
        ),
        [
            "profile  measured  published  derived  assumed  what it is",
            "neutral  0         0          0        1        no machine in particular",
        ],
    ),
    (
        "kernels",
        "ListKernels",
        pb.ListKernelsResponse(
            kernels=[
                pb.KernelGeneration(
                    name="6.12", description="LTS", vma_lock="rwsem", vma_lock_faults="all"
                )
            ]
        ),
        [
            "kernel  VMA lock  enough for  what it stands for",
            "6.12    rwsem     all         LTS",
        ],
    ),
]


@pytest.mark.parametrize(("command", "rpc", "answer", "lines"), CATALOG)
def test_the_catalog_is_told(
    server: FakeServer, command: str, rpc: str, answer: Any, lines: list[str]
) -> None:
    server.says[rpc] = answer

    done = faultlane(server, command)

    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout.splitlines() == lines
    assert isinstance(json.loads(faultlane(server, command, "--json").stdout), list)


def test_without_a_server_one_starts_and_ends(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = []
    monkeypatch.setattr(
        "faultlane.cli.options.local",
        lambda: Client.connect(server.address, on_close=lambda: closed.append(True)),
    )

    done = CliRunner().invoke(app, ["run", "first-look"])

    assert (done.exit_code, done.stderr, closed) == (0, "", [True])


def test_a_missing_extra_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing() -> Client:
        raise errors.MissingExtra("pip install 'faultlane[server]'")

    monkeypatch.setattr("faultlane.cli.options.local", nothing)

    done = CliRunner().invoke(app, ["presets"])

    assert (done.exit_code, done.stderr) == (2, "pip install 'faultlane[server]'\n")


def test_progress_is_for_terminals(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    quiet = faultlane(server, "run", "first-look")
    monkeypatch.setenv("FORCE_COLOR", "1")

    on_a_terminal = faultlane(server, "run", "first-look")

    assert "3 faults" in on_a_terminal.stderr
    assert on_a_terminal.stdout == quiet.stdout


TOLD = """\
first-look: policy mainline on x86, 4 CPUs, machine profile neutral, seed 1, fault 7
thread 2 (readers) of app: read
file_read, major, 2 attempts, 1.00 ms from 0.000001000 s on, longest in its way: thread 3

where its time went
  mmap_lock  1.00 ms  100.0%
  cpu         175 ns    0.0%
  lock_word    75 ns    0.0%

    at us     for us  lock  what (* has just happened, < is in the way)
   +0.000      0.200  -     do_user_addr_fault > lock_vma_under_rcu: the maple tree is searched (75
                              ns of it for the cache line of a lock)
   +0.200   1000.000  VMA   * VMA_LOCK_ABORT: VMA 0 (data) is write-locked by thread 3 (mappers)
                            rwsem_down_read_slowpath: waits for mmap_lock for read
                              holding the folio lock of page 1 of data
                              400.000 us:
                                < thread 3 (mappers) holds mmap_lock for write
                                  < disk: in service, reads pages 0 to 31 of data
                              600.000 us, shorter changes counted in: 4:
                                < thread 3 (mappers) holds mmap_lock for write
+1000.200      0.050  -     ... 1,234 steps more
"""


def test_explain_runs_a_scenario_and_tells_why_its_slowest_fault_was_slow(
    server: FakeServer,
) -> None:
    server.says["ExplainFault"] = an_explanation()

    done = faultlane(server, "explain", "first-look", "--seed", "1")

    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout == TOLD
    assert max(map(len, done.stdout.splitlines())) <= 100
    assert runs(server) == [SCENARIO]
    assert server.heard[-1] == pb.ExplainFaultRequest(
        name=NAME, choice=pb.FaultChoice.FAULT_CHOICE_SLOWEST
    )


@pytest.mark.parametrize(
    ("options", "which"),
    [
        ([], {"choice": 1}),
        (["--slowest"], {"choice": 1}),
        (["--most-retried"], {"choice": 2}),
        (["--fault", "0"], {"fault": 0}),
        (["--fault", "18446744073709551615"], {"fault": 2**64 - 1}),
    ],
)
def test_explain_takes_a_run_that_the_server_keeps(
    server: FakeServer, options: list[str], which: dict[str, Any]
) -> None:
    server.says["ExplainFault"] = an_explanation()
    server.says["GetSimulation"] = pb.GetSimulationResponse(simulation=a_simulation())

    done = faultlane(server, "explain", NAME, *options, "--json")

    told = json.loads(done.stdout)
    assert (done.exit_code, done.stderr, runs(server)) == (0, "", [])
    assert server.heard[-1] == pb.ExplainFaultRequest(name=NAME, **which)
    assert (told["fault"], told["event"]["duration_ns"]) == (7, [1_000_250])
    step = told["explanation"]["steps"][1]
    assert (step["activity"], step["lock"]) == ("ACTIVITY_SLEEPING", "FAULT_LOCK_VMA")
    assert step["spent_ns"] == {"mmap_lock": 1_000_000}
    assert step["blocking"][0]["chain"][0]["thread"] == 3


NOT_EXPLAINED = [
    (["first-look", "--slowest", "--most-retried"], "got several"),
    (["first-look", "--slowest", "--fault", "0"], "got several"),
    (["first-look", "--fault", "-1"], "Invalid value for '--fault'"),
    ([NAME, "--machine", "neutral"], "are for scenarios that are run"),
    ([NAME, "--policy", "rfc"], "are for scenarios that are run"),
    ([NAME, "--seed", "0"], "are for scenarios that are run"),
    ([NAME, "--set", "seed=1"], "are for scenarios that are run"),
    (["last-look"], "no such file or preset"),
]


@pytest.mark.parametrize(("arguments", "told"), NOT_EXPLAINED)
def test_explain_says_what_makes_no_sense(
    server: FakeServer, arguments: list[str], told: str
) -> None:
    done = faultlane(server, "explain", *arguments)

    assert (done.exit_code, done.stdout) == (2, "")
    assert told in " ".join(done.stderr.replace("│", " ").split())
    assert runs(server) == []


def test_a_run_is_kept_by_a_server() -> None:
    done = CliRunner().invoke(app, ["explain", NAME])

    assert done.exit_code == 2
    assert "--server" in done.stderr


@pytest.mark.parametrize(
    "code",
    [
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.OUT_OF_RANGE,
        grpc.StatusCode.FAILED_PRECONDITION,
    ],
)
def test_what_cannot_be_explained_is_bad_input(server: FakeServer, code: grpc.StatusCode) -> None:
    server.says["ExplainFault"] = Refusal(code, "because of that")

    done = faultlane(server, "explain", "first-look")

    assert (done.exit_code, done.stdout, done.stderr) == (2, "", "because of that\n")


def test_a_run_on_a_server_says_by_what_name_it_is_kept(server: FakeServer) -> None:
    done = faultlane(server, "run", "first-look")

    assert done.stdout.splitlines()[-1] == f"kept as {NAME}: see faultlane explain --help"


@pytest.mark.parametrize("command", [[], ["run"], ["compare"], ["explain"]])
def test_help_documents_the_exit_codes(command: list[str]) -> None:
    done = CliRunner().invoke(app, [*command, "--help"])

    assert done.exit_code == 0
    for code in ("2 bad input", "3 no server", "4 the run ended in a deadlock", "5 a fault", "6 "):
        assert code in " ".join(done.stdout.split())
