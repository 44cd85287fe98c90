"""The check of a scenario: past it nobody checks again."""

from dataclasses import replace

from faultlane_server.codes import RecordingKind
from faultlane_server.scenario.author import Author, Needs
from faultlane_server.scenario.durations import points_of
from faultlane_server.scenario.hugetlb import file_page_bytes, vma_page_bytes
from faultlane_server.scenario.limited import check_huge_pages, check_memcgs, check_memory
from faultlane_server.scenario.limits import (
    AFFINITIES_MAX,
    ATTEMPTS_MAX,
    BARRIERS_MAX,
    CURSORS_MAX,
    FILES_MAX,
    HORIZON_NS_MAX,
    INT32_MAX,
    LISTS_ALL_MAX,
    OPENS_MAX,
    PAGES_MAX,
    PAGES_SET_MAX,
    PROCESSES_MAX,
    QUANTILES_ALL_MAX,
    SECTIONS_MAX,
    STEPS_MAX,
    THREADS_MAX,
    TRAIT_MAX,
    UINT64_MAX,
    VMA_PLACES_MAX,
    VMAS_MAX,
    ZIPF_PAGES_ALL_MAX,
)
from faultlane_server.scenario.machine import Hardware, check_kernel, check_machine
from faultlane_server.scenario.memory import (
    cached_pages,
    check_file,
    check_mapped,
    check_no_overlaps,
    check_room_names,
    check_vma,
    pages,
    reach_bytes,
    rooms,
)
from faultlane_server.scenario.programs import check_program
from faultlane_server.scenario.scheduling import check_affinity, check_scheduling
from faultlane_server.scenario.tree import (
    AnonymousMapping,
    File,
    HugetlbMapping,
    Process,
    Recording,
    Scenario,
    ThreadGroup,
    Vma,
    Workload,
)
from faultlane_server.scenario.violations import InvalidScenario, Place


def check(scenario: Scenario) -> Scenario:
    """Return the scenario with its defaults filled in.

    Addresses of VMAs that have none are left to the engine.

    Raises
    ------
    InvalidScenario
        If fields have values that make no sense; `.violations` has them all.
    """
    root = Place("", [])
    machine, hardware = check_machine(root.field("machine"), scenario.machine)
    filled = replace(
        scenario,
        machine=machine,
        kernel=check_kernel(root.field("kernel"), scenario.kernel, hardware),
        recording=_recording(root.field("recording"), scenario.recording),
        attempts_max=scenario.attempts_max or ATTEMPTS_MAX,
    )
    _check_run(root, filled)
    workload = _workload(root.field("workload"), filled, hardware)
    if not root.violations:
        _check_mapped(root.field("workload"), workload, hardware)
    if not root.violations:
        check_memory(root, replace(filled, workload=workload))
        check_huge_pages(root, replace(filled, workload=workload))
    if root.violations:
        raise InvalidScenario(root.violations)
    return replace(filled, workload=workload)


def _check_run(root: Place, scenario: Scenario) -> None:
    root.field("seed").want_between(0, UINT64_MAX, scenario.seed)
    root.field("attempts_max").want_between(1, INT32_MAX, scenario.attempts_max)
    if root.field("horizon_ns").want_between(1, HORIZON_NS_MAX, scenario.horizon_ns):
        root.field("warmup_ns").want_between(0, scenario.horizon_ns - 1, scenario.warmup_ns)


def _recording(place: Place, recording: Recording) -> Recording:
    """Check what is recorded; what its kind does not ask for is set to nothing in particular."""
    kind = recording.kind or RecordingKind.ALL
    place.field("kind").want_one_of(list(RecordingKind), kind)
    sample_every, slower_than_ns = 1, 0
    if kind == RecordingKind.SAMPLED:
        sample_every = recording.sample_every
        place.field("sample_every").want_between(1, INT32_MAX, sample_every)
    if kind == RecordingKind.SLOWER_THAN:
        slower_than_ns = recording.slower_than_ns
        place.field("slower_than_ns").want_between(0, HORIZON_NS_MAX, slower_than_ns)
    return Recording(kind, sample_every, slower_than_ns)


def _workload(place: Place, scenario: Scenario, hardware: Hardware) -> Workload:
    workload = scenario.workload
    files = place.field("files")
    copies = sum(max(file.copies, 1) for file in workload.files)
    files.want_at_most(FILES_MAX, copies, "files")
    files.want_unique_names([file.name for file in workload.files])
    processes = place.field("processes")
    processes.want_between(1, PROCESSES_MAX, len(workload.processes))
    processes.want_unique_names([process.name for process in workload.processes])
    needs = Needs()
    for device in scenario.machine.devices:
        if device.latency is not None:
            needs.quantile_points += points_of(device.latency)
        if device.write_latency is not None:
            needs.quantile_points += points_of(device.write_latency)
    known = {file.name: file for file in workload.files}
    filled = Workload(
        files=tuple(
            check_file(files.item(index), file, hardware)
            for index, file in enumerate(workload.files)
        ),
        processes=tuple(
            _process(processes.item(index), process, workload, known, hardware, needs)
            for index, process in enumerate(workload.processes)
        ),
        memcgs=workload.memcgs,
    )
    check_memcgs(place, filled, hardware.page_bytes)
    _check_totals(place, filled, needs, hardware)
    return filled


def _process(
    place: Place,
    process: Process,
    workload: Workload,
    files: dict[str, File],
    hardware: Hardware,
    needs: Needs,
) -> Process:
    at, groups = place.field("vmas"), place.field("groups")
    at.want_unique_names([vma.name for vma in process.vmas])
    vmas = tuple(
        check_vma(at.item(index), vma, files, hardware) for index, vma in enumerate(process.vmas)
    )
    check_room_names(at, vmas)
    check_no_overlaps(at, vmas)
    if not process.groups:
        groups.refuse("at least one group", 0)
    groups.want_unique_names([group.name for group in process.groups])
    named = rooms(vmas) | {vma.name: vma for vma in vmas}
    others = {each.name: each for each in workload.processes}
    filled = (
        _group(
            groups.item(index),
            group,
            Author(process.name, max(group.threads, 1), named, files, others, hardware, needs),
        )
        for index, group in enumerate(process.groups)
    )
    return replace(process, vmas=vmas, groups=tuple(filled))


def _group(place: Place, group: ThreadGroup, author: Author) -> ThreadGroup:
    place.field("threads").want_between(1, THREADS_MAX, group.threads)
    cpus_all = author.hardware.cpus
    return replace(
        group,
        program=check_program(place.field("program"), group.program, author),
        scheduling=check_scheduling(place.field("scheduling"), group.scheduling),
        cpus=check_affinity(place.field("cpus"), group.cpus, cpus_all),
    )


def _check_totals(place: Place, workload: Workload, needs: Needs, hardware: Hardware) -> None:
    page_bytes = hardware.page_bytes
    processes = workload.processes
    groups = [group for process in processes for group in process.groups]
    vmas = [vma for process in processes for vma in process.vmas]
    of_files = (
        pages(file.size_bytes, file_page_bytes(file, hardware)) * file.copies
        for file in workload.files
    )
    of_vmas = (_pages_of(vma, hardware) for vma in vmas)
    pages_all = sum(of_files) + sum(of_vmas) + needs.pages
    place.want_at_most(PAGES_MAX, pages_all, "pages of files and VMAs together")
    place.want_at_most(PAGES_SET_MAX, _pages_set(workload, page_bytes), "pages with initial states")
    counts = (
        (THREADS_MAX, sum(group.threads for group in groups), "threads"),
        (VMAS_MAX, len(vmas) + needs.vmas, "VMAs, with those that threads map or split off,"),
        (VMA_PLACES_MAX, len(vmas) + needs.vma_places, "VMAs and ends of munmaps and mprotects"),
        (OPENS_MAX, len(vmas) + needs.opens, "VMAs and mmaps of files, times their threads,"),
        (STEPS_MAX, needs.steps, "steps of programs"),
        (TRAIT_MAX, len(needs.anon_names), "names of memory"),
        (SECTIONS_MAX, len(needs.sections), "names of measures"),
        (BARRIERS_MAX, len(needs.barriers), "barriers"),
        (LISTS_ALL_MAX, needs.list_entries, "entries of explicit lists"),
        (CURSORS_MAX, needs.cursors, "touches that walk, times their threads,"),
        (QUANTILES_ALL_MAX, needs.quantile_points, "points of quantiles"),
        (AFFINITIES_MAX, len({group.cpus for group in groups}), "different lists of CPUs"),
        (ZIPF_PAGES_ALL_MAX, needs.zipf_pages, "pages touched by a zipf law"),
    )
    for most, got, what in counts:
        place.field("processes").want_at_most(most, got, f"{what} in all")


def _pages_of(vma: Vma, hardware: Hardware) -> int:
    """Return how many pages the engine keeps for a VMA; huge ones without a file count twice."""
    most = pages(reach_bytes(vma) + vma.grows_down_bytes, vma_page_bytes(vma.backing, hardware))
    return most * (2 if isinstance(vma.backing, HugetlbMapping) and not vma.backing.file else 1)


def _pages_set(workload: Workload, page_bytes: int) -> int:
    """Return how many pages get a state from their ranges, each as often as it gets one."""
    vmas = [vma for process in workload.processes for vma in process.vmas]
    parts = [part for vma in vmas for part in (*vma.mapped, *vma.swapped, *vma.numa_hinted)]
    parts += [part for vma in vmas for part in (*vma.device_private, *vma.device_exclusive)]
    of_vmas = sum(part.length_bytes for part in parts) // page_bytes
    return of_vmas + sum(_pages_set_in(file, page_bytes) for file in workload.files)


def _pages_set_in(file: File, page_bytes: int) -> int:
    """Return the same for a file, with its copies."""
    states = (part.length_bytes // page_bytes // max(part.every_pages, 1) for part in file.initial)
    bad = sum(part.length_bytes for part in file.bad) // page_bytes
    return (sum(states) + bad) * file.copies


def _check_mapped(place: Place, workload: Workload, hardware: Hardware) -> None:
    """Check the ranges that are mapped from the start, which takes a look at every page."""
    files = {file.name: file for file in workload.files}
    cached: dict[str, bytearray] = {}
    for number, process in enumerate(workload.processes):
        vmas = place.field("processes").item(number).field("vmas")
        for index, vma in enumerate(process.vmas):
            if vma.mapped and not isinstance(vma.backing, AnonymousMapping) and vma.backing.file:
                name, page_bytes = vma.backing.file, vma_page_bytes(vma.backing, hardware)
                if name not in cached:
                    cached[name] = cached_pages(files[name], page_bytes)
                check_mapped(vmas.item(index), vma, cached[name], page_bytes)
