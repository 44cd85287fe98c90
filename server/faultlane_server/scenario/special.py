"""Steps on a VMA that few programs have: those of a userfaultfd, and the migration of pages."""

from dataclasses import replace

from faultlane_server.codes import FileKind
from faultlane_server.scenario.author import Author
from faultlane_server.scenario.memory import check_range
from faultlane_server.scenario.tree import (
    AnonymousMapping,
    FileMapping,
    HugetlbMapping,
    Migrate,
    UserfaultfdCopy,
    UserfaultfdModes,
    UserfaultfdRegister,
    UserfaultfdWriteprotect,
    Vma,
)
from faultlane_server.scenario.violations import Place

StepOnVma = UserfaultfdRegister | UserfaultfdCopy | UserfaultfdWriteprotect | Migrate


def check_on_a_vma(place: Place, step: StepOnVma, author: Author) -> StepOnVma:
    """Check a step on a part of a VMA, and return it filled in."""
    if isinstance(step, UserfaultfdRegister):
        author.needs.vmas += 2 * author.threads
        author.needs.vma_places += 2 * author.threads
        if step.modes == UserfaultfdModes():
            place.field("modes").refuse("missing, write_protect, or both", "neither")
    if not place.field("vma").want_known(author.vmas, step.vma):
        return step
    vma = author.vmas[step.vma]
    if isinstance(step, Migrate):
        _check_has_folios(place, vma, author)
    elif not isinstance(vma.backing, AnonymousMapping):
        place.field("vma").refuse("a VMA of anonymous memory", step.vma)
    if isinstance(step, UserfaultfdCopy):
        return step
    page_bytes = author.hardware.page_bytes
    length_bytes = check_range(
        place, step.offset_bytes, step.length_bytes, vma.length_bytes, page_bytes
    )
    return replace(step, length_bytes=length_bytes)


def _check_has_folios(place: Place, vma: Vma, author: Author) -> None:
    if isinstance(vma.backing, HugetlbMapping):
        place.field("vma").refuse("a VMA of small pages", vma.name)
    if not isinstance(vma.backing, FileMapping):
        return
    file = author.files.get(vma.backing.file)
    if file is not None and file.kind == FileKind.SPECIAL:
        place.field("vma").refuse("a VMA whose pages can be moved", vma.name)
