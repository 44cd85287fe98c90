"""How often faults were tried again, as text."""

from faultlane import v1 as pb
from faultlane.report.format import duration_text, number_text, table

MORE_THAN = (0, 1, 2, 4, 8, 16, 32)  # retries

# What a retry means, by the name of its reason.
MEANINGS = {
    "F7": "the page was waited for without the lock, and is there",
    "F8": "the page was read without the lock",
    "KILLED": "a signal ended the wait for the page",
    "NO_MAP_PAGES": "the mapping cannot be handled under the VMA lock",
    "ANON_VMA": "an anon_vma is needed, which takes mmap_lock",
    "UNSUPPORTED": "this fault cannot be handled under the VMA lock",
    "S4": "a page that is swapped in was waited for without the lock",
    "OOM": "there was no memory",
    "USERFAULTFD": "a userfaultfd was told of the fault",
    "FALLOC": "a hole was being punched",
    "DEVICE_EXCLUSIVE": "a page that a device has for itself was waited for",
    "DEVICE_PRIVATE": "the page is in the memory of a device, which takes mmap_lock",
}


def retry_shares(retries: pb.Retries) -> list[str]:
    """For each kind of fault P(retries > k), as far as there is anything to tell."""
    most = max((len(row.counts) for row in retries.kinds), default=0)
    if most < 2:
        return []
    shown = [k for k in MORE_THAN if k + 1 < most]
    head = ["", "faults", *(f"P(> {k})" for k in shown)]
    rows = [[row.kind, number_text(sum(row.counts)), *_shares(row, shown)] for row in retries.kinds]
    return table([head, *rows])


def longest_fault(retries: pb.Retries) -> list[str]:
    """How the attempts of the fault ended that made most of them."""
    if not retries.HasField("longest"):
        return []
    fault = retries.longest
    took = duration_text(fault.duration_ns)
    lines = [
        f"{fault.kind}, touch {fault.touch} of thread {fault.thread} [{fault.group}]:"
        f" {number_text(fault.attempts)} attempts, {number_text(fault.vma_retries)} retries under"
        f" the VMA lock, {took}{'' if fault.finished else ' and not ended'}"
    ]
    numbers = list(range(1, len(fault.rows) + 1))
    if fault.finished and numbers:
        numbers[-1] = fault.attempts
    for number, row in zip(numbers, fault.rows, strict=True):
        if number > len(fault.rows):
            lines.append("  ...")
        lines.append(f"  {_attempt_text(number, row)}")
    return lines


def _attempt_text(number: int, row: pb.AttemptRow) -> str:
    """One attempt: its lock, what it waited for, and why it was not the last one."""
    lock = {"vma": "VMA lock", "mmap": "mmap_lock"}[row.lock]
    tried = ", TRIED" if row.tried else ""
    waits = ", ".join(f"{part.cause} {duration_text(part.wait_ns)}" for part in row.waits)
    ended = f"retry at {row.reason}: {MEANINGS[row.reason]}" if row.reason else "ended"
    waited = f"; waited for {waits}" if waits else ""
    return f"{number}. under {lock}{tried}, {ended} after {duration_text(row.end_ns)}{waited}"


def _shares(row: pb.RetryRow, shown: list[int]) -> list[str]:
    whole = sum(row.counts)
    return [f"{sum(row.counts[k + 1 :]) / whole:.4%}" for k in shown]
