"""The guard of all connections, with connections that do nothing."""

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from perceptd.service.errors import PerceptdError
from perceptd.service.settings import Settings
from perceptd.service.telemetry.metrics import Metrics
from perceptd.service.wire.guard import Guard


class Loop:
    """Runs the callbacks that were scheduled when the test says so."""

    def __init__(self) -> None:
        self.scheduled: list[Callable[[], None]] = []

    def time(self) -> float:
        return 0.0

    def call_later(self, _: float, callback: Callable[..., None], *given: Any) -> None:
        self.scheduled.append(lambda: callback(*given))

    def run(self) -> None:
        due, self.scheduled = self.scheduled, []
        for callback in due:
            callback()


class Idle:
    """A connection that can give way."""

    can_give_way = True

    def __init__(self, loop: Loop, connections: "set[Idle]", since: float) -> None:
        self.loop = cast(asyncio.AbstractEventLoop, loop)
        self.connections = connections
        self.since = since
        self.checks = 0
        self.errors: list[PerceptdError] = []
        connections.add(self)

    def check(self, now: float) -> None:
        self.checks += 1
        raise ValueError("no check")

    def drop(self, reason: str) -> None:
        self.connections.discard(self)

    def turn_away(self, error: PerceptdError) -> None:
        self.errors.append(error)


@pytest.fixture
def guard(tmp_path: Path) -> Guard:
    settings = Settings(data_dir=tmp_path, max_connections=2)
    return Guard(settings, Metrics(tmp_path), threading.Event())


def test_a_fault_in_one_check_ends_no_other_check(
    guard: Guard, caplog: pytest.LogCaptureFixture
) -> None:
    loop, connections = Loop(), set[Idle]()
    both = [Idle(loop, connections, since) for since in (1, 2)]
    for connection in both:
        guard.admit(connection)
    for seconds in (1, 2):
        loop.run()
        assert [connection.checks for connection in both] == [seconds] * 2
    assert "checking a connection failed" in caplog.text
    connections.clear()
    loop.run()
    assert loop.scheduled == []


def test_the_connection_that_is_idle_for_longest_gives_way(guard: Guard) -> None:
    loop, connections = Loop(), set[Idle]()
    first, second, third = (Idle(loop, connections, since) for since in (2, 1, 3))
    guard.admit(third)
    assert connections == {first, third}
    assert second.errors == third.errors == []


def test_a_new_connection_is_turned_away_if_none_can_give_way(guard: Guard) -> None:
    loop, connections = Loop(), set[Idle]()
    *others, new = (Idle(loop, connections, since) for since in (1, 2, 3))
    for other in others:
        other.can_give_way = False
    guard.admit(new)
    assert [str(error) for error in new.errors] == ["no connection can give way now"]
