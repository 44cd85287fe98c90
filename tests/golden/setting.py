"""Where the rows of the table are played: every architecture, page size and policy."""

from typing import Any, NamedTuple

import pytest

from faultlane_server.arch import ARCHITECTURES
from faultlane_server.policy import POLICIES
from faultlane_server.scenario import Scenario, ThreadGroup
from tests.golden import table
from tests.golden.story import a_story


def name_of(hardware: tuple[str, int]) -> str:
    arch, page_bytes = hardware
    return f"{arch}-{page_bytes // 1024}K"


HARDWARE = [
    (arch, page_bytes)
    for arch, profile in ARCHITECTURES.items()
    for page_bytes in profile.page_sizes
]
ONE_OF_EACH_SIZE = [("x86", 4096), ("arm64", 16384), ("powerpc", 65536)]

one_of_each_size = pytest.mark.parametrize("hardware", ONE_OF_EACH_SIZE, indirect=True, ids=name_of)

of_small_pages = pytest.mark.parametrize(
    "hardware", [each for each in HARDWARE if each[1] == 4096], indirect=True, ids=name_of
)

POLICY_IDS = list(POLICIES)


class Setting(NamedTuple):
    """An architecture with one of its page sizes, and a policy."""

    arch: str
    page_bytes: int
    policy: str

    def story(self, *cast: ThreadGroup, **more: Any) -> Scenario:
        return a_story(*cast, **self._asdict(), **more)

    def cell(self, row: table.Cells) -> str:
        return table.cell(row, self.policy, self.page_bytes)

    @property
    def windows(self) -> table.Windows:
        return table.windows(self.page_bytes)
