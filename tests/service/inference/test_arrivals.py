"""Connections that have just arrived, whose requests belong into the next batch."""

import asyncio
import socket
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from perceptd.service.inference.answers import Answer, Rows
from perceptd.service.inference.arrivals import Arrivals
from perceptd.service.inference.batcher import Batcher
from perceptd.service.inference.pending import NO_CALLER

ROW = np.zeros((1, 2), np.float32)
LIMITS: dict[str, Any] = {"max_batch_size": 8, "max_batch_time_s": 0, "max_queue_size": 100}


def answer(rows: Rows) -> Answer:
    return Answer(np.zeros(len(rows), np.intp), rows)


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as opened:
        yield opened


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Sets how long a batch waits for connections, which have a minute to speak."""

    def set_to(seconds: float) -> None:
        monkeypatch.setattr("perceptd.service.inference.arrivals.GRACE_S", 60)
        monkeypatch.setattr("perceptd.service.inference.batcher.ARRIVALS_S", seconds)

    return set_to


def test_a_connection_is_expected_to_speak_until_it_does() -> None:
    arrivals = Arrivals()
    assert not arrivals.expected()
    arrivals.accepted()
    arrivals.accepted()
    assert arrivals.expected()
    arrivals.spoke()
    assert arrivals.expected()
    arrivals.spoke()
    assert not arrivals.expected()


def test_a_connection_that_says_nothing_is_not_expected_for_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("perceptd.service.inference.arrivals.GRACE_S", 0)
    arrivals = Arrivals()
    arrivals.accepted()
    assert not arrivals.expected()
    arrivals.spoke()  # after all
    assert not arrivals.expected()


def test_what_waits_is_accepted(listener: socket.socket) -> None:
    accepted: list[list[socket.socket]] = []
    arrivals = Arrivals()
    arrivals.accept()
    arrivals.listen([listener], accepted.append)
    arrivals.accept()
    assert accepted == []
    with socket.create_connection(listener.getsockname()):
        arrivals.accept()
        assert accepted == [[listener]]


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_connections_are_accepted_before_a_batch_which_no_fault_prevents(
    listener: socket.socket, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(listeners: list[socket.socket]) -> None:
        raise OSError("no file is free")

    arrivals = Arrivals()
    arrivals.listen([listener], broken)
    batcher = Batcher(answer, None, **LIMITS, arrivals=arrivals)
    with socket.create_connection(listener.getsockname()):
        assert len((await batcher.submit(ROW, NO_CALLER)).indices) == 1
    assert "accepting connections failed" in caplog.text


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_batch_waits_for_a_connection_that_has_just_arrived(
    limits: Callable[[float], None],
) -> None:
    limits(60)
    batches: list[int] = []

    def run(rows: Rows) -> Answer:
        batches.append(len(rows))
        return answer(rows)

    arrivals = Arrivals()
    batcher = Batcher(run, None, **LIMITS, arrivals=arrivals)
    arrivals.accepted()
    waiting = [batcher.submit(ROW, NO_CALLER)]
    for _ in range(20):
        await asyncio.sleep(0)
    assert batches == []
    arrivals.spoke()
    waiting.append(batcher.submit(ROW, NO_CALLER))
    await asyncio.gather(*waiting)
    assert batches == [2]


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_batch_waits_for_no_arrival_longer_than_its_limit(
    limits: Callable[[float], None],
) -> None:
    limits(0)
    arrivals = Arrivals()
    arrivals.accepted()  # and says nothing
    batcher = Batcher(answer, None, **LIMITS, arrivals=arrivals)
    assert len((await batcher.submit(ROW, NO_CALLER)).indices) == 1
    assert arrivals.expected()
