"""Clients that send slowly, read nothing or send nothing, beside one that is in a hurry."""

import json
import re
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import httpx
import pytest

from tests.raw_http import address_of, connect, more, request, response
from tests.server import unread
from tests.service.served import Served
from tests.service.wire.watching import closed

pytestmark = pytest.mark.reliability

Start = Callable[..., Served]

MANY = 500
HURRY_S = 20.0  # limit for a prediction of some hundred microseconds, on a busy machine
LONG_S = "300"  # a time limit of the server that passes in no test
MANY_ROWS = json.dumps({"model": "xor", "inputs": [[1, -1]] * 1000}).encode()
LARGE = request(MANY_ROWS, "/predict_proba")  # its answer is ten times as long
ROWS = 100_000  # their answer fits into no buffer of a connection
HALVES = {
    "nothing": b"",
    "a head": request()[:60],
    "a body": request()[:-5],
    "a body, for the router": request(lines=["X-Request-Timeout-Ms: 60000"])[:-5],
    "a chunk": b"POST /predict HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
}


@contextmanager
def crowd(url: str, sent: bytes, count: int = MANY) -> Iterator[list[socket.socket]]:
    """So many connections that have all sent the same part of a request."""
    with ExitStack() as opened:
        connections = [opened.enter_context(connect(url)) for _ in range(count)]
        for connection in connections:
            connection.sendall(sent)
        yield connections


def in_a_hurry(client: httpx.Client, path: str = "/predict") -> None:
    """Assert that each of some requests is answered in time."""
    for _ in range(20):
        began = time.monotonic()
        answer = client.post(path, json={"model": "xor", "inputs": [[1, -1]]})
        assert answer.status_code == 200
        assert time.monotonic() - began < HURRY_S


@pytest.mark.parametrize("sent", HALVES.values(), ids=HALVES)
def test_many_incomplete_requests_delay_no_other_client(start: Start, sent: bytes) -> None:
    served = start(PERCEPTD_READ_TIMEOUT_S=LONG_S, PERCEPTD_ACCESS_LOG="0")
    with httpx.Client(base_url=served.url, timeout=30) as client:
        in_a_hurry(client)
        with crowd(served.url, sent):
            in_a_hurry(client)
            in_a_hurry(client)
            assert closed(served.url) == {}


@pytest.mark.parametrize("name", [name for name in HALVES if name != "nothing"])
def test_many_incomplete_requests_time_out(start: Start, name: str) -> None:
    served = start(PERCEPTD_READ_TIMEOUT_S="3", PERCEPTD_ACCESS_LOG="0")
    with httpx.Client(base_url=served.url, timeout=30) as client:
        with crowd(served.url, HALVES[name]) as connections:
            statuses = [connection.recv(12) for connection in connections]
            in_a_hurry(client)
        assert statuses.count(b"HTTP/1.1 408") >= 64
        assert set(statuses) <= {b"HTTP/1.1 408", b""}
        assert closed(served.url) == {"request_timeout": MANY}


def test_a_head_that_arrives_byte_by_byte_times_out(start: Start) -> None:
    served = start(PERCEPTD_READ_TIMEOUT_S="2")
    with connect(served.url) as slow:
        began = time.monotonic()
        slow.settimeout(0.1)
        for letter in request(lines=["X-Note: " + "a" * 2000]):
            try:
                slow.sendall(bytes([letter]))
                if received := slow.recv(65536):
                    break
            except TimeoutError:
                continue
        else:
            pytest.fail("the head did not time out")
    assert received.startswith(b"HTTP/1.1 408")
    assert b'"code": "request_timeout"' in received
    assert time.monotonic() - began >= 2


@contextmanager
def askers(url: str, count: int = 8) -> Iterator[None]:
    """So many clients that send requests and read no answer."""
    with ExitStack() as opened:
        for _ in range(count):
            slow = opened.enter_context(socket.socket())
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            slow.connect(address_of(url))
            slow.settimeout(0.5)
            try:
                for _ in range(2000):
                    slow.sendall(LARGE)  # until the server stops reading
            except (TimeoutError, ConnectionError):  # or drops the connection
                pass
        yield


def test_clients_that_read_nothing_delay_no_other_client(start: Start) -> None:
    served = start(PERCEPTD_WRITE_TIMEOUT_S=LONG_S, PERCEPTD_ACCESS_LOG="0")
    with httpx.Client(base_url=served.url, timeout=30) as client, askers(served.url):
        in_a_hurry(client)
        assert unread(served.url)  # requests
        assert closed(served.url) == {}


def test_clients_that_read_nothing_are_dropped(start: Start) -> None:
    served = start(PERCEPTD_WRITE_TIMEOUT_S="3", PERCEPTD_ACCESS_LOG="0")
    with httpx.Client(base_url=served.url, timeout=30) as client, askers(served.url):
        served.eventually(lambda: closed(served.url).get("write_timeout") == 8, "8 are dropped")
        in_a_hurry(client)
    assert '"level":"error"' not in served.log.read_text()


def reads_nothing(url: str, ends: str) -> socket.socket:
    """A client that leaves a large answer unread, which may be the last of its connection."""
    question = json.dumps({"model": "xor", "inputs": [[1, -1]] * ROWS}).encode()
    asked = request(question, "/predict_proba", ["Connection: close"] * (ends == "close"))
    if ends == "HTTP/1.0":
        asked = asked.replace(b"HTTP/1.1", b"HTTP/1.0", 1)
    slow = socket.socket()
    slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    slow.settimeout(60)
    slow.connect(address_of(url))
    slow.sendall(asked)
    assert slow.recv(12) == b"HTTP/1.1 200"
    return slow


@pytest.mark.parametrize("ends", ["close", "HTTP/1.0"])
def test_clients_that_read_nothing_of_a_last_answer_are_dropped(start: Start, ends: str) -> None:
    served = start(PERCEPTD_MAX_ROWS=str(ROWS), PERCEPTD_WRITE_TIMEOUT_S="2")
    with reads_nothing(served.url, ends), reads_nothing(served.url, ends):
        served.eventually(
            lambda: closed(served.url).get("write_timeout") == 2, "both are dropped", seconds=20
        )


def test_a_client_that_reads_nothing_of_a_last_answer_gives_way(start: Start) -> None:
    served = start(PERCEPTD_MAX_ROWS=str(ROWS), PERCEPTD_MAX_CONNECTIONS="2")

    def one_gave_way() -> bool:
        with suppress(httpx.TransportError):  # a new client is turned away until one gives way
            return closed(served.url).get("gave_way") == 1
        return False

    with reads_nothing(served.url, "close"), reads_nothing(served.url, "close"):
        served.eventually(one_gave_way, "one gives way")


def resident_bytes(pid: int) -> int:
    """The memory that a process uses."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.findall(r"VmRSS:\s+(\d+) kB", status)[0]) * 1024


@pytest.mark.parametrize("lines", [[], ["X-Request-Timeout-Ms: 60000"]], ids=["fast", "router"])
def test_many_incomplete_bodies_take_no_more_memory_than_allowed(
    start: Start, lines: list[str]
) -> None:
    allowed = 32 * 2**20
    served = start(PERCEPTD_MAX_BYTES_IN_FLIGHT=str(allowed), PERCEPTD_READ_TIMEOUT_S=LONG_S)
    process = served.server(1)
    large = request(b"a" * 4 * 2**20, lines=lines)[:-1]
    with httpx.Client(base_url=served.url, timeout=30) as client, ExitStack() as opened:
        in_a_hurry(client)
        before = resident_bytes(process)
        waiting = [opened.enter_context(connect(served.url)) for _ in range(100)]
        for connection in waiting:
            connection.sendall(large)
            assert resident_bytes(process) - before < 4 * allowed, "of 400 MB"
        in_a_hurry(client)
        refused = closed(served.url)["too_many_bytes"]
        assert refused >= len(waiting) - allowed // len(large) - 1
        assert response(waiting[0]).code == "too_many_bytes"
    assert '"level":"error"' not in served.log.read_text()


def test_a_head_over_the_limit_is_refused_however_it_is_split(start: Start) -> None:
    served = start(PERCEPTD_MAX_HEADER_BYTES="4096")
    heads = {
        "a long address": request(path="/predict?" + "a" * 5000),
        "a long header": request(lines=["X-Note: " + "a" * 5000]),
        "many headers": request(lines=[f"X-{number}: a" for number in range(1000)]),
        "no end": b"POST /predict HTTP/1.1\r\nX-Note: " + b"a" * 600_000,
        "no end of headers": b"POST /predict HTTP/1.1\r\n" + b"X-Note: a\r\n" * 60_000,
    }
    for name, head in heads.items():
        for piece in (1000, len(head)):
            with connect(served.url) as client:
                try:
                    for start_at in range(0, len(head), piece):
                        client.sendall(head[start_at : start_at + piece])
                except ConnectionError:
                    pass
                answer = response(client)
                assert (answer.status, answer.code) == (431, "headers_too_large"), (name, piece)
                assert answer.headers["connection"] == "close"
                assert answer.headers["x-request-id"]
    with connect(served.url) as client:
        client.sendall(request(lines=["X-Note: " + "a" * 3000]))
        assert response(client).status == 200


def test_the_limit_of_a_head_ignores_other_requests_in_its_piece(start: Start) -> None:
    served = start(PERCEPTD_MAX_HEADER_BYTES="1024")
    with connect(served.url) as client:
        client.sendall(request() * 100 + request()[:50])
        received = b""
        while received.count(b'"predictions"') < 100:
            received += more(client)
        client.sendall(request()[50:])
        assert more(client).startswith(b"HTTP/1.1 200")


def test_a_client_that_reads_its_answer_does_not_give_way(start: Start) -> None:
    served = start(PERCEPTD_MAX_ROWS=str(ROWS), PERCEPTD_MAX_CONNECTIONS="1")

    def was_in_time() -> bool:
        with reads_nothing(served.url, "never") as taking, connect(served.url) as new:
            began = time.monotonic()
            new.sendall(request())
            answer = response(new)
            if time.monotonic() - began >= 1:
                return False  # by then it may give way
            assert (answer.status, answer.code) == (503, "too_many_connections")
            received = more(taking)
            while not received.endswith(b"]}"):
                received += more(taking)
            assert received.count(b'"label"') == ROWS
            return True

    served.eventually(was_in_time, "the new connection comes in time")


def test_a_refused_connection_counts_no_more(start: Start) -> None:
    served = start(PERCEPTD_MAX_CONNECTIONS="1", PERCEPTD_MAX_BATCH_TIME_MS="500")

    def was_in_time() -> bool:
        with ExitStack() as opened:
            first = opened.enter_context(connect(served.url))
            began = time.monotonic()
            first.sendall(request())
            served.eventually(lambda: unread(served.url) == 0, "the request is read")
            refused = opened.enter_context(connect(served.url))
            refused.sendall(request())
            status = response(refused).status
            if time.monotonic() - began >= 0.5:
                return False  # the first may have been answered and have given way
            assert status == 503
            assert response(first).status == 200
            first.close()
            new = opened.enter_context(connect(served.url))
            new.sendall(b"GET /health/live HTTP/1.1\r\nHost: here\r\n\r\n")
            status = response(new).status
            if time.monotonic() - began >= 1:
                return False  # the refused one may be closed
            assert status == 200
            return True

    served.eventually(was_in_time, "the new connection comes in time")
