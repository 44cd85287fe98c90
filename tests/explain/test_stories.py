"""An explanation tells what a fault did, in the kernel's words, and who was in its way."""

from dataclasses import replace

import pytest

from faultlane_server.codes import Activity, DeviceKind, FaultLock, RecordingKind, StopReason
from faultlane_server.engine.world import Cause
from faultlane_server.explain import explain
from faultlane_server.explain.kernel_bits import FaultFlag
from faultlane_server.explain.timeline import STEPS_MAX
from faultlane_server.explanation import Cancelled, NotReproduced
from faultlane_server.scenario import (
    Compute,
    FadviseDontneed,
    Fixed,
    Mprotect,
    Recording,
    Scenario,
)
from tests.engine.small_stories import (
    CACHED,
    DIRTY,
    MS,
    PAGE,
    US,
    Memory,
    Played,
    a_story,
    after,
    heap,
    one,
    page_range,
    touch,
    write,
)
from tests.explain.told import Told, assert_adds_up

pytestmark = pytest.mark.uncompiled_too

MAJOR, RETRY, RETRY_VMA = 0x4, 0x400, 0x800
DEFAULT = FaultFlag.ALLOW_RETRY | FaultFlag.KILLABLE | FaultFlag.INTERRUPTIBLE
USER, VMA_LOCK, TRIED = FaultFlag.USER, FaultFlag.VMA_LOCK, FaultFlag.TRIED


def protect(first: int = 0, count: int = 1) -> Mprotect:
    return Mprotect("data", first * PAGE, count * PAGE)


def a_miss(policy: str, **more: object) -> Scenario:
    return a_story(one("reader", touch(1)), policy=policy, **more)  # type: ignore[arg-type]


def a_writer_behind_a_reader(policy: str = "hold") -> Scenario:
    """Let a writer wait for a fault that keeps its VMA lock, and another fault for the writer."""
    return a_story(
        one("reader", touch(1)),
        one("protector", after(200 * US), protect(8)),
        one("late", after(400 * US), touch(40)),
        policy=policy,
    )


STORIES = {
    "a miss": (a_miss("mainline"), "reader"),
    "a miss under the RFC": (a_miss("rfc"), "reader"),
    "a miss with the lock held": (a_miss("hold"), "reader"),
    "a lock taken again": (a_miss("relock"), "reader"),
    "mmap_lock alone": (a_miss("mmap_lock_only"), "reader"),
    "behind a writer": (a_writer_behind_a_reader(), "late"),
    "of a kernel without the lock": (a_miss("mainline", generation="6.3"), "reader"),
    "from kernel mode": (a_story(one("reader", touch(1, kernel_mode=True))), "reader"),
    "a first write": (a_story(one("writer", write(1)), private=True), "writer"),
    "a shared write": (a_story(one("writer", write(1)), data=CACHED), "writer"),
    "a bad page": (a_story(one("reader", touch(1)), bad=(page_range(1),)), "reader"),
    "anonymous memory": (a_story(one("writer", write(1, vma="heap")), vmas=(heap(),)), "writer"),
    "swap on a disk": (
        a_story(
            one("reader", touch(1, vma="heap")),
            vmas=(heap(8, (page_range(0, 8),)),),
            memory=Memory(swap=DeviceKind.BLOCK),
        ),
        "reader",
    ),
    "swap in memory": (
        a_story(
            one("reader", touch(1, vma="heap")),
            vmas=(heap(8, (page_range(0, 8),)),),
            memory=Memory(swap=DeviceKind.SYNCHRONOUS),
        ),
        "reader",
    ),
}


@pytest.mark.parametrize("name", STORIES)
def test_steps_follow_each_other_and_add_up_to_the_fault(name: str) -> None:
    told = Told(*STORIES[name])

    assert_adds_up(told.explanation, told.fault)
    assert {step.attempt for step in told.steps} >= set(range(1, told.fault["attempts"] + 1))
    assert all(step.function and "{" not in step.function + step.text for step in told.steps)


def test_a_retry_of_mainline_goes_to_mmap_lock() -> None:
    told = Told(a_miss("mainline"), "reader")

    assert told.functions == [
        "lock_vma_under_rcu",
        "filemap_get_folio",
        "do_sync_mmap_readahead",
        "do_sync_mmap_readahead",
        "__folio_lock_killable",
        "schedule",
        "lock_mm_and_find_vma",
        "filemap_map_pages",
        "do_user_addr_fault",
    ]
    locks = [0, FaultLock.VMA, 0, 0, 0, 0, 0, FaultLock.MMAP, 0]
    assert [step.lock for step in told.steps] == locks
    assert told.flags == [DEFAULT | USER | VMA_LOCK, DEFAULT | USER | TRIED]
    assert told.results == [RETRY | MAJOR, 0x100]
    assert told.notes() == [
        "vma_start_read: locks VMA 0 (data) for read",
        "attempt 1: handle_mm_fault, FAULT_FLAG_DEFAULT|USER|VMA_LOCK",
        "the page is not there: PGMAJFAULT, VM_FAULT_MAJOR",
        "vma_end_read: drops the lock",
        "submits a read of pages 0 to 31 of data to disk",
        "returns VM_FAULT_MAJOR|VM_FAULT_RETRY: fpin is set: with the lock dropped it cannot map"
        " the page",
        "count_vm_vma_lock_event(VMA_LOCK_RETRY)",
        "flags |= FAULT_FLAG_TRIED",
        "mmap_read_lock: at once",
        "attempt 2: handle_mm_fault, FAULT_FLAG_DEFAULT|TRIED|USER",
        "returns VM_FAULT_NOPAGE",
        "mmap_read_unlock: releases the lock",
    ]


def test_a_retry_of_the_rfc_goes_back_to_the_vma_lock() -> None:
    told = Told(a_miss("rfc"), "reader")

    assert told.results[0] == RETRY | MAJOR | RETRY_VMA
    assert told.flags == [DEFAULT | USER | VMA_LOCK, DEFAULT | USER | VMA_LOCK | TRIED]
    assert "lock_mm_and_find_vma" not in told.functions
    assert told.notes().count("vma_start_read: locks VMA 0 (data) for read") == 2


def test_a_fault_that_holds_its_lock_waits_for_the_disk_with_it() -> None:
    told = Told(a_miss("hold"), "reader")

    wait = told.step_of(Cause.DEVICE)
    assert (wait.activity, wait.lock, wait.duration_ns) == (Activity.SLEEPING, FaultLock.VMA, MS)
    assert wait.holds == (
        "the VMA lock of VMA 0 (data) for read",
        "invalidate_lock of data, shared",
    )
    assert told.texts(Cause.DEVICE) == ["disk: in service, reads pages 0 to 31 of data"]


def test_a_request_that_has_to_queue_is_told_so() -> None:
    disk = replace(a_miss("hold").machine.devices[0], channels=1)
    story = a_story(one("first", touch(1)), one("second", after(50 * US), touch(60)), disk=disk)

    told = Told(story, "second")

    texts = [each.chain[0].text for each in told.step_of(Cause.DEVICE).blocking]
    assert texts == [
        "disk: queued, its 1 channels are busy; then reads pages 44 to 63 of data",
        "disk: in service, reads pages 44 to 63 of data",
    ]


def test_a_chain_goes_through_several_locks_down_to_the_disk() -> None:
    told = Told(a_writer_behind_a_reader(), "late")

    first, *_ = told.chains(Cause.MMAP_LOCK)
    assert first == ["protector", "reader", "-"]
    page = told.fault["address"] - 39 * PAGE
    assert told.texts(Cause.MMAP_LOCK) == [
        "thread 1 (protector) holds mmap_lock for write: mprotect sleeps in vma_start_write for the"
        " readers of VMA 0 (data)",
        f"thread 0 (reader) holds VMA 0 (data) for read: a page fault at {page:#x} sleeps for the"
        " read of page 1 of data",
        "disk: in service, reads pages 0 to 31 of data",
    ]
    assert told.chains(Cause.MMAP_LOCK)[1:] == [["protector", "reader"], ["protector"]]
    step = told.step_of(Cause.MMAP_LOCK)
    assert sum(each.duration_ns for each in step.blocking) == step.duration_ns


def test_who_has_write_locked_the_vma_is_told() -> None:
    assert (
        "VMA_LOCK_ABORT: thread 1 (protector) waits to write-lock VMA 0 (data)"
        in Told(a_writer_behind_a_reader(), "late").notes()
    )

    slow = {"mprotect": MS}
    story = a_story(
        one("protector", protect(8)), one("late", after(100 * US), touch(40)), costs_ns=slow
    )
    assert (
        "VMA_LOCK_ABORT: VMA 0 (data) is write-locked by thread 0 (protector)"
        in Told(story, "late").notes()
    )


def test_who_holds_the_folio_is_told() -> None:
    story = a_story(
        one("first", touch(1)),
        one("second", after(5 * US), touch(1)),
        data=CACHED,
        fault_around=False,
        costs_ns={"map_page": MS},
    )

    told = Told(story, "second")

    assert told.chains(Cause.FOLIO) == [["first"]]
    text = told.texts(Cause.FOLIO)[0]
    assert text.startswith("thread 0 (first) holds the lock of page 1 of data: a page fault at ")
    assert text.endswith(" runs on CPU 0")


def test_a_runnable_thread_waits_for_who_has_its_cpu() -> None:
    scenario = a_story(
        one("reader", touch(1)), one("other", after(10 * US), Compute(Fixed(5 * MS)))
    )
    told = Told(replace(scenario, machine=replace(scenario.machine, cpus=1)), "reader")

    waits = [step for step in told.steps if step.activity is Activity.RUNNABLE]
    assert [link.text for link in waits[0].blocking[0].chain] == [
        "thread 1 (other) is on CPU 0, in its program"
    ]
    assert sum(step.duration_ns for step in waits) == told.fault["wait_run_queue_ns"] > 2 * MS


@pytest.mark.parametrize(
    ("policy", "completed"), [("mainline", 0x4000), ("relock", 0x4000), ("rfc", 0x8000)]
)
def test_vm_fault_completed_has_the_value_of_the_policys_kernel(
    policy: str, completed: int
) -> None:
    told = Told(a_story(one("writer", write(1)), data=CACHED, policy=policy), "writer")

    assert told.results[-1] & 0xF000 == completed
    assert told.notes()[-1] == "count_vm_vma_lock_event(VMA_LOCK_SUCCESS)"
    assert any("VM_FAULT_COMPLETED" in note for note in told.notes())


@pytest.mark.parametrize(
    ("policy", "bit", "name"),
    [
        ("blind", 0, "VM_FAULT_RETRY:"),
        ("retry_hard", RETRY_VMA, "VM_FAULT_RETRY|VM_FAULT_RETRY_HARD:"),
        ("rfc", 0, "VM_FAULT_RETRY:"),
    ],
)
def test_a_retry_that_the_vma_lock_is_not_enough_for_has_the_bit_of_its_kernel(
    policy: str, bit: int, name: str
) -> None:
    """The first write to anonymous memory, while somebody holds mmap_lock."""
    story = a_story(
        one("protector", protect(8)),
        one("writer", after(20 * US), write(1, vma="heap")),
        vmas=(*a_miss(policy).workload.processes[0].vmas, heap()),
        policy=policy,
        costs_ns={"mprotect": 300 * US},
    )
    told = Told(story, "writer")

    assert told.results[0] == RETRY | bit
    assert next(note for note in told.notes() if "RETRY" in note).startswith(f"returns {name}")


def test_a_fault_that_is_cut_by_the_end_of_the_run_is_explained_up_to_there() -> None:
    told = Told(a_miss("mainline", horizon_ns=500 * US), "reader")

    assert told.fault["finished"] == 0
    assert_adds_up(told.explanation, told.fault)
    assert told.steps[-1].spent_ns.keys() == {"device"}


def a_circle() -> Scenario:
    """Let three threads of a process wait for each other."""
    return a_story(
        one("dirtier", write(1)),
        one("waiter", after(150 * US), write(1)),
        one("protector", after(200 * US), protect(0, 64)),
        elsewhere=[one("mapper", after(100 * US), touch(1))],
        data=CACHED,
        fault_around=False,
        policy="relock_blocking",
        costs_ns={"page_mkwrite": MS, "map_page": 300 * US},
    )


def test_a_deadlock_is_a_circle() -> None:
    told = Told(a_circle(), "dirtier")

    assert told.played.stop is StopReason.DEADLOCK
    last = told.steps[-1].blocking[-1]
    threads = [told.names.get(link.thread) for link in last.chain]
    assert threads == ["waiter", "protector", "dirtier", None]
    assert last.chain[-1].text == "that closes the circle: a deadlock"
    assert_adds_up(told.explanation, told.fault)


def test_of_very_many_steps_the_first_and_the_last_are_told_and_all_add_up() -> None:
    """Under the RFC a page under writeback with PG_reclaim is retried until it is written."""
    story = a_story(
        one("cleaner", FadviseDontneed("data")),
        one("reader", after(20 * US), touch(1)),
        data=DIRTY,
        policy="rfc",
    )
    told = Told(story, "reader")

    assert told.fault["attempts"] > STEPS_MAX
    assert len(told.steps) == STEPS_MAX + 1
    (others,) = (step for step in told.steps if step.steps_omitted)
    assert others.activity is None
    assert others.steps_omitted > 100
    assert_adds_up(told.explanation, told.fault)


def test_what_the_log_keeps_changes_nothing() -> None:
    scenario = a_writer_behind_a_reader()
    told = Told(scenario, "late")
    rarely = replace(scenario, recording=Recording(RecordingKind.SAMPLED, sample_every=2))

    assert explain(rarely, told.fault) == told.explanation


def test_of_many_faults_the_right_one_is_explained() -> None:
    scenario = a_story(one("reader", touch(*range(0, 64, 3))), fault_around=False)
    for fault in Played(scenario).faults:
        explanation = explain(scenario, fault)

        assert_adds_up(explanation, fault)
        assert f"{fault['address']:#x}" in explanation.subject


@pytest.mark.parametrize("column", ["start_ns", "duration_ns", "touch", "cpu_ns"])
def test_another_fault_than_that_of_the_run_is_not_explained(column: str) -> None:
    scenario = a_miss("mainline")
    fault = Told(scenario, "reader").fault

    with pytest.raises(NotReproduced):
        explain(scenario, fault | {column: fault[column] + 1})


@pytest.mark.parametrize("asked", [0, 1])
def test_whoever_wants_no_explanation_any_more_gets_none(asked: int) -> None:
    """Neither before the fault nor in it."""
    scenario = a_story(one("reader", touch(1)), one("busy", *[Compute(Fixed(US))] * 600))
    fault = Told(scenario, "reader").fault
    answers = iter([False] * asked + [True])

    with pytest.raises(Cancelled):
        explain(scenario, fault, lambda: next(answers))
