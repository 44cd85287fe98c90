"""The table of golden scenarios, held against the rules by which it was typed and derived."""

from itertools import combinations, pairwise

import pytest

from faultlane_server.policy import POLICIES
from tests.golden import table
from tests.golden.account import written

ROWS = {
    name: value
    for name, value in vars(table).items()
    if isinstance(value, dict) and "mainline" in value and name != "SAME_AS"
}
CELLS = [
    pytest.param(cell, id=f"{name}-{policy}")
    for name, row in ROWS.items()
    for policy, cell in row.items()
]


def test_every_policy_has_a_cell_in_every_row():
    with_cells = {"mainline", "mmap_lock_only"}

    assert with_cells | set(table.SAME_AS) == set(POLICIES)
    assert all(with_cells <= set(row) <= set(POLICIES) for row in ROWS.values())


def test_no_cell_says_again_what_follows():
    again = [
        (name, policy)
        for name, row in ROWS.items()
        for policy, cell in row.items()
        if policy in table.SAME_AS and cell == table.cell(row, table.SAME_AS[policy])
    ]

    assert again == []


def test_policies_that_differ_do_so_in_some_row():
    alike = [
        (one, other)
        for one, other in combinations(POLICIES, 2)
        if all(table.cell(row, one) == table.cell(row, other) for row in ROWS.values())
    ]

    assert alike == []


def test_policies_that_treat_files_alike_differ_in_swap_alone():
    for one, other in (("rfc_file", "rfc"), ("hold", "split_by_kind")):
        differs = [
            name for name, row in ROWS.items() if table.cell(row, one) != table.cell(row, other)
        ]
        assert differs == ["SWAPPED", "SWAPPED_BEING_READ"]


@pytest.mark.parametrize("cell", CELLS)
def test_counters_follow_from_the_attempts(cell):
    """Which is section 2.2: each attempt under the VMA lock counts a success or a retry."""
    attempts, _, counters = written({"fault": cell})
    by_vma_lock = [attempt for attempt in attempts if attempt.startswith("V")]
    retried = [attempt for attempt in by_vma_lock if "→RETRY" in attempt]

    assert counters.retry == len(retried)
    assert counters.success == len(by_vma_lock) - len(retried)


@pytest.mark.parametrize("cell", CELLS)
def test_the_account_follows_from_the_last_attempt(cell):
    """Which is section 1.3: major if the last attempt has read, or had TRIED."""
    attempts, faults, _ = written({"fault": cell})
    account, last = faults["fault"][0].account, attempts[-1]

    if "RETRY" in last:
        assert account in ("interrupted", "for ever")
    elif "SIGBUS" in last:
        assert account == "neither"
    else:
        assert account == ("maj" if "MAJOR" in last or "(TRIED)" in last else "min")


@pytest.mark.parametrize("cell", CELLS)
def test_a_retry_under_the_vma_lock_is_the_only_way_back_to_it(cell):
    attempts = written({"fault": cell}).attempts

    for before, attempt in pairwise(attempts):
        if attempt.startswith("V"):
            assert "+VMA" in before, attempts


@pytest.mark.parametrize("cell", CELLS)
def test_tried_is_set_by_a_major_retry_and_by_mmap_lock(cell):
    """Which is V5 and M5; once set it stays."""
    tried = False
    for attempt in written({"fault": cell}).attempts:
        assert ("(TRIED)" in attempt) == tried, cell
        tried |= "MAJOR" in attempt or attempt.startswith("M")
