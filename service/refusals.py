"""Refusals in overload, whose bytes are made once: they must cost much less than an answer."""

import re
from functools import lru_cache

from service import problems
from service.engine import Engine, LoadedVersion
from service.errors import QueueFullError

MODEL = re.compile(rb'\{\s{0,9}"model"\s{0,9}:\s{0,9}"([\w.-]{1,100})"')
VERSION = b'"version"'


class Overload:
    """The models whose queues were full when last looked at."""

    def __init__(self) -> None:
        self._full: dict[str, LoadedVersion] = {}

    def __bool__(self) -> bool:
        return bool(self._full)

    def saw(self, version: LoadedVersion) -> None:
        """A queue was full."""
        self._full[version.model] = version

    def refusal(self, engine: Engine, body: bytes) -> tuple[LoadedVersion, QueueFullError] | None:
        """Whose queue is full, so that a body need not be read; None where it has to be."""
        name = model_of(body)
        full = self._full.get(name) if name else None
        if full is None or VERSION in body:
            return None
        if engine.serving(full.model) is full:
            try:
                full.batcher.admit(1)
            except QueueFullError as error:
                return full, error
        del self._full[full.model]
        return None


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
