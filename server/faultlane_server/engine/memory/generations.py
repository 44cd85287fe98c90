"""The generations of MGLRU (include/linux/mm_inline.h): 2 to 4 for each kind of pages.

A generation has a number (seq), and a list: those of the numbers modulo 4. The youngest is
`max_seq` for both kinds, the oldest `min_seq` of each.
"""

import numpy as np

from faultlane_server.engine.jit import compiled
from faultlane_server.engine.world import (
    ACTIVE,
    DIRTY,
    GENERATIONS,
    READAHEAD,
    SWAP_CACHE,
    WRITEBACK,
    Lru,
)

MIN_NR_GENS = 2
MAX_NR_GENS = GENERATIONS


@compiled
def list_of(seq, is_file):
    """Return the list of a generation."""
    first = Lru.GENERATIONS_FILE if is_file else Lru.GENERATIONS_ANON
    return np.int64(first) + seq % GENERATIONS


@compiled
def list_for(world, folio, is_file):
    """Return the list of a page that is put into one (lru_gen_add_folio)."""
    memcg = world.memcgs[np.int64(folio.memcg) - 1]
    oldest = memcg.min_seq[1 if is_file else 0]
    if folio.state & ACTIVE:
        seq = memcg.max_seq
    elif _is_in_between(folio, is_file):
        seq = memcg.max_seq - 1
    elif oldest + MIN_NR_GENS >= memcg.max_seq:
        seq = oldest
    else:
        seq = oldest + 1
    return list_of(seq, is_file)


@compiled
def _is_in_between(folio, is_file):
    """Whether a page can neither be taken at once nor is known to be used."""
    if not is_file and not folio.state & SWAP_CACHE:
        return True
    return folio.state & READAHEAD != 0 and folio.state & (DIRTY | WRITEBACK) != 0


@compiled
def seq_of(memcg, kind, is_file):
    """Return the number of the generation that a list holds now."""
    first = Lru.GENERATIONS_FILE if is_file else Lru.GENERATIONS_ANON
    at = kind - np.int64(first)
    oldest = memcg.min_seq[1 if is_file else 0]
    return oldest + (at - oldest) % GENERATIONS
