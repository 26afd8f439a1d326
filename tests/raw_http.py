"""HTTP over bare sockets, for clients that behave in no usual way."""

import json
import socket
from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import urlsplit

PATIENCE_S = 60.0
QUESTION = {"model": "xor", "inputs": [[1, -1]]}


class Response(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def code(self) -> str:
        code: str = json.loads(self.body)["code"]
        return code


def address_of(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    assert parts.hostname
    assert parts.port
    return parts.hostname, parts.port


def connect(url: str) -> socket.socket:
    return socket.create_connection(address_of(url), PATIENCE_S)


def request(
    body: bytes = json.dumps(QUESTION).encode(), path: str = "/predict", lines: Sequence[str] = ()
) -> bytes:
    head = [
        f"POST {path} HTTP/1.1",
        "Host: here",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        *lines,
    ]
    return "\r\n".join([*head, "", ""]).encode() + body


def response(connection: socket.socket) -> Response:
    """The next response. Raises `ConnectionError` where there is none, or half of one."""
    received = b""
    while b"\r\n\r\n" not in received:
        received += more(connection)
    head, _, body = received.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    while len(body) < int(headers["content-length"]):
        body += more(connection)
    return Response(int(first.split()[1]), headers, body)


def more(connection: socket.socket) -> bytes:
    if received := connection.recv(65536):
        return received
    raise ConnectionError("the connection ended before the answer")
