"""What each owner may have: the limits of the server, or what the file of tokens says instead."""

from collections.abc import Callable

from faultlane_server.runs import Limits, Quota
from faultlane_server.service.tokens import TokenFile


def quota_of(limits: Limits, tokens: TokenFile | None) -> Callable[[str], Quota]:
    """Return the function that tells what an owner may have now."""
    usual = limits.quota

    def of(owner: str) -> Quota:
        said = tokens.now.quotas.get(owner, {}) if tokens else {}
        disk_mib = said.get("disk_mib_max")
        return Quota(
            queued_max=said.get("queued_max", usual.queued_max),
            running_max=said.get("running_max", usual.running_max),
            streams_max=said.get("streams_max", usual.streams_max),
            log_bytes_max=usual.log_bytes_max if disk_mib is None else disk_mib << 20,
        )

    return of
