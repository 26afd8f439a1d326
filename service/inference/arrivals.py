"""What makes a batch wait, and keeps the event loop awake: requests that are about to come.

An event loop accepts one connection per turn. If each turn computed a batch as well, 64 clients
that connect at once would wait for 64 batches, and most batches would have one row. So before a
batch all connections that wait are accepted.

A client that sends one prediction after the other sends the next one within some tens of
microseconds. Falling asleep and waking up takes longer: without polling the CNN answered a single
connection in 0.42 ms, with it in 0.32. Linux has the same for network cards under the name of busy
polling.
"""

import asyncio
import logging
import select
from collections.abc import Callable
from socket import socket
from time import perf_counter

log = logging.getLogger("perceptd")

Accept = Callable[[list[socket]], None]

GRACE_S = 0.001  # for the first byte of a new connection


class Arrivals:
    """New connections of one process, and its answers."""

    def __init__(self, busy_poll_s: float = 0.0) -> None:
        self._listeners: list[socket] = []
        self._waiting = select.poll()
        self._accept: Accept = lambda listeners: None
        self._new = 0  # accepted, and nothing has come from them yet
        self._accepted_at = 0.0
        self._busy_poll_s = busy_poll_s
        self._awake_until = 0.0
        self._is_awake = False

    def listen(self, listeners: list[socket], accept: Accept) -> None:
        """Have what waits at these sockets accepted before each batch."""
        self._listeners, self._accept = listeners, accept
        for listener in listeners:
            self._waiting.register(listener, select.POLLIN)

    def accept(self) -> None:
        if self._waiting.poll(0):
            try:
                self._accept(self._listeners)
            except Exception:  # the batch must be computed all the same
                log.exception("accepting connections failed")

    def accepted(self) -> None:
        self._new += 1
        self._accepted_at = perf_counter()

    def spoke(self) -> None:
        """The first byte of a new connection came, or its end."""
        self._new = max(self._new - 1, 0)

    def expected(self) -> bool:
        """Whether connections have just arrived whose requests belong into the next batch."""
        if self._new and perf_counter() - self._accepted_at > GRACE_S:
            self._new = 0  # they say nothing: they wait as other idle connections do
        return self._new > 0

    def answered(self, loop: asyncio.AbstractEventLoop) -> None:
        """Poll for the next requests for a moment instead of sleeping."""
        if self._busy_poll_s:
            self._awake_until = perf_counter() + self._busy_poll_s
            if not self._is_awake:
                self._is_awake = True
                loop.call_soon(self._poll, loop)

    def _poll(self, loop: asyncio.AbstractEventLoop) -> None:
        """With a callback due, the loop checks its sockets without waiting."""
        self._is_awake = perf_counter() < self._awake_until
        if self._is_awake:
            loop.call_soon(self._poll, loop)
