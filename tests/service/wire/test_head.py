"""Requests that offer another protocol are answered like all others."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from perceptd.service.settings import Settings
from tests.server import running

BODY = b'{"model": "xor", "inputs": [[0, 1]]}'
NEXT = b"GET /health/live HTTP/1.1\r\nHost: here\r\nX-Request-ID: next\r\nConnection: close\r\n\r\n"
OFFERS = {
    "h2c": b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n",
    "websocket": b"Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n",
    "other": b"connection: upgrade\r\nupgrade: TLS/1.0, IRC/6.9\r\n",
}


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, int]]:
    folder: Path = tmp_path_factory.mktemp("data")
    with running(Settings(data_dir=folder)) as client:
        yield client.base_url.host, client.base_url.port or 0


def responses(address: tuple[str, int], *pieces: bytes) -> bytes:
    """All responses to pieces that arrive one by one."""
    with socket.create_connection(address, timeout=30) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in pieces[:-1]:
            connection.sendall(piece)
            responses(address, NEXT)  # its answer shows that the piece was read
        connection.sendall(pieces[-1])
        answer = b""
        while data := connection.recv(2**16):
            answer += data
        return answer


def post(offer: bytes, body: bytes = BODY) -> tuple[bytes, bytes]:
    head = b"POST /predict HTTP/1.1\r\nHost: here\r\nContent-Type: application/json\r\n%b" % offer
    return head + b"Content-Length: %d\r\n\r\n" % len(body), body


@pytest.mark.parametrize("offer", OFFERS)
def test_a_body_after_an_offer_is_read_and_the_connection_stays_open(
    address: tuple[str, int], offer: str
) -> None:
    head, body = post(OFFERS[offer])
    for cut in (0, 30, len(head), len(head) + 9, len(head + body)):
        whole = head + body + NEXT
        pieces = [piece for piece in (whole[:cut], whole[cut:]) if piece]
        answer = responses(address, *pieces)
        assert answer.count(b"HTTP/1.1 200 OK\r\n") == 2, answer
        assert answer.index(b"predictions") < answer.index(b"next")


@pytest.mark.parametrize("offer", OFFERS)
def test_a_body_after_an_offer_is_never_read_as_a_request(
    address: tuple[str, int], offer: str
) -> None:
    smuggled = b"GET /models HTTP/1.1\r\nHost: here\r\nX-Request-ID: smuggled\r\n\r\n"
    head, body = post(OFFERS[offer], smuggled)
    answer = responses(address, head, body + NEXT)
    assert b"smuggled" not in answer
    assert answer.startswith(b"HTTP/1.1 422 ")
    assert answer.count(b"HTTP/1.1 ") == 2


def test_a_chunked_body_after_an_offer_is_read(address: tuple[str, int]) -> None:
    head = post(OFFERS["h2c"])[0].replace(
        b"Content-Length: %d" % len(BODY), b"Transfer-Encoding: chunked"
    )
    body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
    answer = responses(address, head, body + NEXT)
    assert answer.count(b"HTTP/1.1 200 OK\r\n") == 2, answer


def test_a_tunnel_is_refused(address: tuple[str, int]) -> None:
    for target in (b"elsewhere:443", b"/predict"):
        answer = responses(address, b"CONNECT %b HTTP/1.1\r\nHost: here\r\n\r\n" % target + NEXT)
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert answer.count(b"HTTP/1.1 ") == 1
