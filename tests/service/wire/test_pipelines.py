"""Requests that a client sends before the answers to earlier ones."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from perceptd.service.settings import Settings
from tests.raw_http import XOR, Connection, request
from tests.server import running
from tests.service.wire.watching import closed, wait_until_read

Serve = Callable[[Settings], httpx.Client]

MAX_HEADER_BYTES = 2048
LIVE = b"GET /health/live HTTP/1.1\r\nHost: here\r\n\r\n"
OFFER = ["Connection: Upgrade", "Upgrade: h2c"]
SMUGGLED = b"GET /models HTTP/1.1\r\nHost: here\r\nX-Request-ID: smuggled\r\n\r\n"
BODY = json.dumps(XOR).encode()
CHUNKED = (
    b"POST /predict HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    folder: Path = tmp_path_factory.mktemp("data")
    with running(Settings(data_dir=folder, max_header_bytes=MAX_HEADER_BYTES)) as client:
        yield client


@pytest.fixture
def connection(served: httpx.Client) -> Iterator[Connection]:
    with Connection(served.base_url) as opened:
        yield opened


@pytest.mark.parametrize("first", [LIVE, request(), CHUNKED], ids=["no body", "length", "chunked"])
@pytest.mark.parametrize("cut", [1, 20, 100, -30, -1])
def test_the_next_request_may_come_in_any_two_pieces(
    served: httpx.Client, connection: Connection, first: bytes, cut: int
) -> None:
    second = request(BODY, lines=["X-Request-ID: second"])
    connection.send(first + second[:cut])
    assert connection.answer().status == 200
    wait_until_read(served)
    answer = connection.send(second[cut:]).answer()
    assert (answer.status, answer.headers["x-request-id"]) == (200, "second")
    assert connection.send(LIVE).answer().status == 200


@pytest.mark.parametrize("rest", [b"POST", b"A", b"\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", b"\r\n"])
def test_the_rest_of_a_body_is_no_head(
    served: httpx.Client, connection: Connection, rest: bytes
) -> None:
    pixels = bytes(784 - len(rest)) + rest
    head = (
        b"POST /predict/image HTTP/1.1\r\nHost: here\r\nContent-Type: application/octet-stream\r\n"
        b"Content-Length: 784\r\n\r\n"
    )
    connection.send(request() + head + pixels[: -len(rest)])
    assert connection.answer().status == 200
    wait_until_read(served)
    answer = connection.send(rest).answer()
    assert (answer.status, answer.json()["model"]) == (200, "mnist-cnn")
    assert connection.send(LIVE).answer().status == 200


@pytest.mark.parametrize("before", [b"\r\n\r\n", LIVE, request(), request() + LIVE])
def test_every_head_is_limited(served: httpx.Client, before: bytes) -> None:
    long = request(lines=["X-Note: " + "a" * MAX_HEADER_BYTES])
    endless = b"GET / HTTP/1.1\r\nX-Note: " + b"a" * 2 * MAX_HEADER_BYTES
    for wrong in (long, endless):
        with Connection(served.base_url).send(before + wrong) as connection:
            for _ in range(before.count(b"HTTP/1.1")):
                assert connection.answer().status == 200
            assert connection.answer().code == "headers_too_large"
            assert connection.rest() == b""


@pytest.mark.parametrize("at_once", [True, False])
def test_fields_after_a_body_are_limited(connection: Connection, at_once: bool) -> None:
    fields = [b"X: y\r\n" * 100] * (MAX_HEADER_BYTES // 500)
    connection.send(LIVE, CHUNKED.removesuffix(b"\r\n"))
    assert connection.answer().status == 200
    connection.send(*([b"".join(fields)] if at_once else fields))
    assert connection.answer().code == "headers_too_large"
    assert connection.rest() == b""


@pytest.mark.parametrize("before", [b"\r\n\r\n", LIVE, request()])
@pytest.mark.parametrize("at_once", [True, False])
def test_no_body_after_an_offer_is_read_as_a_request(
    served: httpx.Client, connection: Connection, before: bytes, at_once: bool
) -> None:
    whole = request(SMUGGLED, lines=OFFER)
    head, body = whole[: -len(SMUGGLED)], SMUGGLED + LIVE
    connection.send(before + head + body * at_once)
    for _ in range(before.count(b"HTTP/1.1")):
        assert connection.answer().status == 200
    if not at_once:
        wait_until_read(served)
        connection.send(body)
    assert connection.answer().status == 422
    answer = connection.answer()
    assert (answer.json(), answer.headers["x-request-id"]) != ({}, "smuggled")
    assert answer.json() == {"status": "live"}


@pytest.mark.parametrize("target", ["elsewhere:443", "/predict"])
def test_no_body_after_a_request_for_a_tunnel_is_read_as_a_request(
    served: httpx.Client, connection: Connection, target: str
) -> None:
    asked = request(SMUGGLED, target).replace(b"POST", b"CONNECT", 1)
    answer = connection.send(LIVE + asked).rest()
    assert answer.count(b"HTTP/1.1 ") == 2
    assert b"HTTP/1.1 400 " in answer
    assert b"smuggled" not in answer


def test_a_body_that_was_answered_early_is_skipped(connection: Connection) -> None:
    body = SMUGGLED * 10_000
    asked = request(body, "/nothing/here")
    cut = len(asked) - len(body) // 2
    assert connection.send(asked[:cut]).answer().status == 404
    long = request(lines=["X-Note: " + "a" * MAX_HEADER_BYTES])
    assert connection.send(asked[cut:] + request()).answer().status == 200
    assert connection.send(long).answer().code == "headers_too_large"


def test_many_pipelined_requests_are_all_answered(connection: Connection) -> None:
    count = 500
    connection.send(b"".join(request(lines=[f"X-Request-ID: {number}"]) for number in range(count)))
    for number in range(count):
        answer = connection.answer()
        assert (answer.status, answer.headers["x-request-id"]) == (200, str(number))


def test_an_incomplete_request_behind_others_times_out(serve: Serve, tmp_path: Path) -> None:
    client = serve(Settings(data_dir=tmp_path, read_timeout_s=1))
    for part, cut in (("head", 40), ("body", -5)):
        with Connection(client.base_url) as connection:
            connection.send(request() + CHUNKED + request(path="/predict_proba")[:cut])
            assert connection.answer().status == connection.answer().status == 200
            refusal = connection.answer()
            assert (refusal.status, refusal.json()["instance"]) == (408, "/predict_proba")
            assert refusal.json()["detail"].startswith(f"the {part} did not arrive")
    assert closed(client.base_url) == {"request_timeout": 2}


def test_a_client_that_awaits_permission_learns_that_its_body_timed_out(
    serve: Serve, tmp_path: Path
) -> None:
    client = serve(Settings(data_dir=tmp_path, read_timeout_s=1))
    with Connection(client.base_url) as connection:
        connection.send(request(lines=["Expect: 100-continue"])[:-5])
        assert connection.line() == "HTTP/1.1 100 Continue"
        assert connection.line() == ""
        assert connection.answer().code == "request_timeout"
