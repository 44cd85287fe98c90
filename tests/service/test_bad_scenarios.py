"""Scenarios that make no sense, sent over the wire: exactly the fields that are wrong are named."""

from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.rpc import error_details_pb2 as details

from faultlane.v1 import scenario_pb2
from faultlane.v1 import simulation_service_pb2 as pb
from tests.service.fake import PATIENCE_S, Peer, Servers, detail

UINT32_MAX = 2**32 - 1
UINT64_MAX = 2**64 - 1
MIB = 1 << 20
PAGE = 4096


@pytest.fixture(scope="module")
def peer(module_servers: Servers) -> Peer:
    return module_servers.start()


def a_plain_scenario() -> dict[str, Any]:
    """One that makes sense and has something in every kind of field; each test spoils its own."""
    return {
        "workload": {
            "files": [
                {
                    "name": "data",
                    "size_bytes": MIB,
                    "device": "disk",
                    "initial": [{"state": "PAGE_STATE_CACHED", "every_pages": 1}],
                }
            ],
            "processes": [
                {
                    "name": "app",
                    "vmas": [
                        {
                            "name": "map",
                            "address": MIB,
                            "length_bytes": MIB,
                            "file": {"file": "data"},
                            "protection": ["PROTECTION_READ"],
                            "advice": "ADVICE_RANDOM",
                            "mapped": [{"length_bytes": PAGE}],
                        },
                        {"name": "heap", "address": 4 * MIB, "length_bytes": MIB, "anonymous": {}},
                    ],
                    "groups": [{"name": "readers", "threads": 2, "program": a_program()}],
                }
            ],
        },
        "machine": {
            "arch": "x86",
            "page_size_bytes": PAGE,
            "cpus": 2,
            "profile": "neutral",
            "costs_ns": {"wake": 500},
            "devices": [
                {
                    "name": "disk",
                    "latency": {
                        "quantiles": {"points": [{"ppm": 0, "ns": 5}, {"ppm": 10**6, "ns": 7}]}
                    },
                    "channels": 2,
                    "bandwidth_bytes_per_s": 10**9,
                    "readahead_bytes": 0,
                }
            ],
        },
        "kernel": {"generation": "6.12", "policy_id": "rfc", "hz": 250, "fault_around_bytes": 0},
        "seed": 1,
        "warmup_ns": 1,
        "horizon_ns": 10**9,
        "recording": {"kind": "RECORDING_KIND_SAMPLED", "sample_every": 2, "slower_than_ns": 0},
        "attempts_max": 100,
    }


def a_program() -> list[dict[str, Any]]:
    return [
        {"touch": {"vma": "map", "uniform": {}, "count": 3, "access": "ACCESS_READ"}},
        {"touch": {"vma": "map", "zipf": {"theta_ppm": 900_000}, "length_bytes": PAGE}},
        {"touch": {"vma": "map", "stride": {"stride_bytes": PAGE, "thread_offset_bytes": PAGE}}},
        {"touch": {"vma": "map", "explicit": {"page_deltas": [5, -3], "slice": 1}}},
        {"touch": {"vma": "map", "sequential": {"divided": True}, "offset_bytes": PAGE}},
        {"compute": {"duration": {"log_normal": {"median_ns": 5, "sigma_ppm": 100}}}},
        {"sleep": {"duration": {"exponential_mean_ns": 5}}},
        {"mmap": {"name": "new", "length_bytes": PAGE}},
        {"munmap": {"vma": "new"}},
        {"mprotect": {"vma": "heap", "length_bytes": PAGE, "thread_offset_bytes": PAGE}},
        {"munmap": {"vma": "heap", "offset_bytes": 0, "length_bytes": PAGE}},
        {"barrier": {"name": "all"}},
        {"measure": {"name": "m", "steps": [{"sleep": {"duration": {"fixed_ns": 5}}}]}},
        {"loop": {"count": 3, "steps": [{"compute": {"duration": {"fixed_ns": 5}}}]}},
    ]


def violations(peer: Peer, scenario: scenario_pb2.Scenario) -> dict[str, str]:
    """What is wrong, by field; the error must carry nothing else."""
    request = pb.CreateSimulationRequest(scenario=scenario, validate_only=True)
    with pytest.raises(grpc.RpcError) as caught:
        peer.simulations.CreateSimulation(request, timeout=PATIENCE_S)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    found = detail(caught.value, details.BadRequest).field_violations
    assert all(entry.description.startswith("want ") for entry in found)
    return {entry.field.removeprefix("scenario."): entry.description for entry in found}


def message(plain: dict[str, Any]) -> scenario_pb2.Scenario:
    return json_format.ParseDict(plain, scenario_pb2.Scenario())


def container(plain: Any, path: str) -> tuple[Any, Any]:
    """Where the field of a path is kept, and under which key."""
    keys = [int(key) if key.isdigit() else key for key in path.replace("]", "").split(".") if key]
    split: list[Any] = []
    for key in keys:
        name, *numbers = str(key).split("[")
        split += [name, *map(int, numbers)]
    for key in split[:-1]:
        plain = plain[key]
    return plain, split[-1]


def spoilt(path: str, value: Any) -> scenario_pb2.Scenario:
    """The scenario with one field set, or cleared if the value is None."""
    plain = a_plain_scenario()
    inside, key = container(plain, path)
    if value is None:
        del inside[key]
    else:
        inside[key] = value
    return message(plain)


def test_what_is_spoilt_made_sense_before(peer: Peer) -> None:
    request = pb.CreateSimulationRequest(scenario=message(a_plain_scenario()), validate_only=True)

    assert peer.simulations.CreateSimulation(request, timeout=PATIENCE_S).simulation.digest


FILE = "workload.files[0]"
APP = "workload.processes[0]"
MAP, HEAP = f"{APP}.vmas[0]", f"{APP}.vmas[1]"
GROUP = f"{APP}.groups[0]"
STEP = f"{GROUP}.program"
DISK = "machine.devices[0]"
DELTAS = f"{STEP}[3].touch.explicit.page_deltas"
POINTS = f"{DISK}.latency.quantiles.points"

# What is set, to what, and which fields are named: the one that is set, if nothing is said.
SPOILT: list[tuple[str, Any] | tuple[str, Any, list[str]]] = [
    # what must be there
    ("workload", None),
    ("machine", None, ["machine", f"{FILE}.device"]),
    ("kernel", None),
    ("horizon_ns", None),
    (f"{FILE}.name", None, [f"{FILE}.name", f"{MAP}.file.file"]),
    (f"{FILE}.size_bytes", None,
     [f"{FILE}.size_bytes", f"{FILE}.initial[0].offset_bytes", f"{MAP}.length_bytes"]),
    (f"{FILE}.device", None),
    (f"{FILE}.initial[0].state", None),
    (f"{APP}.name", None),
    (f"{APP}.groups", None),
    (f"{MAP}.name", None, [f"{MAP}.name", *(f"{STEP}[{n}].touch.vma" for n in range(5))]),
    (f"{MAP}.file", None, [f"{MAP}.backing"]),
    (f"{HEAP}.anonymous", None, [f"{HEAP}.backing"]),
    (f"{MAP}.file.file", None),
    (f"{GROUP}.name", None),
    (f"{GROUP}.threads", None),
    (f"{GROUP}.program", None),
    (f"{STEP}[0].touch", None, [f"{STEP}[0].kind"]),
    (f"{STEP}[0].touch.vma", None),
    (f"{STEP}[0].touch.uniform", None, [f"{STEP}[0].touch.pattern"]),
    (f"{STEP}[5].compute.duration", None),
    (f"{STEP}[6].sleep.duration.exponential_mean_ns", None, [f"{STEP}[6].sleep.duration.shape"]),
    (f"{STEP}[11].barrier.name", None),
    (f"{STEP}[12].measure.name", None),
    (f"{STEP}[12].measure.steps", None),
    (f"{STEP}[13].loop.steps", None),
    ("machine.arch", None),
    ("machine.cpus", None),
    (f"{DISK}.name", None, [f"{DISK}.name", f"{FILE}.device"]),
    (f"{DISK}.latency", None),
    (f"{DISK}.latency.quantiles", None, [f"{DISK}.latency.shape"]),
    # names of what there is not
    ("machine.arch", "x68"),
    ("machine.profile", "warp"),
    ("machine.costs_ns", {"wake up": 5}),
    ("kernel.generation", "2.4"),
    ("kernel.policy_id", "rcf"),
    (f"{FILE}.device", "disc"),
    (f"{MAP}.file.file", "date"),
    (f"{STEP}[0].touch.vma", "mop"),
    (f"{STEP}[8].munmap.vma", "knew"),
    (f"{STEP}[9].mprotect.vma", "hoop"),
    # names that are no names, or another's
    (f"{FILE}.name", "a b", [f"{FILE}.name", f"{MAP}.file.file"]),
    (f"{APP}.name", "ä"),
    (f"{GROUP}.name", "x" * 129),
    (f"{STEP}[11].barrier.name", "\0"),
    (f"{STEP}[7].mmap.name", "heap", [f"{STEP}[7].mmap.name", f"{STEP}[8].munmap.vma"]),
    (f"{HEAP}.name", "map",
     [f"{HEAP}.name", *(f"{STEP}[{n}].touch.vma" for n in range(5)), f"{STEP}[9].mprotect.vma",
      f"{STEP}[10].munmap.vma"]),
    (f"{MAP}.file.open", "x" * 129),
    # numbers that no enum has
    (f"{FILE}.initial[0].state", 99),
    (f"{FILE}.initial[0].state", -1),
    (f"{MAP}.protection", [99], [f"{MAP}.protection[0]"]),
    (f"{MAP}.protection", [0], [f"{MAP}.protection[0]"]),
    (f"{MAP}.protection", [1, 2, 1], [f"{MAP}.protection[2]"]),
    (f"{MAP}.advice", 99),
    (f"{STEP}[0].touch.access", 99),
    ("recording.kind", 99),
    # places
    (f"{HEAP}.address", MIB),
    (f"{HEAP}.address", 2 * MIB - PAGE),
    (f"{MAP}.address", 5),
    (f"{HEAP}.address", 2**47),
    (f"{HEAP}.length_bytes", MIB + 5),
    (f"{MAP}.file.offset_bytes", PAGE, [f"{MAP}.length_bytes"]),
    (f"{MAP}.file.offset_bytes", 7),
    (f"{MAP}.mapped[0].length_bytes", 2 * MIB),
    (f"{MAP}.mapped[0].offset_bytes", MIB),
    (f"{FILE}.initial[0].offset_bytes", MIB),
    (f"{FILE}.initial[0].length_bytes", MIB + PAGE),
    (f"{FILE}.initial[0].state", "PAGE_STATE_ABSENT", [f"{MAP}.mapped[0]"]),
    (f"{STEP}[1].touch.length_bytes", 2 * MIB),
    (f"{STEP}[2].touch.offset_bytes", MIB),
    (f"{STEP}[4].touch.offset_bytes", MIB - PAGE, [f"{STEP}[4].touch.length_bytes"]),
    (DELTAS, [-1, 2], [f"{DELTAS}[0]"]),
    (DELTAS, [0, 256], [f"{DELTAS}[1]"]),
    (DELTAS, [2**63 - 1, 2**63 - 1],
     [f"{DELTAS}[0]"]),
    (DELTAS, [0, -(2**63)],
     [f"{DELTAS}[1]"]),
    (DELTAS, []),
    (f"{STEP}[3].touch.explicit.slice", 2),
    (f"{STEP}[9].mprotect.thread_offset_bytes", MIB),
    (f"{STEP}[0].touch.vma", "heap"),
    # quantiles
    (POINTS, [{"ppm": 0, "ns": 5}]),
    (POINTS, [{"ppm": 10**6, "ns": 5}, {"ppm": 0, "ns": 7}],
     [f"{POINTS}[0].ppm", f"{POINTS}[1].ppm", f"{POINTS}[1].ppm"]),
    (f"{POINTS}[1].ns", 4),
    (f"{POINTS}[1].ppm", 999_999),
    (POINTS, [{"ppm": n, "ns": n} for n in range(65)]),
    # limits
    ("machine.page_size_bytes", 16384),
    ("machine.page_size_bytes", 4095),
    ("machine.cpus", 513),
    ("kernel.hz", 60),
    ("kernel.fault_around_bytes", 3 * PAGE),
    ("warmup_ns", 10**9),
    ("recording.sample_every", 0),
    (f"{FILE}.size_bytes", 2**37, ["workload"]),
    (f"{STEP}[1].touch.zipf.theta_ppm", 0),
    (f"{STEP}[2].touch.stride.stride_bytes", 0),
    (f"{STEP}[7].mmap.length_bytes", 0),
    # programs that get nowhere
    (f"{STEP}[13].loop", {"steps": [{"barrier": {"name": "b"}}]}, [f"{STEP}[13].loop.steps"]),
    (f"{STEP}[13].loop", {"count": 2**40, "steps": [{"barrier": {"name": "b"}}]},
     [f"{STEP}[13].loop.count"]),
    (f"{STEP}[13].loop", {"steps": [{"mmap": {"name": "more", "length_bytes": PAGE}}]},
     [f"{STEP}[13].loop.steps"]),
    (f"{STEP}[8]", {"mmap": {"name": "new", "length_bytes": PAGE}}, [f"{STEP}[8].mmap.name"]),
]  # fmt: skip


@pytest.mark.parametrize("row", SPOILT, ids=lambda row: f"{row[0]}={str(row[1])[:30]!r}")
def test_exactly_what_is_wrong_is_named(
    peer: Peer, row: tuple[str, Any] | tuple[str, Any, list[str]]
) -> None:
    path, value, *told = row
    fields = told[0] if told else [path]

    assert violations(peer, spoilt(path, value)).keys() == set(fields)


def test_what_is_wrong_in_several_places_is_named_in_all_of_them(peer: Peer) -> None:
    plain = a_plain_scenario()
    wrong = {
        "machine.cpus": 0,
        "machine.arch": "vax",
        "kernel.policy_id": "",
        "kernel.hz": 7,
        "horizon_ns": UINT64_MAX,
        f"{FILE}.initial[0].state": 99,
        f"{MAP}.advice": 99,
        f"{HEAP}.address": MIB,
        f"{STEP}[0].touch.count": UINT64_MAX,
        f"{STEP}[12].measure.steps": [],
        f"{POINTS}[1].ns": 1,
    }
    for path, value in wrong.items():
        inside, key = container(plain, path)
        inside[key] = value

    found = violations(peer, message(plain))

    assert found.keys() == wrong.keys() - {"kernel.policy_id"}, "an empty policy means mainline"


def numbers(
    descriptor: Descriptor, plain: dict[str, Any], path: str = ""
) -> Iterator[tuple[str, Any]]:
    """Each number of a scenario that has something in every kind of field, with its type."""
    for name, value in plain.items():
        field = descriptor.fields_by_name[name]
        where = f"{path}.{name}" if path else name
        if field.message_type and field.message_type.GetOptions().map_entry:
            yield from ((f"{where}.{key}", FieldDescriptor.TYPE_UINT64) for key in value)
        elif field.message_type:
            for number, item in enumerate(value if field.is_repeated else [value]):
                yield from numbers(
                    field.message_type, item, f"{where}[{number}]" if field.is_repeated else where
                )
        elif field.type in (FieldDescriptor.TYPE_UINT32, FieldDescriptor.TYPE_UINT64):
            yield where, field.type


NUMBERS = list(numbers(scenario_pb2.Scenario.DESCRIPTOR, a_plain_scenario()))
ANYTHING_GOES = {  # each value of these makes sense, or is not looked at
    "seed": "any value is a seed",
    "recording.slower_than_ns": "this kind of recording does not ask for it",
    f"{FILE}.initial[0].every_pages": "only the first page is cached then",
}
TOLD_ELSEWHERE = {f"{FILE}.size_bytes": "workload"}  # whose files and VMAs share the pages


@pytest.mark.parametrize("field", [name for name, _ in NUMBERS if name not in ANYTHING_GOES])
def test_the_largest_numbers_are_refused_in_every_field(peer: Peer, field: str) -> None:
    kind = dict(NUMBERS)[field]
    absurd = [UINT32_MAX] if kind == FieldDescriptor.TYPE_UINT32 else [2**63, UINT64_MAX]
    for value in absurd:
        assert TOLD_ELSEWHERE.get(field, field) in violations(peer, spoilt(field, value))


@pytest.mark.parametrize("field", ANYTHING_GOES)
def test_where_anything_goes_it_does(peer: Peer, field: str) -> None:
    kind = dict(NUMBERS)[field]
    largest = UINT32_MAX if kind == FieldDescriptor.TYPE_UINT32 else UINT64_MAX
    request = pb.CreateSimulationRequest(scenario=spoilt(field, largest), validate_only=True)

    assert peer.simulations.CreateSimulation(request, timeout=PATIENCE_S).simulation.digest
