"""The caller of an ASGI request: its deadline, and whether it has disconnected."""

import asyncio
import select
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from perceptd.service.inference.pending import Caller
from perceptd.service.telemetry import spans

KEY = "connection"  # of the caller's connection, in the state of an ASGI scope
TIMEOUT_HEADER = "X-Request-Timeout-Ms"
MAX_TIMEOUT_MS = 3_600_000

POLLRDHUP = getattr(select, "POLLRDHUP", None)  # Linux has it

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]


def caller(receive: Receive, timeout_ms: int | None) -> Caller:
    """The sender of the request that `receive` belongs to; its timeout begins now."""
    deadline = None
    if timeout_ms is not None:
        deadline = time.monotonic() + timeout_ms / 1000
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


def has_left(transport: asyncio.BaseTransport) -> bool:
    """Whether the client has closed the connection, even if its data is not all read.

    In overload requests wait unseen in their sockets, and some of their clients have left by the
    time they are read.
    """
    if POLLRDHUP is None:
        return False
    connection = transport.get_extra_info("socket")
    if connection is None or connection.fileno() < 0:
        return True
    poll = select.poll()
    poll.register(connection.fileno(), POLLRDHUP)
    return bool(poll.poll(0))
