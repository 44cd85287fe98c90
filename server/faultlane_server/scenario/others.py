"""Steps that are about files and processes, not about the thread's own address space."""

from dataclasses import replace

from faultlane_server.codes import FileKind, SignalKind
from faultlane_server.scenario.author import Author
from faultlane_server.scenario.memory import check_range, file_end
from faultlane_server.scenario.tree import File, FileStep, Ftruncate, Kill, ProcessStep
from faultlane_server.scenario.violations import Place


def check_file_step(place: Place, step: FileStep, author: Author) -> FileStep:
    """Check a step that changes the pages of a file, and return it filled in."""
    if not place.field("file").want_known(author.files, step.file):
        return step
    file = author.files[step.file]
    if file.kind == FileKind.SPECIAL:
        place.field("file").refuse("a file with a page cache", step.file)
    if file.kind == FileKind.HUGETLB:
        place.field("file").refuse("a file of small pages", step.file)
        return step
    if isinstance(step, Ftruncate):
        _check_size(place.field("size_bytes"), step, file)
        return step
    page_bytes = author.hardware.page_bytes
    end_bytes = file_end(file, page_bytes)
    length_bytes = check_range(place, step.offset_bytes, step.length_bytes, end_bytes, page_bytes)
    return replace(step, length_bytes=length_bytes)


def _check_size(place: Place, step: Ftruncate, file: File) -> None:
    if step.size_bytes > file.size_bytes:
        place.refuse(f"at most {file.size_bytes}, the size of the file at first", step.size_bytes)


def check_kill(place: Place, step: Kill, author: Author) -> Kill:
    """Check whom a signal goes to: a process that it kills, or a group that handles it."""
    place.field("signal").want_one_of(list(SignalKind), step.signal)
    step = replace(step, process=step.process or author.process)
    if not place.field("process").want_known(author.processes, step.process):
        return step
    groups = [group.name for group in author.processes[step.process].groups]
    group = place.field("group")
    if step.signal == SignalKind.HANDLED:
        group.want_known(groups, step.group)
    elif step.group:
        group.refuse("nothing for a FATAL signal, which ends the whole process", step.group)
    return step


def check_process_step(place: Place, step: ProcessStep, author: Author) -> ProcessStep:
    """Check a step that looks at a process, and return it filled in."""
    step = replace(step, process=step.process or author.process)
    place.field("process").want_known(author.processes, step.process)
    return step
