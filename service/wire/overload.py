"""Refusals in overload, whose bytes are made once: they must cost much less than an answer."""

import asyncio
import re
import select
from functools import lru_cache
from typing import NamedTuple

from perceptd.service.api import problems
from perceptd.service.errors import QueueFullError
from perceptd.service.inference.answers import Rows
from perceptd.service.inference.engine import Engine
from perceptd.service.inference.loaded_version import LoadedVersion

PRESSED_S = 1.0  # for which overload is reckoned with after it was seen
MODEL = re.compile(rb'\{\s{0,9}"model"\s{0,9}:\s{0,9}"([\w.-]{1,100})"')
VERSION = b'"version"'
LOOK_BYTES = 256  # at the beginning and the end of a body, where clients write what is no row
POLLRDHUP = getattr(select, "POLLRDHUP", None)  # Linux has it


class Full(NamedTuple):
    """A version whose queue was full, and how many rows a byte of the refused body stood for."""

    version: int
    rows_per_byte: float


class Overload:
    """The models whose queues were full when last looked at.

    While it lasts, requests have waited where nobody sees them, in the sockets, and some of those
    who sent them are gone: `has_left` tells, and no work is done for them.

    Of what a body asks for only its length is known as long as it is not read: it counts as half
    the rows that one of that length had which was refused before: rather too few than too many.
    """

    def __init__(self) -> None:
        self._full: dict[str, Full] = {}
        self._until = 0.0

    def lasts(self, now: float) -> bool:
        """Whether queues have been long of late; `now` is the event loop's time."""
        return now < self._until

    def saw_long_queue(self, now: float) -> None:
        self._until = now + PRESSED_S

    def saw_full_queue(self, version: LoadedVersion, rows: Rows, body: bytes, now: float) -> None:
        """There was no room for these rows."""
        self._until = now + PRESSED_S
        if model_of(body) == version.model:
            self._full[version.model] = Full(version.version, len(rows) / len(body))

    def refusal(
        self, engine: Engine, first: bytes, last: bytes, length: int
    ) -> tuple[LoadedVersion, QueueFullError] | None:
        """Whose queue is full, so that a body of this length need not be read; None where it has
        to be. It begins and ends with these bytes.
        """
        name = model_of(first)
        full = self._full.get(name) if name else None
        if name is None or full is None:
            return None
        if VERSION in first[:LOOK_BYTES] or VERSION in last[-LOOK_BYTES:]:
            return None
        serving = engine.serving(name)
        if serving and serving.version == full.version:
            try:
                serving.batcher.admit(max(int(full.rows_per_byte * length / 2), 1))
            except QueueFullError as error:
                return serving, error
        return None


def has_left(transport: asyncio.Transport) -> bool:
    """Whether a client has closed a connection, be there still data of it to be read."""
    if POLLRDHUP is None:
        return False
    connection = transport.get_extra_info("socket")
    if connection is None or connection.fileno() < 0:
        return True
    poll = select.poll()
    poll.register(connection.fileno(), POLLRDHUP)
    return bool(poll.poll(0))


def model_of(body: bytes) -> str | None:
    """The model that a body begins with, as clients write it."""
    found = MODEL.match(body)
    return found[1].decode() if found else None


@lru_cache(maxsize=256)
def response(path: str, detail: str, retry_after_s: int) -> tuple[bytes, bytes]:
    """Headers and body of the answer to whom a queue has no room for."""
    problem = problems.of(QueueFullError(detail, retry_after_s), path)
    headers = b"".join(b"%b: %b\r\n" % header for header in problem.raw_headers)
    return headers, bytes(problem.body)
