"""Who waited for whom, as text: the longest waits first."""

from faultlane import v1 as pb
from faultlane.report.format import duration_text, number_text, text_table

ROWS_MAX = 20  # of each table; all others are in the JSON


def edges(blame: pb.Blame) -> list[str]:
    """A line for each class of threads that waited, and each that was to blame."""
    head = ["total wait", "max wait", "waits", "who waited", "for", "because of"]
    rows = [
        [
            *_waits(edge.wait_total_ns, edge.wait_max_ns, edge.waits),
            who_text(edge.waiter),
            lock_text(edge.lock, edge.mode),
            who_text(edge.holder),
        ]
        for edge in blame.edges[:ROWS_MAX]
    ]
    more = _more(len(blame.edges), blame.edges_left_out)
    lost = blame.waits_not_followed
    told = [f"{number_text(lost)} waits could not be followed"] if lost else []
    return [*text_table([head, *rows]), *more, *told] if rows else []


def chains(blame: pb.Blame) -> list[str]:
    """The same waits by all that was in the way; with a mark where bystanders waited as well."""
    head = ["total wait", "max wait", "waits", "bystanders", "who waited, and what was in the way"]
    rows = [
        [
            *_waits(chain.wait_total_ns, chain.wait_max_ns, chain.waits),
            duration_text(chain.bystander_total_ns) if chain.bystander_waits else "",
            chain_text(chain),
        ]
        for chain in blame.chains[:ROWS_MAX]
    ]
    more = _more(len(blame.chains), blame.chains_left_out)
    return [*text_table([head, *rows]), *more] if rows else []


def victims(blame: pb.Blame) -> list[str]:
    """What waits were to each class of threads: in state D, and behind lower priorities."""
    head = ["who waited", "waits", "total wait", "max wait", "state D", "max D", "inverted", "max"]
    rows = [
        [
            who_text(victim.waiter),
            number_text(victim.waits),
            duration_text(victim.wait_total_ns),
            duration_text(victim.wait_max_ns),
            duration_text(victim.d_state_total_ns),
            duration_text(victim.d_state_max_ns),
            duration_text(victim.inversion_total_ns),
            duration_text(victim.inversion_max_ns),
        ]
        for victim in blame.victims[:ROWS_MAX]
    ]
    more = _more(len(blame.victims), blame.victims_left_out)
    return [*text_table([head, *rows]), *more] if rows else []


def chain_text(chain: pb.BlameChain) -> str:
    """Who waited for what, held by whom, and so on: `a -> mmap_lock (read) of b -> device`."""
    links = [
        f"{lock_text(link.lock, link.mode)} of {who_text(link.holder)}" for link in chain.links
    ]
    return " -> ".join([who_text(chain.waiter), *links, chain.end])


def who_text(who: pb.Who) -> str:
    """What threads do, and their group: `fault_vma [readers]`."""
    return f"{who.activity} [{who.group}]" if who.group else who.activity


def lock_text(lock: str, mode: str) -> str:
    """A lock with its mode: `mmap_lock (read)`."""
    return f"{lock} ({mode})" if mode else lock


def _waits(total_ns: int, longest_ns: int, waits: int) -> list[str]:
    return [duration_text(total_ns), duration_text(longest_ns), number_text(waits)]


def _more(told: int, left_out: pb.LeftOut) -> list[str]:
    """How many rows are not shown."""
    hidden = max(told - ROWS_MAX, 0) + left_out.rows
    return [f"and {number_text(hidden)} more"] if hidden else []
