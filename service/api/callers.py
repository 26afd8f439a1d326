"""Who waits for an answer, as an ASGI server knows them."""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from perceptd.service.inference.pending import Caller
from perceptd.service.telemetry import spans

TIMEOUT_HEADER = "X-Request-Timeout-Ms"
MAX_TIMEOUT_MS = 3_600_000

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]


def caller(receive: Receive, timeout_ms: int | None) -> Caller:
    """Whoever sends the request that `receive` belongs to; the time allowed begins now."""
    deadline = None
    if timeout_ms is not None:
        deadline = asyncio.get_running_loop().time() + timeout_ms / 1000
    return Caller(deadline, lambda: has_gone(receive), spans.caller_span())


def has_gone(receive: Receive) -> bool:
    """Whether the connection is closed; the body must have been read.

    ASGI has only `receive` to say so, and it waits: it is let go as soon as it does.
    """
    waiting: Any = receive()
    try:
        waiting.send(None)
    except StopIteration as said:
        return bool(said.value["type"] == "http.disconnect")
    finally:
        waiting.close()
    return False
