"""Clients that send slowly, take nothing or say nothing, beside one that is in a hurry."""

import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress

import httpx
import pytest

from tests.raw_http import address_of, connect, more, request, response
from tests.server import unread
from tests.service.served import Served
from tests.waiting import eventually

pytestmark = pytest.mark.reliability

Start = Callable[..., Served]

MANY = 500
HURRY_S = 20.0  # for a prediction of some hundred microseconds, on a busy machine
FOR_LONG_S = "300"  # a time limit of the server that would not free who is held up by then
MANY_ROWS = json.dumps({"model": "xor", "inputs": [[1, -1]] * 1000}).encode()
LARGE = request(MANY_ROWS, "/predict_proba")  # its answer is some ten times as long
ROWS = 100_000  # the answer to which no buffer of a connection holds
HALVES = {
    "nothing": b"",
    "a head": request()[:60],
    "a body": request()[:-5],
    "a body, the ordinary way": request(lines=["X-Request-Timeout-Ms: 60000"])[:-5],
    "a chunk": b"POST /predict HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
}


@contextmanager
def crowd(url: str, sent: bytes, count: int = MANY) -> Iterator[list[socket.socket]]:
    """So many connections that have sent the same, and nothing more."""
    with ExitStack() as opened:
        connections = [opened.enter_context(connect(url)) for _ in range(count)]
        for connection in connections:
            connection.sendall(sent)
        yield connections


def in_a_hurry(client: httpx.Client, path: str = "/predict") -> None:
    """Each of some requests is answered within its time."""
    for _ in range(20):
        began = time.monotonic()
        answer = client.post(path, json={"model": "xor", "inputs": [[1, -1]]})
        assert answer.status_code == 200
        assert time.monotonic() - began < HURRY_S


def closed(served: Served) -> dict[str, float]:
    """How many connections the server has ended, by reason."""
    text = httpx.get(f"{served.url}/metrics", timeout=HURRY_S).text
    lines = [line for line in text.splitlines() if line.startswith("perceptd_connections_closed")]
    return {line.split('"')[1]: float(line.split()[-1]) for line in lines}


@pytest.mark.parametrize("sent", HALVES.values(), ids=HALVES)
def test_half_a_request_from_many_holds_nobody_up(start: Start, sent: bytes) -> None:
    served = start(PERCEPTD_READ_TIMEOUT_S=FOR_LONG_S, PERCEPTD_ACCESS_LOG="0")
    with httpx.Client(base_url=served.url, timeout=30) as client:
        in_a_hurry(client)
        with crowd(served.url, sent):
            in_a_hurry(client)
            in_a_hurry(client)
            assert closed(served) == {}


@pytest.mark.parametrize("name", [name for name in HALVES if name != "nothing"])
def test_half_a_request_from_many_is_waited_for_no_longer_than_it_may_take(
    start: Start, name: str
) -> None:
    served = start(PERCEPTD_READ_TIMEOUT_S="3", PERCEPTD_ACCESS_LOG="0")
    with httpx.Client(base_url=served.url, timeout=30) as client:
        with crowd(served.url, HALVES[name]) as connections:
            told = [connection.recv(12) for connection in connections]
            in_a_hurry(client)
        assert told.count(b"HTTP/1.1 408") >= 64
        assert set(told) <= {b"HTTP/1.1 408", b""}
        assert closed(served) == {"request_timeout": MANY}


def test_a_head_that_arrives_letter_by_letter_has_no_more_time(start: Start) -> None:
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
            pytest.fail("it was listened to for ever")
    assert received.startswith(b"HTTP/1.1 408")
    assert b'"code": "request_timeout"' in received
    assert time.monotonic() - began >= 2


@contextmanager
def askers(url: str, count: int = 8) -> Iterator[None]:
    """So many clients that ask on and on, and take no answer."""
    with ExitStack() as opened:
        for _ in range(count):
            slow = opened.enter_context(socket.socket())
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            slow.connect(address_of(url))
            slow.settimeout(0.5)
            try:
                for _ in range(2000):
                    slow.sendall(LARGE)  # until the server reads no more of it either
            except (TimeoutError, ConnectionError):  # or has dropped it by then
                pass
        yield


def test_who_takes_nothing_holds_nobody_up(start: Start) -> None:
    served = start(PERCEPTD_WRITE_TIMEOUT_S=FOR_LONG_S, PERCEPTD_ACCESS_LOG="0")
    with httpx.Client(base_url=served.url, timeout=30) as client, askers(served.url):
        in_a_hurry(client)
        assert unread(served.url)  # of what they ask, still
        assert closed(served) == {}


def test_who_takes_nothing_is_dropped(start: Start) -> None:
    served = start(PERCEPTD_WRITE_TIMEOUT_S="3", PERCEPTD_ACCESS_LOG="0")
    with httpx.Client(base_url=served.url, timeout=30) as client, askers(served.url):
        eventually(lambda: closed(served).get("write_timeout") == 8)
        in_a_hurry(client)
    assert '"level":"error"' not in served.log.read_text()


def takes_nothing(url: str, ends: str) -> socket.socket:
    """A client of a last answer that fits into no buffer; the server closes its end of it."""
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
def test_who_takes_nothing_of_a_last_answer_is_dropped_too(start: Start, ends: str) -> None:
    served = start(PERCEPTD_MAX_ROWS=str(ROWS), PERCEPTD_WRITE_TIMEOUT_S="2")
    with takes_nothing(served.url, ends), takes_nothing(served.url, ends):
        eventually(lambda: closed(served).get("write_timeout") == 2, seconds=20)


def test_who_takes_nothing_of_a_last_answer_gives_way(start: Start) -> None:
    served = start(PERCEPTD_MAX_ROWS=str(ROWS), PERCEPTD_MAX_CONNECTIONS="2")

    def one_gave_way() -> bool:
        with suppress(httpx.TransportError):  # until it is seen that they take nothing,
            return closed(served).get("gave_way") == 1  # who asks is turned away himself
        return False

    with takes_nothing(served.url, "close"), takes_nothing(served.url, "close"):
        eventually(one_gave_way)


def test_a_head_has_a_limit_in_whatever_pieces_it_comes(start: Start) -> None:
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


def test_many_requests_in_one_piece_are_no_long_head(start: Start) -> None:
    served = start(PERCEPTD_MAX_HEADER_BYTES="1024")
    with connect(served.url) as client:
        client.sendall(request() * 100 + request()[:50])
        received = b""
        while received.count(b'"predictions"') < 100:
            received += more(client)
        client.sendall(request()[50:])
        assert more(client).startswith(b"HTTP/1.1 200")


def test_the_longest_idle_connection_gives_way_to_a_new_one(start: Start) -> None:
    served = start(
        PERCEPTD_MAX_CONNECTIONS="20", PERCEPTD_ACCESS_LOG="0", PERCEPTD_READ_TIMEOUT_S="300"
    )
    with connect(served.url) as eldest:
        eldest.sendall(request())
        assert response(eldest).status == 200
        time.sleep(0.05)  # the loop's clock tells milliseconds
        with crowd(served.url, request()[:40], 19):
            for number in range(10):
                with connect(served.url) as newcomer:
                    newcomer.sendall(request())
                    assert response(newcomer).status == 200, number
        assert eldest.recv(1) == b""
    assert closed(served)["gave_way"] >= 1


def test_where_nobody_can_give_way_a_newcomer_is_told_to_come_again(start: Start) -> None:
    wait_s = 1  # of a request for company, the longest that there is
    served = start(PERCEPTD_MAX_CONNECTIONS="4", PERCEPTD_MAX_BATCH_TIME_MS=str(wait_s * 1000))

    def came_in_time() -> bool:
        with ExitStack() as opened:
            waiting = [opened.enter_context(connect(served.url)) for _ in range(4)]
            began = time.monotonic()
            for client in waiting:
                client.sendall(request())
            eventually(lambda: unread(served.url) == 0)
            newcomer = opened.enter_context(connect(served.url))
            newcomer.sendall(request())
            answer = response(newcomer)
            if time.monotonic() - began >= wait_s:
                return False  # on a busy machine the others may have been answered by then
            assert (answer.status, answer.code) == (503, "too_many_connections")
            assert answer.headers["retry-after"] == "1"
            assert newcomer.recv(1) == b""
            assert [response(client).status for client in waiting] == [200] * 4
            return True

    eventually(came_in_time)


def test_who_still_takes_an_answer_gives_no_way(start: Start) -> None:
    served = start(PERCEPTD_MAX_ROWS=str(ROWS), PERCEPTD_MAX_CONNECTIONS="1")

    def came_in_time() -> bool:
        with takes_nothing(served.url, "never") as taking, connect(served.url) as newcomer:
            began = time.monotonic()
            newcomer.sendall(request())
            answer = response(newcomer)
            if time.monotonic() - began >= 1:
                return False  # which is as long as it may take nothing
            assert (answer.status, answer.code) == (503, "too_many_connections")
            received = more(taking)
            while not received.endswith(b"]}"):
                received += more(taking)
            assert received.count(b'"label"') == ROWS
            return True

    eventually(came_in_time)


def test_who_was_turned_away_takes_nobodys_place(start: Start) -> None:
    served = start(PERCEPTD_MAX_CONNECTIONS="1", PERCEPTD_MAX_BATCH_TIME_MS="500")

    def came_in_time() -> bool:
        with ExitStack() as opened:
            first = opened.enter_context(connect(served.url))
            began = time.monotonic()
            first.sendall(request())
            eventually(lambda: unread(served.url) == 0)
            refused = opened.enter_context(connect(served.url))
            refused.sendall(request())
            status = response(refused).status
            if time.monotonic() - began >= 0.5:
                return False  # the first may have been answered, and given way
            assert status == 503
            assert response(first).status == 200
            first.close()
            newcomer = opened.enter_context(connect(served.url))
            newcomer.sendall(b"GET /health/live HTTP/1.1\r\nHost: here\r\n\r\n")
            status = response(newcomer).status
            if time.monotonic() - began >= 1:
                return False  # who was turned away may have been given up
            assert status == 200
            return True

    eventually(came_in_time)
