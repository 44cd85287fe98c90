"""Every architecture, page size and policy, for the tests that ask for a `setting`."""

import pytest

from tests.golden.setting import HARDWARE, POLICY_IDS, Setting, name_of


@pytest.fixture(params=HARDWARE, ids=name_of)
def hardware(request):
    return request.param


@pytest.fixture(params=POLICY_IDS)
def policy(request):
    return request.param


@pytest.fixture
def setting(hardware, policy):
    arch, page_bytes = hardware
    return Setting(arch, page_bytes, policy)
