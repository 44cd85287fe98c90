"""The machine and the kernel."""

from dataclasses import dataclass, replace

from faultlane_server.arch import ARCHITECTURES, ArchProfile
from faultlane_server.codes import (
    DeviceKind,
    DropForIo,
    FaultClass,
    ForkSkips,
    LruKind,
    Preemption,
    RelockAndMap,
    RetryReason,
    UptodateDirect,
)
from faultlane_server.kernels import KERNELS
from faultlane_server.machines import COSTS, MACHINES
from faultlane_server.policy import POLICIES, RetryPolicy, RetryRule
from faultlane_server.scenario.durations import PPM_MAX, check_duration
from faultlane_server.scenario.limits import (
    BASE_SLICE_NS_LEAST,
    BASE_SLICE_NS_MAX,
    CHANNELS_MAX,
    COST_NS_MAX,
    CPUS_MAX,
    DEVICES_MAX,
    FAULT_AROUND_BYTES_MAX,
    HUGE_PAGE_PAGES_MAX,
    HZ_CHOICES,
    INT32_MAX,
    INT64_MAX,
    IOPS_MAX,
    LRU_GEN_CHOICES,
    MEMORY_PAGES_LEAST,
    PAGE_CLUSTER_MAX,
    PAGES_MAX,
    READAHEAD_BYTES_MAX,
    SWAPPINESS_MAX,
)
from faultlane_server.scenario.tree import Device, Kernel, Machine
from faultlane_server.scenario.violations import Place

GENERATION = "6.12"
POLICY = "mainline"
FAULT_CLASSES = tuple(member.name.lower() for member in FaultClass)
POLICIES_WITHOUT_VMA_LOCK = (POLICY, "mmap_lock_only")
PROFILE = "neutral"


@dataclass(frozen=True, slots=True)
class Hardware:
    """What the checks of a workload and a kernel ask of the machine; harmless where it is wrong."""

    page_bytes: int
    hz: int
    costs_ns: dict[str, int]
    devices: tuple[str, ...]
    arch: ArchProfile
    cpus: int
    swap_bytes: int = 0
    huge_page_bytes: int = 0  # 0: there is no pool of huge pages


def check_machine(place: Place, machine: Machine) -> tuple[Machine, Hardware]:
    """Check the machine and return it filled in."""
    place.field("arch").want_known(ARCHITECTURES, machine.arch)
    arch = ARCHITECTURES.get(machine.arch) or next(iter(ARCHITECTURES.values()))
    page_bytes = machine.page_size_bytes or arch.page_sizes[0]
    if not place.field("page_size_bytes").want_one_of(arch.page_sizes, page_bytes):
        page_bytes = arch.page_sizes[0]
    knows_cpus = place.field("cpus").want_between(1, CPUS_MAX, machine.cpus)
    place.field("cpus_per_cache").want_between(
        0, machine.cpus if knows_cpus else CPUS_MAX, machine.cpus_per_cache
    )
    filled = replace(
        machine,
        page_size_bytes=page_bytes,
        profile=machine.profile or PROFILE,
        devices=_devices(place.field("devices"), machine.devices, page_bytes),
    )
    costs_ns = _costs(place, filled)
    names = tuple(device.name for device in machine.devices)
    if machine.memory_bytes:
        least = MEMORY_PAGES_LEAST * page_bytes
        place.field("memory_bytes").want_between(least, INT64_MAX, machine.memory_bytes)
    return filled, Hardware(
        page_bytes,
        arch.hz_default,
        costs_ns,
        names,
        arch,
        machine.cpus if knows_cpus else CPUS_MAX,
        _swap(place.field("swap"), filled, page_bytes),
        _huge_pages(place.field("huge_pages"), filled, page_bytes),
    )


def _huge_pages(place: Place, machine: Machine, page_bytes: int) -> int:
    """Check the pool of huge pages, and return their size: a harmless one if it is wrong."""
    pool = machine.huge_pages
    if pool is None:
        return 0
    place.field("count").want_between(1, PAGES_MAX, pool.count)
    least, most = 2 * page_bytes, HUGE_PAGE_PAGES_MAX * page_bytes
    if least <= pool.page_bytes <= most and pool.page_bytes.bit_count() == 1:
        return pool.page_bytes
    place.field("page_bytes").refuse(f"a power of two from {least} to {most}", pool.page_bytes)
    return least


def _swap(place: Place, machine: Machine, page_bytes: int) -> int:
    """Check the swap, and return how much fits."""
    swap = machine.swap
    if swap is None:
        return 0
    kinds = {device.name: device.kind for device in machine.devices}
    if place.field("device").want_known(kinds, swap.device):
        choices = (DeviceKind.BLOCK, DeviceKind.SYNCHRONOUS)
        if kinds[swap.device] == DeviceKind.HOLE:
            want = f"a device of kind {' or '.join(kind.name for kind in choices)}"
            place.field("device").refuse(want, swap.device)
    most = PAGES_MAX * page_bytes
    place.field("size_bytes").want_between(page_bytes, most, swap.size_bytes)
    place.field("zswap_bytes").want_between(0, max(swap.size_bytes, 0), swap.zswap_bytes)
    return swap.size_bytes


def check_kernel(place: Place, kernel: Kernel, hardware: Hardware) -> Kernel:
    """Check the kernel and return it filled in."""
    filled = replace(
        kernel,
        generation=kernel.generation or GENERATION,
        policy=_policy(place, kernel.policy or POLICY),
        hz=kernel.hz or hardware.hz,
        dirty_background_bytes=kernel.dirty_background_bytes or kernel.dirty_bytes // 2,
        lru=kernel.lru or LruKind.CLASSIC,
        fork_skips=kernel.fork_skips or ForkSkips.NOTHING,
        preemption=kernel.preemption or hardware.arch.preemption_default,
        base_slice_ns=kernel.base_slice_ns or base_slice_of(hardware.cpus),
    )
    place.field("preemption").want_one_of(list(Preemption), filled.preemption)
    slices = place.field("base_slice_ns")
    slices.want_between(BASE_SLICE_NS_LEAST, BASE_SLICE_NS_MAX, filled.base_slice_ns)
    place.field("lru").want_one_of(list(LruKind), filled.lru)
    place.field("lru_gen_enabled").want_one_of(LRU_GEN_CHOICES, kernel.lru_gen_enabled)
    place.field("swappiness").want_between(0, SWAPPINESS_MAX, kernel.swappiness)
    place.field("page_cluster").want_between(0, PAGE_CLUSTER_MAX, kernel.page_cluster)
    knows_kernel = place.field("generation").want_known(KERNELS, filled.generation)
    if knows_kernel and _needs_vma_lock(filled.policy):
        _check_vma_lock(place.field("generation"), filled, hardware.arch)
    _check_dirty(place, filled, hardware.page_bytes)
    place.field("hz").want_one_of(HZ_CHOICES, filled.hz)
    place.field("fork_skips").want_one_of(list(ForkSkips), filled.fork_skips)
    _check_fault_around(place.field("fault_around_bytes"), filled, hardware.page_bytes)
    return filled


def base_slice_of(cpus: int) -> int:
    """Return the base slice in ns that a kernel takes for so many CPUs.

    sysctl_sched_base_slice and get_update_sysctl_factor() in kernel/sched/fair.c, Linux 6.12
    (the value *inferred*: it is not part of what the model was checked against).
    """
    return 750_000 * min(max(cpus, 1), 8).bit_length()


def _needs_vma_lock(policy: str | RetryPolicy) -> bool:
    """Whether a policy, by its id or by its columns, is about faults under the VMA lock."""
    if isinstance(policy, str):
        return policy in POLICIES and policy not in POLICIES_WITHOUT_VMA_LOCK
    return policy not in [POLICIES[name].columns for name in POLICIES_WITHOUT_VMA_LOCK]


def _check_vma_lock(place: Place, kernel: Kernel, arch: ArchProfile) -> None:
    """Refuse a policy for faults under the VMA lock where there were none."""
    if KERNELS[kernel.generation].release < arch.vma_lock_since:
        since = ".".join(str(part) for part in arch.vma_lock_since)
        want = f"{since} or later, since when {arch.name} has the VMA lock, or policy {POLICY}"
        place.refuse(want, kernel.generation)


def _policy(place: Place, policy: str | RetryPolicy) -> str | RetryPolicy:
    """Check a policy, by its id or by its columns, and return it filled in."""
    if isinstance(policy, str):
        place.field("policy_id").want_known(POLICIES, policy)
        return policy
    at = place.field("retry_policy")
    rules = {name: _filled(getattr(policy, name)) for name in FAULT_CLASSES}
    for name, rule in rules.items():
        _check_rule(at.field(name), rule)
        if policy.mmap_lock_only and rule.vma_lock_on:
            want = "nothing with mmap_lock_only: no attempt runs under the VMA lock"
            at.field(name).field("vma_lock_on").refuse(want, len(rule.vma_lock_on))
    return RetryPolicy(policy.mmap_lock_only, **rules)


def _filled(rule: RetryRule) -> RetryRule:
    return replace(
        rule,
        drop_for_io=rule.drop_for_io or DropForIo.ALWAYS,
        uptodate_direct=rule.uptodate_direct or UptodateDirect.NO,
        relock_and_map=rule.relock_and_map or RelockAndMap.NO,
    )


def _check_rule(place: Place, rule: RetryRule) -> None:
    exits = place.field("vma_lock_on")
    for index, reason in enumerate(rule.vma_lock_on):
        exits.item(index).want_one_of(list(RetryReason), reason)
        if reason in rule.vma_lock_on[:index]:
            exits.item(index).refuse("each at most once", reason)
            break
    place.field("vma_retries_max").want_between(0, INT32_MAX, rule.vma_retries_max)
    place.field("drop_for_io").want_one_of(list(DropForIo), rule.drop_for_io)
    place.field("uptodate_direct").want_one_of(list(UptodateDirect), rule.uptodate_direct)
    place.field("relock_and_map").want_one_of(list(RelockAndMap), rule.relock_and_map)
    for name in ("vma_retries_max", "vma_retry_sets_tried"):
        if getattr(rule, name) and not rule.vma_lock_on:
            place.field(name).refuse("nothing without vma_lock_on", getattr(rule, name))
    if rule.uptodate_killable and rule.uptodate_direct == UptodateDirect.NO:
        place.field("uptodate_killable").refuse("nothing without uptodate_direct", True)


def _check_dirty(place: Place, kernel: Kernel, page_bytes: int) -> None:
    limit = place.field("dirty_bytes")
    if kernel.dirty_bytes == 0 or limit.want_between(2 * page_bytes, INT64_MAX, kernel.dirty_bytes):
        background = place.field("dirty_background_bytes")
        most = kernel.dirty_bytes or INT64_MAX
        background.want_between(0, most, kernel.dirty_background_bytes)


def _check_fault_around(place: Place, kernel: Kernel, page_bytes: int) -> None:
    around = kernel.fault_around_bytes
    if around == 0:
        return
    fits = page_bytes <= around <= FAULT_AROUND_BYTES_MAX and around.bit_count() == 1
    if not fits:
        want = f"0, or a power of two from {page_bytes} to {FAULT_AROUND_BYTES_MAX}"
        place.refuse(want, around)


def _costs(place: Place, machine: Machine) -> dict[str, int]:
    """Check the profile and what replaces its costs, and return what everything costs."""
    place.field("profile").want_known(MACHINES, machine.profile)
    profile = MACHINES.get(machine.profile) or MACHINES[PROFILE]
    for name, ns in machine.costs_ns.items():
        if place.field("costs_ns").want_known(COSTS, name):
            place.field("costs_ns").field(name).want_between(0, COST_NS_MAX, ns)
    return {name: cost.ns for name, cost in profile.costs.items()} | machine.costs_ns


def _devices(place: Place, devices: tuple[Device, ...], page_bytes: int) -> tuple[Device, ...]:
    place.want_at_most(DEVICES_MAX, len(devices), "devices")
    place.want_unique_names([device.name for device in devices])
    return tuple(
        _device(place.item(index), device, page_bytes) for index, device in enumerate(devices)
    )


def _device(place: Place, device: Device, page_bytes: int) -> Device:
    device = replace(device, kind=device.kind or DeviceKind.BLOCK)
    place.field("kind").want_one_of(list(DeviceKind), device.kind)
    _check_latency(place, device)
    if device.write_latency is not None:
        check_duration(place.field("write_latency"), device.write_latency)
    place.field("error_ppm").want_between(0, PPM_MAX, device.error_ppm)
    filled = replace(
        device,
        channels=device.channels or 1,
        readahead_bytes=device.readahead_bytes // page_bytes * page_bytes,
    )
    place.field("channels").want_between(1, CHANNELS_MAX, filled.channels)
    place.field("iops_max").want_between(0, IOPS_MAX, device.iops_max)
    place.field("bandwidth_bytes_per_s").want_between(0, INT64_MAX, device.bandwidth_bytes_per_s)
    place.field("readahead_bytes").want_between(0, READAHEAD_BYTES_MAX, device.readahead_bytes)
    return filled


def _check_latency(place: Place, device: Device) -> None:
    """Check what a request takes: all but holes take something, and only they do not."""
    if device.kind != DeviceKind.HOLE:
        if device.latency is None:
            place.field("latency").refuse("a Duration", None)
        else:
            check_duration(place.field("latency"), device.latency)
        return
    asked = {
        "latency": device.latency is not None,
        "write_latency": device.write_latency is not None,
        "error_ppm": device.error_ppm,
        "bandwidth_bytes_per_s": device.bandwidth_bytes_per_s,
        "iops_max": device.iops_max,
    }
    for name, got in asked.items():
        if got:
            place.field(name).refuse("nothing for a device of kind HOLE", got)
