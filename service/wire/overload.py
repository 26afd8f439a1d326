"""Refusals in overload: they must cost much less than an answer, so their bytes are cached."""

import asyncio
import select
from functools import lru_cache
from typing import NamedTuple

from perceptd.service.api import problems
from perceptd.service.errors import QueueFullError
from perceptd.service.inference.answers import Rows
from perceptd.service.inference.decoder import END_BYTES, model_of, production_model
from perceptd.service.inference.engine import Engine
from perceptd.service.inference.loaded_version import LoadedVersion
from perceptd.service.wire.connections import header_lines

OVERLOAD_S = 1.0  # that overload is assumed to last after a queue was full or long
POLLRDHUP = getattr(select, "POLLRDHUP", None)  # Linux has it


class Full(NamedTuple):
    """A version whose queue was full, with the rows per byte of the body that it refused."""

    version: int
    rows_per_byte: float


class Overload:
    """Refuses predictions by the length of their bodies while queues are full.

    During overload requests wait unseen in their sockets, and some of their clients have left by
    the time they are read: `has_left` tells, and no work is done for them.

    A body that is not parsed is estimated to have half the rows of the last refused body of its
    length: an estimate that is too high would refuse what still has room.
    """

    def __init__(self) -> None:
        self._full: dict[str, Full] = {}
        self._until = 0.0

    def lasts(self, now: float) -> bool:
        """Whether a queue was full or long lately; `now` is the event loop's time."""
        return now < self._until

    def saw_long_queue(self, now: float) -> None:
        self._until = now + OVERLOAD_S

    def saw_full_queue(self, version: LoadedVersion, rows: Rows, body: bytes, now: float) -> None:
        """Remember that the queue had no room for these rows."""
        self._until = now + OVERLOAD_S
        if model_of(body) == version.model:
            self._full[version.model] = Full(version.version, len(rows) / len(body))

    def refusal(
        self, engine: Engine, first: bytes, last: bytes, length: int
    ) -> tuple[LoadedVersion, QueueFullError] | None:
        """The version whose queue is full, and the error; None if the body has to be parsed.

        `first` and `last` are bytes at the ends of the body, `length` is its whole length.
        """
        name = production_model(first[:END_BYTES], last[-END_BYTES:])
        full = self._full.get(name) if name else None
        if name is None or full is None:
            return None
        serving = engine.serving(name)
        if serving and serving.version == full.version:
            try:
                serving.batcher.admit(max(int(full.rows_per_byte * length / 2), 1))
            except QueueFullError as error:
                return serving, error
        return None


def has_left(transport: asyncio.Transport) -> bool:
    """Whether the client has closed the connection, even if its data is not all read."""
    if POLLRDHUP is None:
        return False
    connection = transport.get_extra_info("socket")
    if connection is None or connection.fileno() < 0:
        return True
    poll = select.poll()
    poll.register(connection.fileno(), POLLRDHUP)
    return bool(poll.poll(0))


@lru_cache(maxsize=256)
def response(path: str, detail: str, retry_after_s: int) -> tuple[bytes, bytes]:
    """Headers and body of a 429."""
    problem = problems.of(QueueFullError(detail, retry_after_s), path)
    return header_lines(problem.raw_headers), bytes(problem.body)
