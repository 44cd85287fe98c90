"""CatalogService: the tables of the rooms below, as messages."""

from dataclasses import asdict

from faultlane.v1 import catalog_service_pb2 as pb
from faultlane.v1 import scenario_pb2 as scenario
from faultlane_server.arch import ARCHITECTURES
from faultlane_server.arch.profile import ALWAYS, ArchProfile
from faultlane_server.kernels import KERNELS, KernelGeneration
from faultlane_server.machines import COSTS, MACHINES, MachineProfile
from faultlane_server.policy import POLICIES, Policy, RetryRule
from faultlane_server.service.presets import Presets


class CatalogServicer:
    """One method for each rpc."""

    def __init__(self, info: pb.GetServerInfoResponse) -> None:
        self._info = info
        self._presets = Presets()

    async def GetServerInfo(self, _: pb.GetServerInfoRequest) -> pb.GetServerInfoResponse:
        return self._info

    async def ListArchitectures(
        self, _: pb.ListArchitecturesRequest
    ) -> pb.ListArchitecturesResponse:
        return pb.ListArchitecturesResponse(
            architectures=[_architecture(profile) for profile in ARCHITECTURES.values()]
        )

    async def ListMachines(self, _: pb.ListMachinesRequest) -> pb.ListMachinesResponse:
        return pb.ListMachinesResponse(
            machines=[_machine(profile) for profile in MACHINES.values()]
        )

    async def ListKernels(self, _: pb.ListKernelsRequest) -> pb.ListKernelsResponse:
        return pb.ListKernelsResponse(
            kernels=[_kernel(name, generation) for name, generation in KERNELS.items()]
        )

    async def ListPolicies(self, _: pb.ListPoliciesRequest) -> pb.ListPoliciesResponse:
        return pb.ListPoliciesResponse(
            policies=[_policy(name, policy) for name, policy in POLICIES.items()]
        )

    async def ListPresets(self, _: pb.ListPresetsRequest) -> pb.ListPresetsResponse:
        return pb.ListPresetsResponse(presets=self._presets.list())

    async def GetPreset(self, request: pb.GetPresetRequest) -> pb.GetPresetResponse:
        return pb.GetPresetResponse(preset=self._presets.get(request.id))


def _architecture(profile: ArchProfile) -> pb.Architecture:
    return pb.Architecture(
        name=profile.name,
        page_sizes_bytes=profile.page_sizes,
        hz=profile.hz_default,
        preemption=scenario.Preemption.ValueType(profile.preemption_default),
        vma_lock_since=_release(profile.vma_lock_since),
        source=profile.source,
        mmap_lock_trylock_since=_release(profile.mmap_trylock_since),
        mmap_lock_killable_since=_release(profile.mmap_killable_since),
        error_before_retry=profile.error_before_retry,
        read_needs_read=profile.read_needs_read,
        exec_needs_exec=profile.exec_needs_exec,
        protection_fault_fails=profile.prot_fault_fails,
    )


def _release(number: tuple[int, int]) -> str:
    return "" if number == ALWAYS else ".".join(map(str, number))


def _machine(profile: MachineProfile) -> pb.MachineProfile:
    costs = [
        pb.Cost(name=name, ns=cost.ns, description=COSTS[name], source=cost.source)
        for name, cost in profile.costs.items()
    ]
    return pb.MachineProfile(name=profile.name, description=profile.description, costs=costs)


def _kernel(name: str, generation: KernelGeneration) -> pb.KernelGeneration:
    return pb.KernelGeneration(
        name=name,
        description=generation.description,
        vma_lock=generation.vma_lock.name.lower(),
        vma_lock_faults=generation.vma_lock_faults.name.lower(),
        vma_access_errors=generation.vma_access_errors,
        anon_vma_trylock=generation.anon_vma_trylock,
        major_sets_tried=generation.major_sets_tried,
        pgfault_per_attempt=generation.pgfault_per_attempt,
    )


def _policy(name: str, policy: Policy) -> pb.Policy:
    columns = policy.columns
    return pb.Policy(
        id=name,
        description=policy.description,
        columns=scenario.RetryPolicy(
            mmap_lock_only=columns.mmap_lock_only,
            file=_rule(columns.file),
            anonymous=_rule(columns.anonymous),
            swap=_rule(columns.swap),
            shmem=_rule(columns.shmem),
        ),
        source=policy.source,
    )


def _rule(rule: RetryRule) -> scenario.RetryRule:
    return scenario.RetryRule(**asdict(rule))
