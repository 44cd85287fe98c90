"""One machine for each architecture: what is known of its structure, and assumed costs.

Nothing here was measured or published; these are for comparing designs where an architecture makes
a difference, and `neutral` is for comparing architectures. What differs, and why:

* The default page size: what is done to each byte of a page takes as many times longer. A scenario
  with other pages wants other costs for these, or `neutral`.
* Whether an instruction invalidates the TLBs of all CPUs (arm, arm64, powerpc, s390), or CPUs are
  interrupted for it (loongarch, riscv, x86): then unmapping takes longer.
* What an atomic is: an instruction (arm64 with LSE, riscv, s390, x86) or a loop of a load and a
  conditional store (arm, loongarch, powerpc).
* How quick the machines are that usually have it: a board (arm, riscv), a desktop (loongarch), a
  server (the others).
"""

from typing import NamedTuple

from faultlane_server.machines.neutral import NEUTRAL
from faultlane_server.machines.profile import Cost, MachineProfile, based_on

OF_EACH_BYTE = ("clear_page", "copy_page", "zero_page", "compress_page", "decompress_page")


class Structure(NamedTuple):
    """What sets a machine apart."""

    description: str
    page_kib: int
    flush_interrupts: bool  # CPUs are interrupted to flush their TLBs
    atomic_ns: int  # on a word that this CPU touched last
    transfer_ns: int  # on one that another CPU touched last
    tenths: int  # of what `neutral` takes


STRUCTURES = {
    "arm": Structure("a board with four 32-bit Arm cores", 4, False, 20, 80, 40),
    "arm64": Structure("a 64-bit Arm server with LSE atomics", 4, False, 8, 75, 10),
    "loongarch": Structure("a LoongArch desktop, with its pages of 16 KiB", 16, True, 15, 80, 15),
    "powerpc": Structure("a POWER server, with its pages of 64 KiB", 64, False, 20, 100, 12),
    "riscv": Structure("a RISC-V board with four cores", 4, True, 20, 100, 30),
    "s390": Structure("a logical partition of an s390 mainframe", 4, False, 8, 60, 10),
    "x86": Structure("an x86 server with one socket", 4, True, 8, 60, 10),
}

INTERRUPT_NS = 1500  # of other CPUs, for which the one that unmaps waits


def _profile(arch: str, of: Structure) -> MachineProfile:
    costs = {
        "word_local": Cost(of.atomic_ns, "assumed: an atomic"),
        "word_remote": Cost(of.transfer_ns, "assumed: an atomic, and the transfer of a cache line"),
    }
    if of.page_kib > 4:
        for name in OF_EACH_BYTE:
            ns = NEUTRAL.costs[name].ns * of.tenths // 10 * of.page_kib // 4
            costs[name] = Cost(ns, f"assumed: of {of.page_kib} KiB")
    if of.flush_interrupts:
        ns = NEUTRAL.costs["munmap_zap"].ns * of.tenths // 10 + INTERRUPT_NS
        costs["munmap_zap"] = Cost(ns, "assumed: with the flush of other CPUs' TLBs by interrupts")
    return based_on(NEUTRAL, f"{arch}-machine", f"{of.description}: assumed", costs, of.tenths)


ARCHITECTURES = tuple(_profile(arch, structure) for arch, structure in STRUCTURES.items())
