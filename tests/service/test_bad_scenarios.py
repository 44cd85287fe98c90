"""Scenarios that make no sense, sent over the wire: exactly the fields that are wrong are named."""

import re
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
HUGE = 2 * MIB


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
                    "initial": [
                        {
                            "offset_bytes": 0,
                            "length_bytes": MIB,
                            "state": "PAGE_STATE_CACHED",
                            "every_pages": 1,
                        }
                    ],
                    "copies": 1,
                    "bad": [{"offset_bytes": PAGE, "length_bytes": PAGE}],
                },
                {"name": "shm", "size_bytes": MIB, "kind": "FILE_KIND_TMPFS"},
                {"name": "vdso", "size_bytes": PAGE, "kind": "FILE_KIND_SPECIAL"},
                {"name": "huge", "size_bytes": 4 * HUGE, "kind": "FILE_KIND_HUGETLB"},
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
                        {
                            "name": "heap",
                            "address": 4 * MIB,
                            "length_bytes": MIB,
                            "anonymous": {},
                            "room_bytes": PAGE,
                        },
                        {
                            "name": "copy",
                            "address": 8 * MIB,
                            "length_bytes": PAGE,
                            "file": {"file": "vdso", "offset_bytes": 0, "map_private": True},
                        },
                        {
                            "name": "stack",
                            "address": 16 * MIB,
                            "length_bytes": MIB,
                            "anonymous": {},
                            "grows_down_bytes": MIB,
                            "room": "below",
                            "device_private": [{"length_bytes": PAGE}],
                            "device_exclusive": [{"offset_bytes": PAGE, "length_bytes": PAGE}],
                            "numa_hinted": [{"offset_bytes": PAGE}],
                            "userfaultfd": {"missing": True},
                        },
                        {
                            "name": "hugemap",
                            "address": 64 * MIB,
                            "length_bytes": 2 * HUGE,
                            "hugetlb": {"file": "huge", "offset_bytes": HUGE},
                        },
                    ],
                    "groups": [
                        {
                            "name": "readers",
                            "threads": 2,
                            "program": a_program(),
                            "scheduling": {"policy": "SCHED_POLICY_BATCH", "nice": 5},
                            "cpus": [1],
                        }
                    ],
                    "memcg": "limit",
                }
            ],
            "memcgs": [
                {"name": "limit", "high_bytes": MIB, "max_bytes": 2 * MIB, "other_bytes": PAGE}
            ],
        },
        "machine": {
            "arch": "x86",
            "page_size_bytes": PAGE,
            "cpus": 2,
            "cpus_per_cache": 2,
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
                    "write_latency": {"exponential_mean_ns": 7},
                    "error_ppm": 5,
                    "stable_writes": True,
                    "iops_max": 3000,
                }
            ],
            "memory_bytes": 64 * MIB,
            "swap": {"device": "disk", "size_bytes": MIB, "zswap_bytes": PAGE},
            "huge_pages": {"page_bytes": HUGE, "count": 3},
        },
        "kernel": {
            "generation": "6.12",
            "policy_id": "rfc",
            "hz": 250,
            "fault_around_bytes": 0,
            "dirty_bytes": MIB,
            "dirty_background_bytes": PAGE,
            "lru_gen_enabled": 7,
            "swappiness": 60,
            "page_cluster": 3,
            "preemption": "PREEMPTION_FULL",
            "base_slice_ns": 750_000,
        },
        "seed": 1,
        "warmup_ns": 1,
        "horizon_ns": 10**9,
        "recording": {"kind": "RECORDING_KIND_SAMPLED", "sample_every": 2, "slower_than_ns": 0},
        "attempts_max": 100,
    }


def a_range() -> dict[str, Any]:
    return {
        "vma": "heap",
        "offset_bytes": PAGE,
        "length_bytes": PAGE,
        "thread_offset_bytes": PAGE,
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
        {
            "mprotect": {
                "vma": "heap",
                "offset_bytes": PAGE,
                "length_bytes": PAGE,
                "thread_offset_bytes": PAGE,
            }
        },
        {"munmap": {"vma": "heap", "offset_bytes": 0, "length_bytes": PAGE}},
        {"barrier": {"name": "all"}},
        {"measure": {"name": "m", "steps": [{"sleep": {"duration": {"fixed_ns": 5}}}]}},
        {"loop": {"count": 3, "steps": [{"compute": {"duration": {"fixed_ns": 5}}}]}},
        {"touch": {"vma": "copy", "uniform": {}, "access": "ACCESS_WRITE", "kernel_mode": True}},
        {"ftruncate": {"file": "shm", "size_bytes": PAGE}},
        {"punch_hole": {"file": "shm", "offset_bytes": PAGE, "length_bytes": PAGE}},
        {"sync_file_range": {"file": "shm", "offset_bytes": PAGE, "length_bytes": PAGE}},
        {"fadvise_dontneed": {"file": "shm", "offset_bytes": PAGE, "length_bytes": PAGE}},
        {"kill": {"signal": "SIGNAL_KIND_FATAL"}},
        {
            "madvise": {
                "vma": "heap",
                "advice": "MADVICE_DONTNEED",
                "offset_bytes": PAGE,
                "length_bytes": PAGE,
                "thread_offset_bytes": PAGE,
            }
        },
        {"fork": {"child": {"fixed_ns": 5}}},
        {"mmap": {"length_bytes": PAGE, "over": "heap", "over_offset_bytes": PAGE}},
        {"mremap": {"vma": "heap", "length_bytes": PAGE, "move": True}},
        {"brk": {"vma": "heap", "length_bytes": PAGE}},
        {"mbind": {**a_range(), "policy": 1}},
        {"prctl": {**a_range(), "name": "arena"}},
        {"read_smaps": {}},
        {"mlock": a_range()},
        {"munlock": a_range()},
        {"khugepaged": a_range()},
        {"numa_scan": a_range()},
        {
            "userfaultfd_register": {
                "vma": "stack",
                "offset_bytes": PAGE,
                "length_bytes": PAGE,
                "modes": {"write_protect": True},
            }
        },
        {
            "userfaultfd_writeprotect": {
                "vma": "below",
                "offset_bytes": PAGE,
                "length_bytes": PAGE,
                "resolve": True,
            }
        },
        {"migrate": {"vma": "stack", "offset_bytes": PAGE, "length_bytes": PAGE}},
        {"userfaultfd_copy": {"vma": "stack"}},
        {"userfaultfd_close": {}},
        {"mmap": {"name": "area", "length_bytes": HUGE, "hugetlb": {"no_reserve": True}}},
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


FILE, SHM, VDSO, HUGE_FILE = (f"workload.files[{number}]" for number in range(4))
APP = "workload.processes[0]"
MAP, HEAP, COPY, STACK, HUGE_MAP = (f"{APP}.vmas[{number}]" for number in range(5))
GROUP = f"{APP}.groups[0]"
STEP = f"{GROUP}.program"
DISK = "machine.devices[0]"
MEMCG, SWAP = "workload.memcgs[0]", "machine.swap"
DELTAS = f"{STEP}[3].touch.explicit.page_deltas"
POINTS = f"{DISK}.latency.quantiles.points"
KERNEL_TOUCH = f"{STEP}[14].touch"
TRUNCATE, KILL = f"{STEP}[15].ftruncate", f"{STEP}[19].kill"
MADVISE, FORK = f"{STEP}[20].madvise", f"{STEP}[21].fork"
RANGES = [f"{STEP}[16].punch_hole", f"{STEP}[17].sync_file_range", f"{STEP}[18].fadvise_dontneed"]
REGISTER = f"{STEP}[32].userfaultfd_register"
PROTECT, MIGRATE = f"{STEP}[33].userfaultfd_writeprotect", f"{STEP}[34].migrate"
COPIES = f"{STEP}[35].userfaultfd_copy"
OVER, MREMAP, BRK = f"{STEP}[22].mmap", f"{STEP}[23].mremap", f"{STEP}[24].brk"
MBIND, PRCTL, SMAPS = f"{STEP}[25].mbind", f"{STEP}[26].prctl", f"{STEP}[27].read_smaps"
ON_RANGES = [
    f"{STEP}[{number}].{name}"
    for number, name in [
        (25, "mbind"),
        (26, "prctl"),
        (28, "mlock"),
        (29, "munlock"),
        (30, "khugepaged"),
        (31, "numa_scan"),
    ]
]
RULE = "kernel.retry_policy.file"
WANT_HUGE_PAGES = [f"{HUGE_FILE}.kind", f"{HUGE_MAP}.hugetlb", f"{STEP}[37].mmap.hugetlb"]


def by_columns(*, mmap_lock_only: bool = False, **file: Any) -> dict[str, Any]:
    """A kernel whose policy is given by its columns."""
    return {"retry_policy": {"mmap_lock_only": mmap_lock_only, "file": file}}


# What is set, to what, and which fields are named: the one that is set, if nothing is said.
SPOILT: list[tuple[str, Any] | tuple[str, Any, list[str]]] = [
    # what must be there
    ("workload", None),
    ("machine", None, ["machine", f"{FILE}.device", *WANT_HUGE_PAGES]),
    (f"{MEMCG}.name", None, [f"{MEMCG}.name", f"{APP}.memcg"]),
    (f"{SWAP}.device", None),
    (f"{SWAP}.size_bytes", None, [f"{SWAP}.size_bytes", f"{SWAP}.zswap_bytes"]),
    ("kernel", None),
    ("horizon_ns", None),
    (f"{FILE}.name", None, [f"{FILE}.name", f"{MAP}.file.file"]),
    (f"{FILE}.size_bytes", None,
     [f"{FILE}.size_bytes", f"{FILE}.initial[0].offset_bytes", f"{FILE}.bad[0].offset_bytes",
      f"{MAP}.file.offset_bytes"]),
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
    (f"{DISK}.name", None, [f"{DISK}.name", f"{FILE}.device", f"{SWAP}.device"]),
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
     [f"{HEAP}.name", f"{STEP}[9].mprotect.vma", f"{STEP}[10].munmap.vma", f"{OVER}.over",
      f"{MREMAP}.vma", f"{BRK}.vma", *(f"{name}.vma" for name in ON_RANGES),
      f"{MADVISE}.vma"]),
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
    # quantiles
    (POINTS, [{"ppm": 0, "ns": 5}]),
    (POINTS, [{"ppm": 10**6, "ns": 5}, {"ppm": 0, "ns": 7}],
     [f"{POINTS}[0].ppm", f"{POINTS}[1].ppm", f"{POINTS}[1].ppm"]),
    (f"{POINTS}[1].ns", 4),
    (f"{POINTS}[1].ppm", 999_999),
    (POINTS, [{"ppm": n, "ns": n} for n in range(65)]),
    # scheduling
    (f"{GROUP}.scheduling.policy", 6),
    (f"{GROUP}.scheduling.nice", 20),
    (f"{GROUP}.scheduling.nice", -21),
    (f"{GROUP}.scheduling.rt_priority", 1),
    (f"{GROUP}.scheduling.policy", "SCHED_POLICY_IDLE", [f"{GROUP}.scheduling.nice"]),
    (f"{GROUP}.scheduling.policy", "SCHED_POLICY_RR",
     [f"{GROUP}.scheduling.nice", f"{GROUP}.scheduling.rt_priority"]),
    (f"{GROUP}.scheduling", {"policy": "SCHED_POLICY_FIFO", "rt_priority": 100},
     [f"{GROUP}.scheduling.rt_priority"]),
    (f"{GROUP}.cpus", [2], [f"{GROUP}.cpus[0]"]),
    (f"{GROUP}.cpus", [0, 1, 0], [f"{GROUP}.cpus[2]"]),
    ("kernel.preemption", 4),
    ("kernel.base_slice_ns", 99_999),
    ("kernel.base_slice_ns", 100_000_001),
    # limits
    ("machine.page_size_bytes", 16384),
    ("machine.page_size_bytes", 4095),
    ("machine.cpus", 513),
    ("machine.cpus_per_cache", 512),
    ("kernel.hz", 60),
    ("kernel.fault_around_bytes", 3 * PAGE),
    ("warmup_ns", 10**9),
    ("recording.sample_every", 0),
    (f"{FILE}.size_bytes", 2**37, ["workload"]),
    (f"{STEP}[1].touch.zipf.theta_ppm", 0),
    (f"{STEP}[2].touch.stride.stride_bytes", 0),
    (f"{STEP}[7].mmap.length_bytes", 0),
    (f"{OVER}.over", "none"),
    (f"{OVER}.name", "area"),
    (f"{OVER}.over_offset_bytes", 5),
    (f"{OVER}.file", {"file": "none"}, [f"{OVER}.file.file"]),
    (f"{OVER}.own_file", True),
    (f"{MREMAP}.vma", "none"),
    (f"{MREMAP}.length_bytes", UINT64_MAX // PAGE * PAGE),
    (f"{BRK}.vma", "map"),
    (f"{BRK}.length_bytes", 1),
    (f"{MBIND}.policy", UINT32_MAX),
    (f"{PRCTL}.name", "n" * 81),
    (SMAPS, {"process": "none"}, [f"{SMAPS}.process"]),
    (f"{FILE}.copies", UINT32_MAX, ["workload.files", f"{FILE}.copies", "workload"]),
    ("kernel.fork_skips", 99),
    # programs that get nowhere
    (f"{STEP}[13].loop", {"steps": [{"barrier": {"name": "b"}}]}, [f"{STEP}[13].loop.steps"]),
    (f"{STEP}[13].loop", {"count": 2**40, "steps": [{"barrier": {"name": "b"}}]},
     [f"{STEP}[13].loop.count"]),
    (f"{STEP}[13].loop", {"steps": [{"mmap": {"name": "more", "length_bytes": PAGE}}]},
     [f"{STEP}[13].loop.steps"]),
    (f"{STEP}[8]", {"mmap": {"name": "new", "length_bytes": PAGE}}, [f"{STEP}[8].mmap.name"]),
    # policies by their columns
    ("kernel", by_columns(vma_lock_on=[99]), [f"{RULE}.vma_lock_on[0]"]),
    ("kernel", by_columns(vma_lock_on=[2, 0]), [f"{RULE}.vma_lock_on[1]"]),
    ("kernel", by_columns(vma_lock_on=[-1, 1]), [f"{RULE}.vma_lock_on[0]"]),
    ("kernel", by_columns(vma_lock_on=[1, 2, 1]), [f"{RULE}.vma_lock_on[2]"]),
    ("kernel", by_columns(vma_lock_on=[1], vma_retries_max=2**31), [f"{RULE}.vma_retries_max"]),
    ("kernel", by_columns(vma_retries_max=1), [f"{RULE}.vma_retries_max"]),
    ("kernel", by_columns(vma_retry_sets_tried=True), [f"{RULE}.vma_retry_sets_tried"]),
    ("kernel", by_columns(uptodate_killable=True), [f"{RULE}.uptodate_killable"]),
    ("kernel", by_columns(mmap_lock_only=True, vma_lock_on=[1]), [f"{RULE}.vma_lock_on"]),
    ("kernel", by_columns(drop_for_io=9, uptodate_direct=-1, relock_and_map=99),
     [f"{RULE}.drop_for_io", f"{RULE}.uptodate_direct", f"{RULE}.relock_and_map"]),
    ("kernel", {"retry_policy": {"anonymous": {"vma_lock_on": [3, 99]}}},
     ["kernel.retry_policy.anonymous.vma_lock_on[1]"]),
    ("kernel", {"retry_policy": {"mmap_lock_only": True, "anonymous": {"vma_lock_on": [3]}}},
     ["kernel.retry_policy.anonymous.vma_lock_on"]),
    # kernels without a VMA lock
    ("kernel.generation", "6.3"),
    ("kernel", {"generation": "6.3", "policy_id": "hold"}, ["kernel.generation"]),
    ("kernel", {"generation": "6.3", "policy_id": "rcf"}, ["kernel.policy_id"]),
    ("kernel", {"generation": "6.3", **by_columns(vma_lock_on=[1])}, ["kernel.generation"]),
    ("kernel", {"generation": "6.3", **by_columns(drop_for_io=2)}, ["kernel.generation"]),
    # how much may be dirty
    ("kernel.dirty_bytes", PAGE),
    ("kernel.dirty_bytes", 2**63),
    ("kernel.dirty_background_bytes", MIB + 1),
    ("kernel", {"dirty_background_bytes": 2**63}, ["kernel.dirty_background_bytes"]),
    # devices that fail, and that write
    (f"{DISK}.error_ppm", 10**6 + 1),
    (f"{DISK}.write_latency", {}, [f"{DISK}.write_latency.shape"]),
    (f"{DISK}.write_latency", {"exponential_mean_ns": 0},
     [f"{DISK}.write_latency.exponential_mean_ns"]),
    (f"{DISK}.write_latency", {"log_normal": {"median_ns": 1, "sigma_ppm": 4_000_001}},
     [f"{DISK}.write_latency.log_normal.sigma_ppm"]),
    (f"{DISK}.write_latency", {"quantiles": {"points": [{}]}},
     [f"{DISK}.write_latency.quantiles.points"]),
    # what only some kinds of files have
    (f"{FILE}.kind", 99),
    (f"{FILE}.kind", "FILE_KIND_TMPFS", [f"{FILE}.device", f"{FILE}.bad"]),
    (f"{FILE}.kind", "FILE_KIND_SPECIAL", [f"{FILE}.device", f"{FILE}.bad", f"{FILE}.initial"]),
    (f"{SHM}.device", "disk"),
    (f"{SHM}.bad", [{}]),
    (f"{SHM}.initial", [{"state": "PAGE_STATE_CACHED"}, {"state": "PAGE_STATE_DIRTY"}],
     [f"{SHM}.initial[1].state"]),
    (f"{SHM}.initial", [{"state": 3}, {"state": 4}, {"state": 6}],
     [f"{SHM}.initial[{number}].state" for number in range(3)]),
    (f"{VDSO}.device", "disk"),
    (f"{VDSO}.bad", [{}]),
    (f"{VDSO}.initial", [{"state": "PAGE_STATE_DIRTY"}]),
    (f"{FILE}.bad[0].offset_bytes", 5),
    (f"{FILE}.bad[0].offset_bytes", MIB),
    (f"{FILE}.bad[0].length_bytes", MIB),
    (f"{FILE}.bad", [{"length_bytes": 512 * PAGE}] * 3,
     [f"{FILE}.bad[{number}].length_bytes" for number in range(3)]),
    # pages that are mapped, but not up to date
    (f"{FILE}.initial[0].state", "PAGE_STATE_NOT_UPTODATE", [f"{MAP}.mapped[0]"]),
    (f"{FILE}.initial[0].state", "PAGE_STATE_HOLE", [f"{MAP}.mapped[0]"]),
    (f"{MAP}.mapped", [{}, {"offset_bytes": 7, "length_bytes": 7}],
     [f"{MAP}.mapped[1].offset_bytes", f"{MAP}.mapped[1].length_bytes"]),
    (f"{HEAP}.mapped", [{}, {"offset_bytes": MIB}], [f"{HEAP}.mapped[1].offset_bytes"]),
    (f"{COPY}.file.offset_bytes", PAGE),
    (f"{COPY}.length_bytes", 2 * PAGE),
    # steps on files
    (f"{TRUNCATE}.file", None),
    (f"{TRUNCATE}.file", "smh"),
    (f"{TRUNCATE}.file", "vdso"),
    (f"{TRUNCATE}.size_bytes", MIB + 1),
    *((f"{step}.file", wrong) for step in RANGES for wrong in (None, "smh")),
    *((f"{step}.offset_bytes", wrong) for step in RANGES for wrong in (5, MIB, 2**63)),
    *((f"{step}.length_bytes", wrong) for step in RANGES for wrong in (5, MIB, 2**63)),
    *((f"{STEP}[16]", {name: {"file": "vdso"}}, [f"{STEP}[16].{name}.file"])
      for name in ("punch_hole", "sync_file_range", "fadvise_dontneed")),
    # signals
    (f"{KILL}.signal", 99, [f"{KILL}.signal", f"{KILL}.group"]),  # unless it is FATAL
    (f"{KILL}.process", "ap"),
    (f"{KILL}.group", "readers"),
    (KILL, {"signal": "SIGNAL_KIND_HANDLED"}, [f"{KILL}.group"]),
    (KILL, {"signal": "SIGNAL_KIND_HANDLED", "group": "raeders"}, [f"{KILL}.group"]),
    (KILL, {"group": "readers"}, [f"{KILL}.signal"]),
    (KILL, {"signal": "SIGNAL_KIND_HANDLED", "process": "ap", "group": "readers"},
     [f"{KILL}.process"]),
    # advice, and children
    (f"{MADVISE}.vma", "hoop"),
    (f"{MADVISE}.advice", None),
    (f"{MADVISE}.advice", 99),
    (f"{MADVISE}.offset_bytes", MIB + PAGE,
     [f"{MADVISE}.offset_bytes", f"{MADVISE}.thread_offset_bytes"]),
    (f"{MADVISE}.length_bytes", 5),
    (f"{MADVISE}.thread_offset_bytes", MIB),
    (f"{FORK}.child", None),
    (f"{FORK}.child", {}, [f"{FORK}.child.shape"]),
    (f"{FORK}.child.fixed_ns", 10**12 + 1),
    # stacks, and pages that are with a device
    (f"{STACK}.grows_down_bytes", None, [f"{STACK}.room", f"{PROTECT}.vma"]),
    (f"{STACK}.grows_down_bytes", 5, [f"{STACK}.grows_down_bytes", f"{PROTECT}.offset_bytes"]),
    (f"{STACK}.grows_down_bytes", 16 * MIB - PAGE),  # down to other VMAs
    (f"{STACK}.room", None, [f"{STACK}.room", f"{PROTECT}.vma"]),
    (f"{STACK}.room", "heap", [f"{STACK}.room", f"{PROTECT}.vma"]),
    *((f"{STACK}.{name}[0].length_bytes", wrong)
      for name in ("device_private", "device_exclusive") for wrong in (5, 2 * MIB)),
    (f"{STACK}.numa_hinted[0].offset_bytes", MIB),
    *((f"{MAP}.{name}", [{}]) for name in ("device_private", "device_exclusive")),
    (f"{MAP}.grows_down_bytes", PAGE, [f"{MAP}.grows_down_bytes", f"{MAP}.room"]),
    (f"{MAP}.userfaultfd", {"missing": True}),
    # userfaultfds, and pages that are moved
    (f"{REGISTER}.modes", None),
    (f"{REGISTER}.modes", {}),
    *((f"{step}.vma", wrong) for step in (REGISTER, PROTECT) for wrong in ("stock", "map")),
    *((f"{step}.offset_bytes", wrong) for step in (REGISTER, PROTECT, MIGRATE)
      for wrong in (5, MIB)),
    (f"{COPIES}.vma", "map"),
    (f"{MIGRATE}.vma", "copy", [f"{MIGRATE}.vma", f"{MIGRATE}.offset_bytes"]),
    # huge pages
    ("machine.huge_pages", None, WANT_HUGE_PAGES),
    ("machine.huge_pages.page_bytes", 3 * MIB),
    ("machine.huge_pages.count", 1),
    (f"{HUGE_FILE}.name", None, [f"{HUGE_FILE}.name", f"{HUGE_MAP}.hugetlb.file"]),
    (f"{HUGE_FILE}.device", "disk"),
    (f"{HUGE_FILE}.size_bytes", 7 * MIB),
    (f"{HUGE_MAP}.hugetlb.file", "data"),
    (f"{HUGE_MAP}.hugetlb.file", None, [f"{HUGE_MAP}.hugetlb.offset_bytes"]),
    (f"{HUGE_MAP}.hugetlb.offset_bytes", 3 * HUGE, [f"{HUGE_MAP}.length_bytes"]),
    (f"{HUGE_MAP}.length_bytes", MIB),
    (f"{STEP}[37].mmap.hugetlb", {"map_private": True}, [f"{STEP}[37].mmap.hugetlb.map_private"]),
    # accesses by the kernel
    (f"{KERNEL_TOUCH}.access", "ACCESS_EXEC"),
    (f"{KERNEL_TOUCH}.access", 99),
    # loops of steps that fail, which take no time
    (f"{STEP}[13].loop", {"steps": [{"ftruncate": {"file": "nome"}}]},
     [f"{STEP}[13].loop.steps[0].ftruncate.file"]),
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
        "kernel.dirty_bytes": UINT64_MAX,
        f"{DISK}.error_ppm": UINT32_MAX,
        f"{DISK}.write_latency.exponential_mean_ns": 0,
        f"{SHM}.device": "disk",
        f"{VDSO}.bad": [{}],
        f"{KERNEL_TOUCH}.access": "ACCESS_EXEC",
        f"{TRUNCATE}.size_bytes": UINT64_MAX,
        **{f"{step}.offset_bytes": 7 for step in RANGES},
        f"{KILL}.group": "readers",
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
            yield (f"{where}[0]" if field.is_repeated else where), field.type


NUMBERS = list(numbers(scenario_pb2.Scenario.DESCRIPTOR, a_plain_scenario()))
# In SPOILT: the other kind of retry policy, and the other kinds of scheduling policies.
ELSEWHERE = {"RetryRule.vma_retries_max", "Scheduling.rt_priority"}
ANYTHING_GOES = {  # each value of these makes sense, or is not looked at
    "seed": "any value is a seed",
    "recording.slower_than_ns": "this kind of recording does not ask for it",
    f"{FILE}.initial[0].every_pages": "only the first page is cached then",
}
TOLD_ELSEWHERE = {  # by the workload, whose files and VMAs share the pages
    f"{file}.size_bytes": "workload" for file in (FILE, SHM, VDSO, HUGE_FILE)
}


def field_of(path: str) -> str:
    """The message and the field that a path ends in: `Touch.count`."""
    descriptor: Any = scenario_pb2.Scenario.DESCRIPTOR
    *above, last = re.sub(r"\[\d+\]", "", path).split(".")
    for name in above:
        field = descriptor.fields_by_name[name]
        if field.message_type.GetOptions().map_entry:
            return f"{descriptor.name}.{name}"
        descriptor = field.message_type
    return f"{descriptor.name}.{last}"


def all_numbers(descriptor: Descriptor, seen: set[str]) -> Iterator[str]:
    """Every field for a number in a message and in those below it, each once."""
    for field in descriptor.fields:
        is_map = field.message_type and field.message_type.GetOptions().map_entry
        if field.type in (FieldDescriptor.TYPE_UINT32, FieldDescriptor.TYPE_UINT64) or is_map:
            yield f"{descriptor.name}.{field.name}"
        elif field.message_type and field.message_type.name not in seen:
            seen.add(field.message_type.name)
            yield from all_numbers(field.message_type, seen)


def test_the_scenario_that_is_spoilt_has_every_number_that_there_is() -> None:
    there_are = set(all_numbers(scenario_pb2.Scenario.DESCRIPTOR, {"Scenario"}))

    assert {field_of(path) for path, _ in NUMBERS} == there_are - ELSEWHERE


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
