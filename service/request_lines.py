"""The lines of requests in JSON, written together: a record and a write for each cost too much."""

import asyncio
import json
import logging
import os
import select
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TextIO

import msgspec

MAX_LINES = 256  # that wait to be written
PIPE_BYTES = getattr(select, "PIPE_BUF", 512)  # POSIX has at least so many
JSON = msgspec.json.Encoder(enc_hook=str)

log = logging.getLogger("perceptd")


class RequestLine(msgspec.Struct, omit_defaults=True):
    """A line of a request; `perceptd.service.logging.JsonFormatter` would write the same fields."""

    timestamp: str  # set when it is added, as the process and its role
    level: str
    logger: str
    message: str
    method: str
    path: str
    status: int
    duration_ms: float
    client: str | None
    request_id: str = ""
    model: str = ""
    version: int = 0
    token: str = ""
    trace_id: str = ""
    span_id: str = ""
    process: int = 0
    role: str = ""


class RequestLines(logging.StreamHandler[TextIO]):
    """Writes the lines of one turn of the event loop together.

    Processes share a stream, so that no write is longer than a pipe takes as one.
    """

    def __init__(self, stream: TextIO, role: str) -> None:
        super().__init__(stream)
        self._process, self._role = os.getpid(), role
        self._timestamp = Timestamp()
        self._now = ""  # the time of all lines of a turn
        self._lines: list[RequestLine] = []
        self._is_failing = False

    def add(self, line: RequestLine) -> None:
        if not self._lines:
            self._now = self._timestamp(time.time())
        line.timestamp = self._now
        line.process, line.role = self._process, self._role
        self._lines.append(line)
        if len(self._lines) >= MAX_LINES:
            self.flush()
        elif len(self._lines) == 1:
            try:
                asyncio.get_running_loop().call_soon(self.flush)
            except RuntimeError:  # no event loop
                self.flush()

    def flush(self) -> None:
        lines, self._lines = self._lines, []
        try:
            for piece in pieces(in_ascii(lines)):
                self.stream.write(piece.decode())
                self.stream.flush()
            self._is_failing = False
        except (OSError, ValueError) as error:  # nobody reads them, the disk is full, it is closed
            if not self._is_failing:
                log.error("cannot write the lines of requests: %s", error)
            self._is_failing = True


class Timestamp:
    """Writes times in UTC, by RFC 3339."""

    def __init__(self) -> None:
        self._second = 0
        self._text = ""

    def __call__(self, time_s: float) -> str:
        second = int(time_s)
        if second != self._second:
            self._text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
            self._second = second
        return f"{self._text}.{int((time_s - second) * 1e6):06d}Z"


def in_ascii(lines: Sequence[Mapping[str, Any] | RequestLine]) -> bytes:
    """Each line as a JSON object. Beyond ASCII there are more line ends and control characters."""
    try:
        text = JSON.encode_lines(lines)
    except UnicodeEncodeError:  # a lone surrogate
        text = b""
    if text.isascii() and (text or not lines):
        return text
    plain = (msgspec.to_builtins(line, enc_hook=str) for line in lines)
    return "".join(f"{json.dumps(line)}\n" for line in plain).encode()


def pieces(lines: bytes) -> Iterator[bytes]:
    """Whole lines, as many at once as a pipe takes without those of others in between."""
    start = 0
    while start < len(lines):
        end = start + PIPE_BYTES
        if end < len(lines):
            end = lines.rfind(b"\n", start, end) + 1 or lines.find(b"\n", start) + 1
        yield lines[start:end]
        start = end
