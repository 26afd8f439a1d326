"""One connection, with a protocol that notes what it is given."""

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from perceptd.service.api.callers import KEY
from perceptd.service.errors import TooManyConnectionsError
from perceptd.service.inference.arrivals import Arrivals
from perceptd.service.settings import Settings
from perceptd.service.telemetry.metrics import Metrics
from perceptd.service.wire.connections import Connection, State
from perceptd.service.wire.guard import Guard
from tests.raw_http import request

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Server(asyncio.Protocol):
    """What uvicorn's protocol sees."""

    def __init__(self, app_state: dict[str, Any]) -> None:
        self.state = app_state
        self.given: list[bytes] = []
        self.is_lost = False

    def data_received(self, data: bytes) -> None:
        self.given.append(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_lost = True


class Wire(asyncio.Transport):
    """A transport without a socket."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = b""
        self.reads = True
        self.is_aborted = False

    def write(self, data: "bytes | bytearray | memoryview") -> None:
        self.sent += bytes(data)

    def write_eof(self) -> None: ...

    def can_write_eof(self) -> bool:
        return True

    def pause_reading(self) -> None:
        self.reads = False

    def resume_reading(self) -> None:
        self.reads = True

    def is_closing(self) -> bool:
        return self.is_aborted

    def get_write_buffer_size(self) -> int:
        return 0

    def abort(self) -> None:
        self.is_aborted = True


class Opened:
    """A connection, what is below it, and what is above it."""

    def __init__(self, folder: Path) -> None:
        settings = Settings(data_dir=folder)
        self.guard = Guard(
            settings,
            Metrics(folder),
            threading.Event(),
            Arrivals(),
            settings.max_connections,
            keep_alive_s=9,
        )
        kind = type("Opened", (Connection,), {"guard": self.guard, "serves": Server})
        self.connection: Connection = kind(app_state={})
        self.server: Server = self.connection._server
        self.wire = Wire()
        self.connection.connection_made(self.wire)


@pytest.fixture
async def opened(tmp_path: Path) -> Opened:
    return Opened(tmp_path)


async def test_overlapping_requests_give_back_a_share_of_their_bytes_each(opened: Opened) -> None:
    connection, guard = opened.connection, opened.guard
    connection.data_received(PREFACE + b"a" * 900)
    assert connection.state is State.STREAMS
    for _ in range(3):
        connection.begin()
    held = [guard.bytes_held]
    connection.data_received(b"b" * 100)
    for _ in range(3):
        connection.end()
        held.append(guard.bytes_held)
    whole = len(PREFACE) + 1000
    assert held[0] == len(PREFACE) + 900
    assert held[1] == whole - whole // 3
    assert held[1] > held[2] > held[3] == 0
    assert connection.bytes_held == 0
    assert connection.is_incomplete


async def test_bytes_are_held_until_the_answer(opened: Opened) -> None:
    connection, guard = opened.connection, opened.guard
    asked = request()
    connection.data_received(asked[:30])
    assert guard.bytes_held == 0, "a head is limited by itself"
    connection.data_received(asked[30:] + asked[:40])
    assert guard.bytes_held == connection.bytes_held == len(asked) + 40
    connection.begin()
    assert guard.bytes_held == len(asked) + 40
    connection.end()
    assert guard.bytes_held == 0
    connection.data_received(asked[40:-5])
    assert guard.bytes_held == len(asked) - 5
    connection.connection_lost(None)
    assert guard.bytes_held == 0
    assert not guard.connections


async def test_one_request_after_the_other_is_passed_on(opened: Opened) -> None:
    connection, server = opened.connection, opened.server
    first, second = request(), request(path="/predict_proba")
    connection.data_received(first + second)
    assert server.given == [first]
    assert not opened.wire.reads
    connection.begin()
    connection.end()
    assert server.given == [first, second]
    assert opened.wire.reads
    assert server.state[KEY] is connection


async def test_the_states_of_a_request(opened: Opened) -> None:
    connection, asked = opened.connection, request()
    states = [connection.state]
    for piece in (b"\r\n", asked[:10], asked[10:-5], asked[-5:]):
        connection.data_received(piece)
        states.append(connection.state)
    connection.begin()
    connection.end()
    states.append(connection.state)
    assert states == [
        State.IDLE, State.IDLE, State.HEAD, State.BODY, State.ANSWER, State.IDLE
    ]  # fmt: skip
    connection.data_received(asked[:-5])
    connection.begin()
    connection.end()
    assert connection.state is State.REST
    connection.data_received(asked[-5:])
    assert connection.state.name == State.IDLE.name


async def test_who_is_turned_away_tells_its_server_and_is_passed_on_nothing(
    opened: Opened,
) -> None:
    connection, server = opened.connection, opened.server
    asked = request()
    connection.data_received(asked[:-5])
    connection.turn_away(TooManyConnectionsError("no room"))
    connection.data_received(asked[-5:])
    connection.link.write(b"an answer")
    assert server.is_lost
    assert server.given == [asked[:-5]]
    assert opened.wire.sent.startswith(b"HTTP/1.1 503 ")
    assert b"an answer" not in opened.wire.sent
    assert opened.guard.bytes_held == 0


async def test_an_answer_that_has_begun_is_cut_off(opened: Opened) -> None:
    connection = opened.connection
    connection.data_received(request()[:-5])
    connection.begin()
    connection.link.write(b"HTTP/1.1 200 OK\r\n")
    connection.turn_away(TooManyConnectionsError("no room"))
    assert opened.wire.sent == b"HTTP/1.1 200 OK\r\n"
    assert opened.wire.is_aborted
