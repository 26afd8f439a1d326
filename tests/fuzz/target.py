"""A real server process under attack, and what must hold for it."""

import os
import re
import select
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from tests.fuzz.requests import request
from tests.service.admin import ADMIN, PREDICT
from tests.service.served import Served

PATIENCE_S = 60.0  # a connection neither answered nor closed by then counts as hanging
QUIET_S = 0.05  # minimum time without a byte that ends the reading
FAULTS = re.compile(
    r'Traceback|^(?:ERROR|CRITICAL)|"level":"(?:error|critical)"|'
    r"Exception in|Fatal|never (?:awaited|retrieved)"
)
ORDINARY = request("/jobs?limit=1", headers=[("Connection", "close")])
STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) [^\r\n]*\r\n")


class Response(NamedTuple):
    status: int
    headers: dict[bytes, bytes]  # by their names in lower case
    body: bytes

    @property
    def id(self) -> str:
        return self.headers.get(b"x-request-id", b"").decode("latin-1")


class Target:
    """A server of one process with both tokens, without a worker; its log is in a file."""

    def __init__(self, folder: Path, **variables: str) -> None:
        self._served = Served(
            folder,
            PERCEPTD_PROCESSES="1",
            PERCEPTD_WORKERS="0",
            PERCEPTD_ADMIN_TOKEN=ADMIN,
            PERCEPTD_PREDICT_TOKEN=PREDICT,
            **variables,
        )
        self.url = self._served.url
        self.data_dir = self._served.data_dir
        host, _, port = self.url.removeprefix("http://").rpartition(":")
        self.address = host, int(port)
        self._read = 0  # bytes of the log that were checked

    def connect(self) -> socket.socket:
        return socket.create_connection(self.address, timeout=PATIENCE_S)

    def exchange(self, requests: Sequence[bytes], *, is_due: bool = False) -> list[bytes]:
        """Send each byte string on its own connection; returns the answers.

        All are sent before the first answer is read. A connection is read until the server closes
        it or is quiet for a moment; then this side closes, and the server must close as well. With
        `is_due`, waits for each answer to begin. Without it there may be no answer, as for half a
        request: the moment then lasts as long as a request that was sent later takes.
        """
        connections = [self.connect() for _ in requests]
        answers = dict.fromkeys(connections, b"")
        try:
            for connection, sent in zip(connections, requests, strict=True):
                with Refused():  # the server may have closed after the first bytes
                    connection.sendall(sent)
            quiet_s = QUIET_S if is_due else max(QUIET_S, self._latency_s())
            _read(answers, time.monotonic() + PATIENCE_S, quiet_s=quiet_s, is_due=is_due)
            for connection in connections:
                with Refused():
                    connection.shutdown(socket.SHUT_WR)
            open_still = _read(answers, time.monotonic() + PATIENCE_S)
            assert not open_still, "a connection stays open although its client has closed it"
        finally:
            for connection in connections:
                connection.close()
        return list(answers.values())

    def _latency_s(self) -> float:
        """Seconds that an ordinary request takes; it uses a thread and the database."""
        began = time.monotonic()
        (answer,) = self.exchange([ORDINARY], is_due=True)
        assert answer.startswith(b"HTTP/1.1 200"), answer
        return time.monotonic() - began

    def check(self) -> None:
        """Assert that the server lives and has logged no fault since the last check."""
        assert self._served.process.poll() is None, "the server has ended"
        with self._served.log.open(errors="replace") as log:
            log.seek(self._read)
            said = log.read()
            self._read = log.tell()
        found = [line for line in said.splitlines() if FAULTS.search(line)]
        assert not found, said[max(0, said.index(found[0]) - 500) :][:4000]

    def megabytes(self) -> float:
        """The resident memory of the server."""
        pages = int(Path(f"/proc/{self._served.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    def descriptors(self) -> list[str]:
        """The open descriptors of the server."""
        names = []
        for entry in Path(f"/proc/{self._served.process.pid}/fd").iterdir():
            with suppress(FileNotFoundError):  # closed meanwhile
                names.append(str(entry.readlink()))
        return names

    def end(self) -> None:
        self._served.end()


def _read(
    answers: dict[socket.socket, bytes],
    until: float,
    quiet_s: float | None = None,
    *,
    is_due: bool = False,
) -> set[socket.socket]:
    """Read until each connection is closed or `quiet_s` pass without a byte.

    With `is_due`, waits for each answer to begin. Returns the connections that are still open.
    """
    reading = {connection for connection in answers if connection.fileno() >= 0}
    while reading:
        wait = max(0.0, until - time.monotonic())
        if quiet_s is not None and not (is_due and any(not answers[one] for one in reading)):
            wait = quiet_s
        ready, _, _ = select.select(list(reading), [], [], wait)
        if not ready:
            break
        for connection in ready:
            try:
                data = connection.recv(2**16)
            except ConnectionError:
                data = b""
            answers[connection] += data
            if not data:
                reading.discard(connection)
    return reading


class Refused:
    """Ignores a connection that the server has closed."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> bool:
        return kind is not None and issubclass(kind, OSError)


def responses(data: bytes, is_head: Callable[[int], bool] = lambda number: False) -> list[Response]:
    """The responses on one connection; the last may be truncated."""
    found: list[Response] = []
    while data:
        start = STATUS.match(data)
        assert start, f"no answer begins with {data[:80]!r}"
        head, ended, rest = data[start.end() :].partition(b"\r\n\r\n")
        lines = [line.partition(b":") for line in head.split(b"\r\n")] if ended else []
        headers = {name.strip().lower(): value.strip() for name, _, value in lines}
        status = int(start[1])
        if status == 100:
            data = data[start.end() :].removeprefix(b"\r\n")
            continue
        if b"chunked" in headers.get(b"transfer-encoding", b"") and not is_head(len(found)):
            body, data = _chunks(rest)
        else:
            length = 0 if is_head(len(found)) else int(headers.get(b"content-length", b"0"))
            body, data = rest[:length], rest[length:]
        found.append(Response(status, headers, body))
    return found


def _chunks(data: bytes) -> tuple[bytes, bytes]:
    """A chunked body and the bytes after it."""
    body = b""
    while data:
        size, _, data = data.partition(b"\r\n")
        length = int(size or b"0", 16)
        body, data = body + data[:length], data[length + 2 :]
        if not length:
            break
    return body, data
