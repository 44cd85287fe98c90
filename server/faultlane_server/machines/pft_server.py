"""The server of the pft table: two sockets Intel 8336C (Ice Lake), 128 threads.

pft-threads of mmtests writes to anonymous memory, page by page. Punit Agrawal measured it with and
without per-VMA locks (linux-mm, 2023-02-15 and 2023-02-28; 6.2-rc4 and the series that became 6.4),
in millions of faults a second. Two figures are fitted here, both without per-VMA locks in one VMA:

* one thread, 0.899: 1112 ns for a fault, divided among its steps as in `neutral`
* 128 threads, 6.461: 155 ns for each fault on the word of mmap_lock, in two atomics

All others are predictions, and `tests/ground_truth/test_pft.py` compares them. mmap_lock comes out
within 12 per cent from 21 threads on, in one VMA or in many; around the knee, at 7 and 12 threads,
the model is a quarter to a third too fast, since it saturates at once. One VMA with a per-VMA lock
is a sixth too slow with 128 threads: its word was served in 127 ns and not 155, and the profile has
one number for both. It is too fast with few threads; that the finer lock loses at first (-9.5 per
cent with 4 threads) does not come out. And with a VMA for each thread nothing is shared in the
model, so that it goes on to 107 where the machine ended at 16.6: the page allocator, the memory
controller and hyper-threads are not in it.
"""

from faultlane_server.machines.neutral import NEUTRAL
from faultlane_server.machines.profile import Cost, based_on

ALONE = (
    "derived: its part of 1112 ns, one fault of one thread (pft, published 0.899 M/s), less what"
    " LRU lists and page tables cost"
)
WORD = "derived: half of 155 ns, mmap_lock with 128 threads (pft, published 6.461 M/s)"

PFT_SERVER = based_on(
    NEUTRAL,
    "pft-server",
    "two sockets Intel 8336C with 128 threads, fitted to two figures of a published pft table",
    {
        "touch": Cost(1, "assumed: a store that pft does not wait for"),
        "trap": Cost(162, ALONE),
        "vma_find": Cost(54, ALONE),
        "handle": Cost(162, ALONE),
        "anon_page": Cost(271, ALONE),
        "clear_page": Cost(162, ALONE),
        "map_anon": Cost(109, ALONE),
        "fault_exit": Cost(109, ALONE),
        "word_remote": Cost(77, WORD),
    },
)
