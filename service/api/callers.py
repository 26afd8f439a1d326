"""The caller of an ASGI request: its deadline, and whether it has disconnected."""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from perceptd.service.inference.pending import Caller
from perceptd.service.telemetry import spans

TIMEOUT_HEADER = "X-Request-Timeout-Ms"
MAX_TIMEOUT_MS = 3_600_000

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]


def caller(receive: Receive, timeout_ms: int | None) -> Caller:
    """The sender of the request that `receive` belongs to; its timeout begins now."""
    deadline = None
    if timeout_ms is not None:
        deadline = asyncio.get_running_loop().time() + timeout_ms / 1000
    return Caller(deadline, lambda: has_gone(receive), spans.caller_span())


def has_gone(receive: Receive) -> bool:
    """Whether the connection is closed. The body must have been read before.

    ASGI tells it by `receive` alone, which waits for the next message. So the coroutine runs one
    step: it returns a message at once, or it would wait and is closed.
    """
    step: Any = receive()
    try:
        step.send(None)
    except StopIteration as returned:
        return bool(returned.value["type"] == "http.disconnect")
    finally:
        step.close()
    return False
