"""Logs go when they are old or too much, and what is left says what has gone."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import grpc
import pytest
from google.rpc import error_details_pb2 as details

from faultlane.v1 import simulation_service_pb2 as pb
from faultlane.v1.simulation_pb2 import RunOptions, Simulation, SimulationState
from faultlane_server.runs import DiskLimits, Limits
from tests.service.fake import (
    SUMMARY,
    FakeSimulator,
    Peer,
    Servers,
    Steady,
    an_engine,
    create,
    delete,
    detail,
    get,
    knows_owners,
    reason,
    refused,
    run,
    starts,
    starts_of_run,
    status_of,
)

DAY_S = 24 * 3600
RUN_BYTES = 3000 * 230  # about what the logs of three slices take


def limits(sweep_s: float = 0.01, **of_disk: float) -> Limits:
    return Limits(workers=1, disk=DiskLimits(**of_disk), sweep_s=sweep_s)  # type: ignore[arg-type]


def wait_until_expired(peer: Peer, name: str) -> None:
    """The server looks every 10 ms."""
    for _ in range(2000):
        if get(peer, name).log_expired:
            return
    raise AssertionError("it did not expire")


def test_a_log_goes_when_it_is_old_and_says_from_where_on_it_can_be_read(servers: Servers) -> None:
    time = Steady()
    server = servers.server(limits=limits(retain_s=30 * DAY_S), clock=time.clock())
    peer = servers.peer(server.address)
    name = run(peer).name
    time.go_on(29 * DAY_S)
    young = run(peer, seed=2).name

    time.go_on(2 * DAY_S)

    wait_until_expired(peer, name)
    for offset in (0, 2999):
        error = refused(partial(starts, peer, name, offset))
        assert error.code() == grpc.StatusCode.OUT_OF_RANGE
        assert reason(error) == "LOG_EXPIRED"
        assert detail(error, details.ErrorInfo).metadata["earliest_offset"] == "3000"
    assert starts(peer, name, offset=3000) == []
    left = get(peer, name)
    assert left.state == SimulationState.SIMULATION_STATE_SUCCEEDED
    assert left.summary.fingerprint == SUMMARY.fingerprint
    assert left.progress.fault_rows == 3000
    assert starts(peer, young) == starts_of_run(3, seed=2)
    assert len(list(server.directory.glob("logs/*"))) == 1


def test_an_expired_log_is_made_again_for_an_equal_simulation(servers: Servers) -> None:
    time = Steady()
    peer = servers.start(limits=limits(retain_s=DAY_S), clock=time.clock())
    name = run(peer).name
    time.go_on(2 * DAY_S)
    wait_until_expired(peer, name)

    assert starts(peer, run(peer).name) == starts_of_run(3)


def test_a_log_that_is_shared_anew_is_young_again(servers: Servers) -> None:
    time = Steady()
    peer = servers.start(limits=limits(retain_s=30 * DAY_S), clock=time.clock())
    old, other = run(peer).name, run(peer, seed=2).name
    time.go_on(20 * DAY_S)
    create(peer)

    time.go_on(20 * DAY_S)

    wait_until_expired(peer, other)
    assert starts(peer, old) == starts_of_run(3)


def test_setting_the_clock_of_the_machine_lets_nothing_go(servers: Servers) -> None:
    """Neither is a simulation older than it is, nor does it end before it begins."""
    time = Steady()
    peer = servers.start(limits=limits(retain_s=DAY_S), clock=time.clock())
    first = run(peer)
    time.wall_ns += 400 * DAY_S * 10**9
    second = run(peer, seed=2)
    time.wall_ns -= 800 * DAY_S * 10**9

    third = run(peer, seed=3)

    moments = [
        moment.ToNanoseconds()
        for each in (first, second, third)
        for moment in (each.create_time, each.start_time, each.end_time)
    ]
    assert moments == sorted(moments)
    assert max(moments) - min(moments) < DAY_S * 10**9
    assert not any(get(peer, each.name).log_expired for each in (first, second, third))


def test_a_clock_that_was_set_back_before_a_restart_goes_on_from_where_it_was(
    servers: Servers, tmp_path: Path
) -> None:
    time = Steady()
    server = servers.server(directory=tmp_path, clock=time.clock())
    before = run(servers.peer(server.address))
    server.close()
    time.wall_ns -= 100 * DAY_S * 10**9

    after = run(servers.start(directory=tmp_path, clock=time.clock()), seed=2)

    assert after.create_time.ToNanoseconds() >= before.end_time.ToNanoseconds()


def test_of_too_many_bytes_those_go_that_were_used_the_longest_ago(servers: Servers) -> None:
    peer = servers.start(limits=limits(retain_bytes=int(2.5 * RUN_BYTES)))
    names = [run(peer, seed=seed).name for seed in range(1, 5)]

    for name in names[:2]:
        wait_until_expired(peer, name)

    assert [get(peer, name).log_expired for name in names] == [True, True, False, False]


def test_of_too_many_simulations_the_oldest_are_forgotten(servers: Servers) -> None:
    server = servers.server(limits=limits(retain_simulations=2, sweep_s=0.01))
    peer = servers.peer(server.address)
    names = [run(peer, seed=seed, request_id=str(seed)).name for seed in range(1, 5)]

    for name in names[:2]:
        while peer_knows(peer, name):
            pass

    assert [peer_knows(peer, name) for name in names] == [False, False, True, True]
    assert len(list(server.directory.glob("logs/*"))) == 2


def peer_knows(peer: Peer, name: str) -> bool:
    try:
        get(peer, name)
    except grpc.RpcError as error:
        return error.code() != grpc.StatusCode.NOT_FOUND
    return True


def test_a_full_disk_quota_refuses_until_something_is_deleted(servers: Servers) -> None:
    peer = servers.start(limits=limits(bytes_max=RUN_BYTES // 2))
    name = run(peer, options=RunOptions(skip_cache=True)).name

    error = refused(lambda: create(peer, seed=2))

    assert (error.code(), reason(error)) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "DISK_FULL")
    assert detail(error, details.RetryInfo).retry_delay.seconds >= 1
    assert "logs take" in status_of(error).message
    assert create(peer).state == SimulationState.SIMULATION_STATE_SUCCEEDED  # of the same log
    for each in [name, *[s.name for s in listed(peer) if s.name != name]]:
        delete(peer, each)
    assert run(peer, seed=2).state == SimulationState.SIMULATION_STATE_SUCCEEDED


def listed(peer: Peer) -> Sequence[Simulation]:
    return peer.simulations.ListSimulations(pb.ListSimulationsRequest()).simulations


def test_old_logs_go_before_anybody_is_refused(servers: Servers) -> None:
    peer = servers.start(limits=limits(bytes_max=RUN_BYTES // 2, retain_bytes=0, sweep_s=3600))
    name = run(peer).name

    assert run(peer, seed=2).state == SimulationState.SIMULATION_STATE_SUCCEEDED
    assert get(peer, name).log_expired


def test_a_run_that_fills_the_quota_fails_and_harms_no_other(servers: Servers) -> None:
    time = Steady()
    slices = iter([3, 60, 3])
    engine = an_engine()
    short_and_long = engine._replace(
        simulator=lambda scenario: FakeSimulator(scenario, next(slices), lambda _: time.go_on(1))
    )
    peer = servers.start(short_and_long, limits(bytes_max=10 * RUN_BYTES), clock=time.clock())
    before = run(peer).name

    failed = run(peer, seed=2)

    assert failed.error.reason == "DISK_QUOTA"
    rows = starts(peer, failed.name)
    assert rows == starts_of_run(60, seed=2)[: len(rows)]
    assert 20_000 < failed.progress.fault_rows == len(rows) < 40_000
    assert starts(peer, before) == starts_of_run(3)
    delete(peer, failed.name)
    assert run(peer, seed=3).state == SimulationState.SIMULATION_STATE_SUCCEEDED


def test_each_owner_has_a_quota_of_his_own(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A log that owners share counts for each of them."""
    knows_owners(monkeypatch)
    server = servers.server(limits=limits(owner_bytes_max=int(0.9 * RUN_BYTES)))
    alice, bob = (servers.peer(server.address, owner) for owner in ("alice", "bob"))
    run(alice)

    assert reason(refused(lambda: create(alice, seed=2))) == "DISK_FULL"

    his = create(bob).name
    assert reason(refused(lambda: create(bob, seed=2))) == "DISK_FULL"
    delete(bob, his)
    assert run(bob, seed=2).state == SimulationState.SIMULATION_STATE_SUCCEEDED


def test_a_disk_that_is_nearly_full_takes_no_log(servers: Servers) -> None:
    peer = servers.start(limits=limits(free_bytes_min=1 << 60))

    error = refused(lambda: create(peer))

    assert reason(error) == "DISK_FULL"
    assert "kept free" in status_of(error).message
