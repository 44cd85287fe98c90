"""There are words for everything that a fault does, and bits for every policy's kernel."""

import pytest

from faultlane_server.arch import ARCHITECTURES
from faultlane_server.codes import RetryReason
from faultlane_server.engine.world import Cause, Step
from faultlane_server.explain.chain import WAITS_FOR
from faultlane_server.explain.kernel_bits import KernelBits, flag_names
from faultlane_server.explain.notes import WHY_RETRY
from faultlane_server.explain.timeline import bounded
from faultlane_server.explain.words import RUNNING, WAITING
from faultlane_server.explanation import Blocking, Link
from tests.engine.small_stories import a_story, one, touch

pytestmark = pytest.mark.uncompiled_too

# What a thread does in its program, in an operation, or as kswapd, and never in a fault.
OF_NO_FAULT = {
    Step.NOTHING,
    Step.RESUME,  # it goes on with the step before
    Step.PROGRAM,
    Step.ZAP,
    Step.OPERATION_END,
    Step.FILE_OPERATION,
    Step.INVALIDATE_WOKEN,
    Step.TRUNCATE,
    Step.WRITE_BACK,
    Step.WRITE_BACK_WOKEN,
    Step.WRITTEN,
    Step.READ_LOCK,
    Step.READ_HELD,
    Step.READ_DONE,
    Step.POPULATE_HELD,
    Step.POPULATED,
    Step.ADVICE_READ,
    Step.ADVICE_READ_LOCKED,
    Step.ADVICE_RELOCK,
    Step.ADVICE_RELOCKED,
    Step.PROC_LOCK,
    Step.PROC_HELD,
    Step.PROC_DONE,
    Step.NUMA_SCAN,
    Step.NUMA_SCANNED,
    Step.COLLAPSE_SCAN,
    Step.COLLAPSE_SCAN_HELD,
    Step.COLLAPSE_SCANNED,
    Step.COLLAPSE_RELOCK,
    Step.COLLAPSE_RELOCKED,
    Step.COLLAPSE_CHECKED,
    Step.EXEC_LOCK,
    Step.EXEC_HELD,
    Step.EXEC_DONE,
    Step.EXIT_LOCK,
    Step.EXIT_HELD,
    Step.EXIT_UNMAPPED,
    Step.KSWAPD,
    Step.UFFD_CHARGE,
    Step.UFFD_READ,
    Step.UFFD_READ_ENDED,
    Step.UFFD_LOCK,
    Step.UFFD_LOCKED,
    Step.UFFD_RESOLVE,
    Step.UFFD_CLOSE,
    Step.MIGRATE,
    Step.MIGRATE_NEXT,
    Step.MIGRATE_WOKEN,
    Step.MIGRATE_STABLE,
    Step.MIGRATE_COPIED,
}
NO_WAITS = {Cause.CPU, Cause.RUN_QUEUE, Cause.LOCK_WORD}


def test_there_are_words_for_every_step_of_a_fault() -> None:
    assert set(RUNNING) == set(Step) - OF_NO_FAULT


def test_there_are_words_for_every_wait() -> None:
    assert set(WAITS_FOR) == set(Cause) - NO_WAITS
    assert set(WAITING) == set(Cause) - NO_WAITS - {Cause.PROGRAM}


def test_there_are_words_for_every_retry() -> None:
    assert set(WHY_RETRY) == set(RetryReason)


def test_every_architecture_has_a_handler() -> None:
    assert {arch: profile.handler for arch, profile in ARCHITECTURES.items()} == {
        "arm": "do_page_fault",
        "arm64": "do_page_fault",
        "loongarch": "__do_page_fault",
        "powerpc": "___do_page_fault",
        "riscv": "handle_page_fault",
        "s390": "do_exception",
        "x86": "do_user_addr_fault",
    }


@pytest.mark.parametrize(
    ("policy", "name"),
    [
        ("mainline", "VM_FAULT_RETRY"),
        ("hold", "VM_FAULT_RETRY"),
        ("blind_once", "VM_FAULT_RETRY"),
        ("rfc", "VM_FAULT_RETRY|VM_FAULT_RETRY_VMA"),
        ("split_by_kind", "VM_FAULT_RETRY|VM_FAULT_RETRY_VMA"),
        ("retry_hard", "VM_FAULT_RETRY|VM_FAULT_RETRY_HARD"),
    ],
)
def test_the_bit_that_tells_retries_apart_has_the_name_of_its_kernel(
    policy: str, name: str
) -> None:
    bits = KernelBits(a_story(one("reader", touch(1)), policy=policy))
    new_bit = 0x800 if "|" in name else 0

    assert bits.result_names(0x400 | new_bit) == name
    assert bits.result_names(0) == "0"


def test_flags_have_the_names_of_the_source() -> None:
    assert flag_names(0x1274) == "FAULT_FLAG_DEFAULT|TRIED|USER|VMA_LOCK"


def test_of_many_chains_the_first_the_last_and_the_longest_are_kept_and_the_time_of_all() -> None:
    chains = [
        Blocking(start_ns, 100 if start_ns == 7 else 1, (Link(start_ns, ""),))
        for start_ns in range(12)
    ]

    kept = bounded(chains, 3)

    assert [each.start_ns for each in kept] == [0, 7, 11]
    assert [each.duration_ns for each in kept] == [7, 103, 1]
    assert [each.changes_omitted for each in kept] == [6, 3, 0]
