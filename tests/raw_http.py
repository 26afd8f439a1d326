"""HTTP over bare sockets, for clients that behave in unusual ways."""

import json
import socket
from collections.abc import Sequence
from typing import Any, BinaryIO, NamedTuple, Self, cast
from urllib.parse import urlsplit

PATIENCE_S = 60.0
XOR = {"model": "xor", "inputs": [[1, -1]]}


class Response(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        code: str = self.json()["code"]
        return code


def address_of(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    assert parts.hostname
    assert parts.port
    return parts.hostname, parts.port


def connect(url: str) -> socket.socket:
    return socket.create_connection(address_of(url), PATIENCE_S)


def request(
    body: bytes = json.dumps(XOR).encode(),
    path: str = "/predict",
    lines: Sequence[str] = (),
    version: str = "1.1",
) -> bytes:
    head = [
        f"POST {path} HTTP/{version}",
        "Host: here",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        *lines,
    ]
    return "\r\n".join([*head, "", ""]).encode() + body


def response(connection: socket.socket) -> Response:
    """The next response. Raises `ConnectionError` if there is none or only a part of one."""
    return read(cast(BinaryIO, connection.makefile("rb")))


def read(file: BinaryIO) -> Response:
    status = line(file).split()[1]
    headers = {}
    while header := line(file):
        name, _, value = header.partition(": ")
        headers[name.lower()] = value
    length = int(headers["content-length"])
    body = file.read(length)
    if len(body) < length:
        raise ConnectionError("the connection ended in the body")
    return Response(int(status), headers, body)


def line(file: BinaryIO) -> str:
    if received := file.readline():
        return received.decode().strip()
    raise ConnectionError("the connection ended before the answer")


def more(connection: socket.socket) -> bytes:
    if received := connection.recv(65536):
        return received
    raise ConnectionError("the connection ended before the answer")


class Connection:
    """A socket to a server, from which several responses are read."""

    def __init__(self, url: object) -> None:
        self.socket = connect(str(url))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._file = cast(BinaryIO, self.socket.makefile("rb"))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self.socket.close()

    def send(self, *parts: bytes) -> Self:
        for part in parts:
            self.socket.sendall(part)
        return self

    def line(self) -> str:
        return line(self._file)

    def answer(self) -> Response:
        return read(self._file)

    def read(self, length: int) -> bytes:
        return self._file.read(length)

    def rest(self) -> bytes:
        """All bytes until the server closes the connection."""
        return self._file.read()
