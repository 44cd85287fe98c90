"""Who is to blame for a wait is told to the nanosecond, and what was in the way of those."""

from dataclasses import replace

import pytest

from faultlane_server.codes import Protection, SchedPolicy
from faultlane_server.engine import Simulator
from faultlane_server.scenario import FileMapping, Mprotect, ReadSmaps, Scenario, Scheduling, Vma
from faultlane_server.summary import Blame, BlameChain, BlameEdge, Who
from tests.engine.recount_blame import assert_blame_adds_up, assert_blamed, summary_adds_up
from tests.engine.small_stories import (
    CACHED,
    PAGE,
    READ_NS,
    READ_WRITE,
    US,
    Played,
    a_story,
    after,
    one,
    page_range,
    touch,
)
from tests.engine.some_runs import busy_scenarios, run, run_of

pytestmark = pytest.mark.uncompiled_too

DATA = Vma("data", 64 * PAGE, FileMapping("data"), 0, READ_WRITE)
OTHER = Vma("other", 64 * PAGE, FileMapping("data"), 0, READ_WRITE)
READ_ONLY = (Protection.READ,)
HOLDER = Who("fault_vma", "holder")
MAPPER = Who("mprotect", "mapper")


def a_pile_up(*cast) -> Scenario:
    """A fault holds its VMA while it reads a page, a mapper of the VMA waits for it, and a cast."""
    return a_story(
        one("holder", touch(5)),
        one("mapper", after(100 * US), Mprotect("data", protection=READ_ONLY)),
        *cast,
        vmas=(DATA, OTHER),
        policy="hold",
    )


def edges_of(blame: Blame, group: str) -> list[BlameEdge]:
    return [edge for edge in blame.edges if edge.waiter.group == group]


def longest_chain_of(blame: Blame, group: str) -> BlameChain:
    return next(chain for chain in blame.chains if chain.waiter.group == group)


def told(chain: BlameChain) -> list[str]:
    """A chain in short: `mmap_lock of mapper`, and where it ends."""
    return [f"{link.lock} of {link.holder.group}" for link in chain.links] + [chain.end]


def test_a_chain_leads_through_all_locks_down_to_the_device():
    played = Played(a_pile_up(one("victim", after(200 * US), touch(20))))
    blame, fault = played.summary.blame, played.fault_of("victim")

    (edge,) = edges_of(blame, "victim")
    assert (edge.lock, edge.mode, edge.holder) == ("mmap_lock", "read", MAPPER)
    assert edge.wait_total_ns == edge.wait_max_ns == fault["wait_mmap_lock_ns"]
    chain = longest_chain_of(blame, "victim")
    assert told(chain) == ["mmap_lock of mapper", "vma_lock of holder", "device"]
    assert 0.9 * edge.wait_total_ns < chain.wait_total_ns < READ_NS


def test_the_writer_in_between_is_a_victim_itself():
    played = Played(a_pile_up())
    blame, mapper = played.summary.blame, played.operation_of("mapper")

    (edge,) = edges_of(blame, "mapper")
    assert (edge.lock, edge.holder) == ("vma_lock", HOLDER)
    assert edge.wait_total_ns == mapper["wait_vma_ns"]


def test_whoever_changes_another_vma_is_a_bystander():
    bystander = one("bystander", after(200 * US), Mprotect("other", protection=READ_ONLY))
    played = Played(a_pile_up(bystander, one("victim", after(200 * US), touch(20))))
    blame = played.summary.blame

    beside, victim = (longest_chain_of(blame, name) for name in ("bystander", "victim"))
    assert told(beside)[-2:] == told(victim)[-2:] == ["vma_lock of holder", "device"]
    assert (beside.bystander_waits, beside.bystander_total_ns) == (1, beside.wait_total_ns)
    assert (victim.bystander_waits, victim.bystander_total_ns) == (0, 0)


def test_a_reader_blames_the_writer_that_it_stands_behind_and_that_one_the_reader_inside():
    played = Played(
        a_story(
            one("walker", ReadSmaps("app")),
            one("mapper", after(5 * US), Mprotect("data", protection=READ_ONLY)),
            one("reader", after(40 * US), touch(1)),
            data=CACHED,
            mapped=(page_range(8, 56),),
            policy="mmap_lock_only",
            costs_ns={"smaps_page": 5 * US},
        )
    )

    chain = longest_chain_of(played.summary.blame, "reader")
    assert told(chain) == ["mmap_lock of mapper", "mmap_lock of walker", "cpu"]
    assert [link.mode for link in chain.links] == ["read", "write"]


def test_whoever_spins_is_not_in_state_d():
    """A writer watches the readers inside a VMA for a while before it sleeps."""
    played = Played(a_pile_up())

    victim = next(each for each in played.summary.blame.victims if each.waiter == MAPPER)
    spun_ns = victim.wait_total_ns - victim.d_state_total_ns
    assert 0 < spun_ns < 20 * US
    assert victim.d_state_max_ns == victim.d_state_total_ns > READ_NS // 2


def test_a_wait_for_a_read_is_nobodys_fault():
    played = Played(a_story(one("reader", touch(3))))

    (edge,) = played.summary.blame.edges
    assert (edge.lock, edge.holder, edge.wait_total_ns) == (
        "folio.file",
        Who("device", ""),
        READ_NS,
    )
    assert [told(chain) for chain in played.summary.blame.chains] == [["folio.file of ", "device"]]


LESS = Scheduling(nice=5)
MORE = Scheduling(SchedPolicy.RR, rt_priority=1)


@pytest.mark.parametrize(
    ("holder", "victim", "is_inverted"),
    [(LESS, MORE, True), (LESS, Scheduling(), True), (MORE, LESS, False), (LESS, LESS, False)],
)
def test_a_wait_is_inverted_while_anybody_in_its_chain_is_less_urgent(holder, victim, is_inverted):
    """The mapper in between is as urgent as the victim; the holder at the end may not be."""
    story = a_story(
        replace(one("holder", touch(5)), scheduling=holder),
        replace(
            one("mapper", after(100 * US), Mprotect("data", protection=READ_ONLY)),
            scheduling=victim,
        ),
        replace(one("victim", after(200 * US), touch(20)), scheduling=victim),
        vmas=(DATA, OTHER),
        policy="hold",
    )
    played = Played(story)
    (row,) = (row for row in played.summary.blame.victims if row.waiter.group == "victim")

    wait_ns = played.fault_of("victim")["wait_mmap_lock_ns"]
    assert row.inversion_total_ns > 0.9 * wait_ns if is_inverted else row.inversion_total_ns == 0


def test_among_equally_urgent_threads_nothing_is_inverted():
    blame = run(busy_scenarios()["mainline on x86"]).summary.blame

    assert blame.victims
    assert all(victim.inversion_total_ns == 0 for victim in blame.victims)


@pytest.mark.parametrize("name", busy_scenarios())
def test_blame_adds_up_to_the_waits(name):
    simulator = Simulator(busy_scenarios()[name])
    parts = []
    while not simulator.advance(997):
        parts.append(simulator.take_rows())
        assert_blamed(simulator.world)
    parts.append(simulator.take_rows())

    whole = run_of(simulator, parts)
    assert_blame_adds_up(simulator.world, whole.faults, whole.operations)
    assert summary_adds_up(whole.summary)
