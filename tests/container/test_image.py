"""The image, as it is shipped: `pytest -m container -s tests/container` tells its figures too.

It is built first; with $FAULTLANE_IMAGE an image that is there already is tested.
"""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from faultlane import v1 as pb
from tests.bench.streaming import AGAIN, FAULTS, SCENARIO
from tests.container.podman import (
    HARDENED,
    USER,
    Container,
    built_image,
    is_possible,
    podman,
    running,
)

pytestmark = [
    pytest.mark.container,
    pytest.mark.skipif(not is_possible(), reason="needs buildah, podman, runc and mmdebstrap"),
    pytest.mark.timeout(3600),  # the engine is compiled in the build
]

SUCCEEDED = pb.SimulationState.SIMULATION_STATE_SUCCEEDED


@pytest.fixture(scope="module")
def image() -> str:
    return built_image()


@pytest.fixture(scope="module")
def container(image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Container]:
    with running(image, tmp_path_factory.mktemp("data")) as container:
        yield container


def test_the_image_is_told_with_its_figures(image: str, container: Container) -> None:
    """How large it is, how soon it serves, how much memory it has at rest, how fast it sends."""
    seconds = container.seconds_to_serving()
    at_rest = container.memory_bytes()
    with container.client() as client, client.run(SCENARIO, options=AGAIN) as run:
        began_s = time.perf_counter()
        events = sum(map(len, run.events()))
        live = events / (time.perf_counter() - began_s)
        began_s = time.perf_counter()
        again = sum(map(len, client.submit(SCENARIO).events()))
        from_log = again / (time.perf_counter() - began_s)

    size = int(podman("image", "inspect", image, "--format", "{{.Size}}"))
    print(f"\nimage: {size / 1e6:.0f} MB; start to SERVING: {seconds:.1f} s")
    print(f"memory at rest: {at_rest / 1e6:.0f} MB")
    print(f"to a client outside: {live:,.0f} events/s live, {from_log:,.0f} events/s from the log")
    assert events == again == FAULTS
    assert size < 1.5e9
    assert at_rest < 1e9


def test_its_kernels_are_there_although_its_user_cannot_write_them(container: Container) -> None:
    """The server works on a copy, in which nothing is that was not there before."""
    container.seconds_to_serving()
    script = """
from pathlib import Path
from faultlane_server.engine.jit import CACHE_DIRECTORY as here

made = Path("/opt/faultlane/kernels")
names = [sorted(path.name for path in each.rglob("*.nb?")) for each in (made, here)]
print(here.is_relative_to("/tmp"), names[0] == names[1], len(names[0]) > 100)
"""

    assert container.inside("python", "-c", script) == "True True True"
    assert "compil" not in container.logs()


def test_its_user_is_nobody_and_can_write_nothing_but_data(container: Container) -> None:
    container.seconds_to_serving()
    script = """
import os

places = ("/", "/opt/faultlane", "/usr", "/etc", "/var/lib/faultlane")
print([place for place in places if os.access(place, os.W_OK)], os.getuid(), os.getgid())
"""

    assert container.inside("python", "-c", script) == f"['/var/lib/faultlane'] {USER} {USER}"


def test_its_health_check_answers_inside(container: Container) -> None:
    container.seconds_to_serving()

    assert container.health() == "SERVING"


def test_a_client_outside_streams_from_it(container: Container) -> None:
    container.seconds_to_serving()
    with container.client() as client:
        scenario = client.get_preset("first-look").scenario
        with client.run(scenario) as run:
            rows = sum(map(len, run.events()))

            assert rows == run.result().progress.fault_rows > 0


def test_stopping_it_drains_it_and_the_next_one_goes_on(image: str, tmp_path: Path) -> None:
    """What runs is suspended, exit code 0, and simulated to its end on the same volume."""
    scenario = pb.Scenario()
    scenario.CopyFrom(SCENARIO)
    scenario.workload.processes[0].groups[0].program[0].touch.count *= 2
    with running(image, tmp_path) as first:
        first.seconds_to_serving()
        with first.client() as client:
            name = client.submit(scenario).name
        assert first.stop() == 0
        assert "stopped" in first.logs()
    assert {os.stat(path).st_uid for path in tmp_path.rglob("*")} == {USER}

    with running(image, tmp_path) as second, second.client() as client:
        second.seconds_to_serving()
        state = client.get_simulation(name).state
        for news in client.watch_simulation(name):
            state = news.simulation.state

    assert state == SUCCEEDED


def test_it_refuses_to_be_reached_in_plain_text_unless_told(image: str) -> None:
    with pytest.raises(AssertionError, match="--insecure"):
        podman("run", "--rm", *HARDENED, image, "serve", "--host", "0.0.0.0")
