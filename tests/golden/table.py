"""Cells of the kernel model's table of golden scenarios.

They are typed from the table and never taken from a run: the columns mainline and rfc as they
stand there, the columns hold and blind as they follow from what these policies change.
"""

FROM_THE_TABLE = ("mainline", "rfc")
DERIVED = ("hold", "blind")

READY = "V→NOPAGE; S1; PM0; min; mm0"
READ_AND_RETRIED_UNDER_VMA_LOCK = "V→RETRY+MAJOR+VMA; V(TRIED)→NOPAGE; R1 S1; PM1; maj; mm0"
READ_WITH_THE_LOCK_HELD = "V→LOCKED+MAJOR; S1; PM1; maj; mm0"
SINGLE_PAGE_READ = "V→RETRY+MAJOR; M(TRIED)→NOPAGE; R1; PM1; maj; mm1"
WAITED_AND_RETRIED_UNDER_VMA_LOCK = "V→RETRY+VMA; V(!TRIED)→NOPAGE; R1 S1; PM0; min; mm0"
REFUSED_BY_A_WRITER = "A1; M(!TRIED)→NOPAGE; PM0; min; mm1"
REFUSED_AND_READ = "A1; M(!TRIED)→RETRY+MAJOR; M(TRIED)→NOPAGE; PM1; maj; mm2"
MARKED_AND_RETRIED_UNDER_VMA_LOCK = "V→RETRY+MAJOR+VMA; V(TRIED)→LOCKED; R1 S1; PM1; maj; mm0"

ROWS = {
    1: {"mainline": READY, "rfc": READY, "hold": READY, "blind": READY},
    2: {
        "mainline": "V→RETRY+MAJOR; M(TRIED)→NOPAGE; R1; PM1; maj; mm1",
        "rfc": READ_AND_RETRIED_UNDER_VMA_LOCK,
        "hold": READ_WITH_THE_LOCK_HELD,
        "blind": READ_AND_RETRIED_UNDER_VMA_LOCK,
    },
    3: {
        "mainline": SINGLE_PAGE_READ,
        "rfc": SINGLE_PAGE_READ,
        "hold": READ_WITH_THE_LOCK_HELD,
        "blind": READ_AND_RETRIED_UNDER_VMA_LOCK,
    },
    4: {
        "mainline": "V→RETRY; M(!TRIED)→NOPAGE; R1; PM0; min; mm1",
        "rfc": WAITED_AND_RETRIED_UNDER_VMA_LOCK,
        "hold": "V→LOCKED; S1; PM0; min; mm0",
        "blind": WAITED_AND_RETRIED_UNDER_VMA_LOCK,
    },
    12: dict.fromkeys(FROM_THE_TABLE + DERIVED, REFUSED_BY_A_WRITER),
    26: dict.fromkeys(FROM_THE_TABLE + DERIVED, REFUSED_AND_READ),
    29: {
        "mainline": "V→RETRY+MAJOR; M(TRIED)→LOCKED; R1; PM1; maj; mm1",
        "rfc": MARKED_AND_RETRIED_UNDER_VMA_LOCK,
        "hold": READ_WITH_THE_LOCK_HELD,
        "blind": MARKED_AND_RETRIED_UNDER_VMA_LOCK,
    },
}
ROWS |= {5: ROWS[4], 13: ROWS[1], 32: ROWS[2]}
