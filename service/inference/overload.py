"""Which predictions overload refuses: that must cost much less than an answer."""

from collections.abc import Callable
from typing import NamedTuple

from perceptd.service.inference.answers import Rows
from perceptd.service.inference.decoder import END_BYTES, model_of, production_model
from perceptd.service.inference.engine import Engine
from perceptd.service.inference.loaded_version import LoadedVersion

OVERLOAD_S = 1.0  # that overload is assumed to last after a queue was full or long


class Full(NamedTuple):
    """A version whose queue was full, with the rows per byte of the body that it refused."""

    version: int
    rows_per_byte: float


class Overload:
    """Refuses predictions by the length of their bodies while queues are full.

    A body that is not parsed is estimated to have half the rows of the last refused body of its
    length: an estimate that is too high would refuse what still has room.
    """

    def __init__(self) -> None:
        self._full: dict[str, Full] = {}
        self._until = 0.0

    def lasts(self, now: float) -> bool:
        """Whether a queue was full or long lately; `now` is a time of `time.monotonic`."""
        return now < self._until

    def saw_long_queue(self, now: float) -> None:
        self._until = now + OVERLOAD_S

    def saw_full_queue(self, version: LoadedVersion, rows: Rows, body: bytes, now: float) -> None:
        """Remember that the queue had no room for these rows."""
        self._until = now + OVERLOAD_S
        if model_of(body) == version.model:
            self._full[version.model] = Full(version.version, len(rows) / len(body))

    def check(self, engine: Engine, body: bytes, asks: Callable[[LoadedVersion], object]) -> None:
        """Raise `QueueFullError` if the queue that a body asks for is full.

        `asks` is told the version that the body asks for.
        """
        name = production_model(body[:END_BYTES], body[-END_BYTES:])
        full = self._full.get(name) if name else None
        if name is None or full is None:
            return
        serving = engine.serving(name)
        if serving and serving.version == full.version:
            asks(serving)
            serving.batcher.admit(max(int(full.rows_per_byte * len(body) / 2), 1))
