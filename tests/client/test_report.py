"""Reports are pure functions of what came over the wire, and these are their lines."""

import pytest

from faultlane import FaultEvents, OperationEvents
from faultlane import v1 as pb
from faultlane.figures import figures
from faultlane.report.blame import chains, edges, victims
from faultlane.report.format import (
    duration_text,
    figure_text,
    number_text,
    rate_text,
    ratio_text,
    table,
    text_table,
)
from faultlane.report.histogram import histogram, percentiles
from faultlane.report.locks import instance_table, lock_table
from faultlane.report.retries import MEANINGS, longest_fault, retry_shares
from faultlane.report.run import diagnosis, joined, run_report, titled, totals, waits
from faultlane.report.streamed import Streamed
from tests.client.fake import a_simulation, some_faults, some_operations

DURATIONS = [
    (0, "0 ns"),
    (999, "999 ns"),
    (1000, "1.00 us"),
    (-1500, "-1.50 us"),
    (12_345, "12.3 us"),
    (4_100_000, "4.10 ms"),
    (123_456_789, "123 ms"),
    (2_000_000_000, "2.00 s"),
    (1234.4e9, "1234 s"),
]


@pytest.mark.parametrize(("ns", "text"), DURATIONS)
def test_a_length_of_time_has_three_digits(ns: float, text: str) -> None:
    assert duration_text(ns) == text


FIGURES = [
    ("operation.mmap.p99_ns", 1500, "1.50 us"),
    ("faults.per_second", 12_345.6, "12.3 k/s"),
    ("faults.count", 1_234_567, "1,234,567"),
    ("mmap_lock.read.per_touch", 0.12345, "0.1235"),
]


@pytest.mark.parametrize(("name", "value", "text"), FIGURES)
def test_the_end_of_a_name_tells_the_unit(name: str, value: float, text: str) -> None:
    assert figure_text(name, value) == text


def test_rates_and_numbers_have_their_forms() -> None:
    assert [rate_text(2), rate_text(2e6), rate_text(3.5e9)] == ["2.00 /s", "2.00 M/s", "3.50 G/s"]
    assert [number_text(0), number_text(1.0), number_text(1234.5)] == ["0", "1", "1,234"]


@pytest.mark.parametrize(
    ("ratio", "text"),
    [(0, "x0.00"), (0.00412, "x0.0041"), (0.5, "x0.50"), (1, "x1.00"), (72469.7, "x72,470")],
)
def test_a_ratio_tells_something_however_small(ratio: float, text: str) -> None:
    assert ratio_text(ratio) == text


def test_tables_line_up() -> None:
    assert table([["", "a"], ["long", "10"]]) == ["       a", "long  10"]
    assert text_table([["x", "a", "b"], ["long", "10", ""]]) == ["x     a   b", "long  10"]


def test_a_histogram_has_a_line_for_each_power_of_two() -> None:
    latency = pb.Latency(log2_counts=[0] * 10 + [5, 0, 1000])

    assert histogram(latency) == [
        "1.02 us ..     5 |#",
        "2.05 us ..     0 |",
        "4.10 us .. 1,000 |########################################",
    ]


def test_a_histogram_of_nothing_has_no_lines() -> None:
    assert histogram(pb.Latency()) == []


def test_percentiles_leave_out_what_never_happened() -> None:
    mmap = pb.Latency(
        name="operation.mmap",
        count=1200,
        censored=1,
        mean_ns=1500,
        min_ns=100,
        max_ns=10**9,
        p50_ns=1000,
        p90_ns=2000,
        p99_ns=3000,
        p999_ns=4_000_000,
    )

    assert percentiles([mmap, pb.Latency(name="operation.munmap")]) == [
        "                count  censored      p50      p90      p99    p99.9     max     mean",
        "operation.mmap  1,200         1  1.00 us  2.00 us  3.00 us  4.00 ms  1.00 s  1.50 us",
    ]


def test_locks_are_shown_as_perf_shows_them() -> None:
    rows = [
        pb.LockRow(lock="vma_lock", mode="read", acquired=5000, contended=7),
        pb.LockRow(
            lock="mmap_lock",
            mode="write",
            acquired=20,
            contended=10,
            wait_total_ns=22_240,
            wait_max_ns=17_880,
            hold_total_ns=9_000,
            hold_max_ns=2_000,
        ),
    ]

    assert lock_table(rows) == [
        " contended   total wait     max wait     avg wait      type   lock"
        "              acquired   total hold     max hold     avg hold",
        "        10      22.2 us      17.9 us      2.22 us   rwsem:W   mmap_lock"
        "               20      9.00 us      2.00 us       450 ns",
        "         7         0 ns         0 ns         0 ns     vma:R   vma_lock"
        "             5,000         0 ns         0 ns         0 ns",
    ]


def test_locks_are_shown_one_by_one() -> None:
    rows = [
        pb.LockInstanceRow(
            lock="vma_lock",
            mode="write",
            instance="7 heap",
            contended=2,
            wait_total_ns=3_000,
            wait_max_ns=2_500,
        )
    ]

    assert instance_table(rows) == [
        "contended  total wait  max wait  avg wait  type   lock",
        "2          3.00 us     2.50 us   1.50 us   vma:W  vma_lock of 7 heap",
    ]
    assert instance_table([]) == []


READER = pb.Who(activity="fault_mmap", group="readers")
MAPPER = pb.Who(activity="mprotect", group="mapper")
DISK = pb.Who(activity="device")
BLAME = pb.Blame(
    edges=[
        pb.BlameEdge(
            waiter=READER,
            lock="mmap_lock",
            mode="read",
            holder=MAPPER,
            waits=3,
            wait_total_ns=3_000_000,
            wait_max_ns=2_000_000,
        )
    ],
    edges_left_out=pb.LeftOut(rows=2, waits=5, wait_total_ns=100),
    chains=[
        pb.BlameChain(
            waiter=READER,
            links=[
                pb.BlameLink(lock="mmap_lock", mode="read", holder=MAPPER),
                pb.BlameLink(lock="folio.file", holder=DISK),
            ],
            end="device",
            waits=3,
            wait_total_ns=3_000_000,
            wait_max_ns=2_000_000,
            bystander_waits=1,
            bystander_total_ns=1_000_000,
        )
    ],
    victims=[
        pb.Victim(
            waiter=READER,
            waits=3,
            wait_total_ns=3_000_000,
            wait_max_ns=2_000_000,
            d_state_total_ns=2_500_000,
            d_state_max_ns=2_000_000,
            inversion_total_ns=500,
            inversion_max_ns=400,
        )
    ],
    waits_not_followed=4,
)


def test_it_is_told_who_waited_for_whom() -> None:
    assert edges(BLAME) == [
        "total wait  max wait  waits  who waited            for               because of",
        "3.00 ms     2.00 ms   3      fault_mmap [readers]  mmap_lock (read)  mprotect [mapper]",
        "and 2 more",
        "4 waits could not be followed",
    ]


def test_a_chain_is_told_down_to_its_end() -> None:
    head, line = chains(BLAME)

    assert line == (
        "3.00 ms     2.00 ms   3      1.00 ms     fault_mmap [readers]"
        " -> mmap_lock (read) of mprotect [mapper] -> folio.file of device -> device"
    )
    assert head.split("  ")[-1] == "who waited, and what was in the way"


def test_state_d_and_inversion_are_told_of_each_victim() -> None:
    _, line = victims(BLAME)

    assert line.split("  ")[0] == "fault_mmap [readers]"
    assert [cell.strip() for cell in line.split("  ")[1:] if cell.strip()] == [
        *("3", "3.00 ms", "2.00 ms", "2.50 ms", "2.00 ms", "500 ns", "400 ns"),
    ]


def test_nobody_is_blamed_for_nothing() -> None:
    assert edges(pb.Blame()) == chains(pb.Blame()) == victims(pb.Blame()) == []


RETRIES = pb.Retries(
    kinds=[
        pb.RetryRow(kind="file_read", counts=[90, 9, 0, 1]),
        pb.RetryRow(kind="anon", counts=[50]),
    ],
    longest=pb.LongestFault(
        thread=4,
        group="readers",
        touch=17,
        kind="file_read",
        duration_ns=9_000,
        finished=True,
        attempts=4,
        vma_retries=2,
        rows=[
            pb.AttemptRow(
                lock="vma",
                reason="F7",
                end_ns=5_000,
                waits=[pb.WaitPart(cause="device", wait_ns=4_000)],
            ),
            pb.AttemptRow(lock="mmap", end_ns=9_000),
        ],
    ),
)


def test_it_is_told_how_likely_many_retries_were() -> None:
    assert retry_shares(RETRIES) == [
        "           faults    P(> 0)   P(> 1)   P(> 2)",
        "file_read     100  10.0000%  1.0000%  1.0000%",
        "anon           50   0.0000%  0.0000%  0.0000%",
    ]
    assert retry_shares(pb.Retries(kinds=[pb.RetryRow(kind="anon", counts=[50])])) == []


def test_the_longest_chain_of_attempts_is_explained() -> None:
    assert longest_fault(RETRIES) == [
        "file_read, touch 17 of thread 4 [readers]: 4 attempts, 2 retries under the VMA lock,"
        " 9.00 us",
        "  1. under VMA lock, retry at F7: the page was waited for without the lock, and is there"
        " after 5.00 us; waited for device 4.00 us",
        "  ...",
        "  4. under mmap_lock, ended after 9.00 us",
    ]
    assert longest_fault(pb.Retries()) == []


def test_every_reason_for_a_retry_has_a_meaning() -> None:
    names = {
        name.removeprefix("RETRY_REASON_") for name in pb.RetryReason.DESCRIPTOR.values_by_name
    }

    assert set(MEANINGS) == names - {"UNSPECIFIED"}


def test_waits_are_shown_with_their_share() -> None:
    summary = pb.Summary(
        metrics=[
            pb.Metric(name="faults.count", value=4),
            pb.Metric(name="wait.folio_ns", value=1000),
            pb.Metric(name="wait.device_ns", value=3000),
        ]
    )

    assert totals(summary) == ["faults.count  4"]
    assert waits(summary) == ["wait.device_ns  3.00 us  75.0%", "wait.folio_ns   1.00 us  25.0%"]


def test_attempts_are_counted_by_the_lock_of_the_last_one() -> None:
    streamed = Streamed()
    for attempts, lock, finished in [([1, 2], [1, 2], [1, 1]), ([2, 2], [2, 1], [0, 1])]:
        faults = some_faults([0, 1], attempts=attempts, lock=lock, finished=finished)
        streamed.see_faults(FaultEvents.from_message(faults))
    streamed.see_operations(OperationEvents.from_message(some_operations([1, 2, 3])))

    assert streamed.attempts() == [
        "attempts  faults  under VMA lock  under mmap_lock  unfinished",
        "1              1               1                0           0",
        "2              3               1                2           1",
    ]
    assert (streamed.faults, streamed.operations) == (4, 3)
    assert Streamed().attempts() == []


def test_a_diagnosis_is_told_with_its_chain() -> None:
    stuck = pb.Diagnosis(message="two threads wait for each other", chain=["0 for 1", "1 for 0"])

    assert diagnosis(pb.Summary(diagnosis=stuck)) == [
        "two threads wait for each other",
        "  0 for 1",
        "  1 for 0",
    ]
    assert diagnosis(pb.Summary()) == []


def test_sections_without_lines_leave_no_trace() -> None:
    assert titled("locks", []) == []
    assert joined([["a"], [], titled("b", ["c"])]) == ["a", "", "b", "  c"]


def test_a_report_begins_with_what_was_run_and_how_it_ended() -> None:
    simulation = a_simulation(
        scenario=pb.Scenario(
            seed=3,
            machine=pb.Machine(arch="arm64", cpus=8),
            kernel=pb.Kernel(policy_id="rfc"),
        ),
        summary=pb.Summary(
            stop=pb.StopReason.STOP_REASON_HORIZON, end_ns=2 * 10**9, measured_ns=18 * 10**8
        ),
    )

    assert run_report("first-look", simulation, Streamed()) == [
        "first-look: policy rfc on arm64, 8 CPUs, machine profile neutral, seed 3",
        "ended at the horizon after 2.00 s of simulated time, 1.80 s measured",
    ]


def test_figures_of_a_summary_have_dotted_names() -> None:
    summary = pb.Summary(
        metrics=[pb.Metric(name="vmstat.pgfault", value=2)],
        latencies=[pb.Latency(name="fault.all", count=2, p50_ns=3)],
        locks=[pb.LockRow(lock="mmap_lock", mode="read", contended=5)],
    )

    found = figures(summary)

    assert found["vmstat.pgfault"] == 2
    assert (found["fault.all.count"], found["fault.all.p50_ns"]) == (2, 3)
    assert found["lock.mmap_lock.read.contended"] == 5
