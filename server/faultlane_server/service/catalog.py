"""CatalogService: the tables of the rooms below, as messages."""

from faultlane.v1 import catalog_service_pb2 as pb
from faultlane_server.arch import ARCHITECTURES
from faultlane_server.arch.profile import ArchProfile
from faultlane_server.codes import RetryReason
from faultlane_server.kernels import KERNELS
from faultlane_server.machines import COSTS, MACHINES, MachineProfile
from faultlane_server.policy import ANY_EXIT, POLICIES, Policy
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
            kernels=[
                pb.KernelGeneration(name=name, description=generation.description)
                for name, generation in KERNELS.items()
            ]
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
    major, minor = profile.vma_lock_since
    return pb.Architecture(
        name=profile.name,
        page_sizes_bytes=profile.page_sizes,
        hz=profile.hz_default,
        vma_lock_since=f"{major}.{minor}",
        source=profile.source,
    )


def _machine(profile: MachineProfile) -> pb.MachineProfile:
    costs = [
        pb.Cost(name=name, ns=cost.ns, description=COSTS[name], source=cost.source)
        for name, cost in profile.costs.items()
    ]
    return pb.MachineProfile(name=profile.name, description=profile.description, costs=costs)


def _policy(name: str, policy: Policy) -> pb.Policy:
    return pb.Policy(
        id=name,
        description=policy.description,
        vma_lock_on=_exits(policy.file.vma_lock_on),
        drop_for_io=policy.file.drop_for_io.name.lower(),
    )


def _exits(mask: int) -> list[str]:
    if mask == ANY_EXIT:
        return ["any"]
    return [reason.name for reason in RetryReason if mask >> reason & 1]
