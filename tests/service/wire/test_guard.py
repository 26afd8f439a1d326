"""The guard of all connections, with connections that do nothing."""

import asyncio
import threading
from pathlib import Path

import pytest

from perceptd.service.errors import PerceptdError
from perceptd.service.inference.arrivals import Arrivals
from perceptd.service.settings import Settings
from perceptd.service.telemetry.metrics import Metrics
from perceptd.service.wire.guard import Guard


class Idle:
    """A connection that can give way."""

    can_give_way = is_incomplete = True
    is_turned_away = outlives_close = False

    def __init__(self, since: float, bytes_held: int = 0) -> None:
        self.since = since
        self.bytes_held = bytes_held
        self.checks = 0
        self.dropped: list[str] = []
        self.errors: list[PerceptdError] = []

    def check(self, now: float) -> None:
        self.checks += 1
        raise ValueError("no check")

    def hand_to(self, server: asyncio.BaseProtocol) -> None:
        raise NotImplementedError

    def drop(self, reason: str) -> None:
        self.dropped.append(reason)

    def turn_away(self, error: PerceptdError) -> None:
        self.errors.append(error)
        self.is_turned_away = True


class Arriving(Idle):
    """A connection with a large body, half of what all may hold."""

    def __init__(self, guard: Guard, since: float) -> None:
        super().__init__(since, bytes_held=guard.max_bytes // 2)
        self.guard = guard
        guard.connections.add(self)
        guard.bytes_held += self.bytes_held

    def turn_away(self, error: PerceptdError) -> None:
        super().turn_away(error)
        self.guard.free(self)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def guard_of(settings: Settings) -> Guard:
    shared = (Metrics(settings.data_dir), threading.Event(), Arrivals())
    return Guard(settings, *shared, settings.max_connections, keep_alive_s=75)


@pytest.fixture
def guard(tmp_path: Path) -> Guard:
    settings = Settings(
        data_dir=tmp_path,
        max_connections=2,
        max_body_bytes=2**20,
        max_header_bytes=1024,
        max_bytes_in_flight=2**21,
    )
    return guard_of(settings)


@pytest.mark.anyio
async def test_a_fault_in_one_check_ends_no_other_check(
    guard: Guard, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("perceptd.service.wire.guard.CHECK_S", 0)
    both = [Idle(since) for since in (1, 2)]
    for connection in both:
        guard.admit(connection)
    for checks in (1, 2):
        for _ in range(4):
            await asyncio.sleep(0)
        assert min(connection.checks for connection in both) >= checks
    assert "checking a connection failed" in caplog.text


@pytest.mark.anyio
async def test_checks_end_with_the_last_connection(
    guard: Guard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("perceptd.service.wire.guard.CHECK_S", 0)
    first, second = Idle(1), Idle(2)
    for connection in (first, second):
        guard.admit(connection)
        guard.forget(connection)
        for _ in range(4):
            await asyncio.sleep(0)
        assert connection.checks == 0
    guard.admit(second)
    for _ in range(4):
        await asyncio.sleep(0)
    assert second.checks > 0


@pytest.mark.anyio
async def test_the_connection_that_is_idle_for_longest_gives_way(guard: Guard) -> None:
    first, second, third = (Idle(since) for since in (2, 1, 3))
    for connection in (first, second, third):
        guard.admit(connection)
    assert second.dropped == ["gave_way"]
    assert first.dropped == third.dropped == []
    assert second.errors == third.errors == []


@pytest.mark.anyio
async def test_a_new_connection_is_turned_away_if_none_can_give_way(guard: Guard) -> None:
    *others, new = (Idle(since) for since in (1, 2, 3))
    for other in others:
        other.can_give_way = False
        guard.admit(other)
    guard.admit(new)
    assert [str(error) for error in new.errors] == ["no connection can give way now"]


def test_the_body_that_is_incomplete_for_longest_gives_way(guard: Guard) -> None:
    first, second, answered, newest = arriving = [Arriving(guard, since) for since in (2, 1, 0, 3)]
    answered.is_incomplete = False
    guard.relieve(newest)
    assert [one for one in arriving if one.errors] == [first, second]
    assert guard.bytes_held == guard.max_bytes
    guard.relieve(newest)
    assert not newest.errors


def test_the_newest_gives_way_if_no_other_body_is_incomplete(guard: Guard) -> None:
    arriving = [Arriving(guard, since) for since in (0, 1, 2)]
    for one in arriving:
        one.is_incomplete = False
    guard.relieve(arriving[-1])
    assert [one for one in arriving if one.errors] == arriving[-1:]


def test_one_whole_request_always_has_room(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, max_body_bytes=2**22, max_bytes_in_flight=2**20)
    guard = guard_of(settings)
    assert guard.max_bytes == 2 * settings.max_body_bytes + settings.max_header_bytes
