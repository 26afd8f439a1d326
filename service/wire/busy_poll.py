"""Polling for a moment after an answer instead of sleeping.

A client that sends one prediction after the other sends the next one within some tens of
microseconds. Falling asleep and waking up takes longer: without polling the CNN answered a single
connection in 0.42 ms, with it in 0.32. Linux has the same for network cards under this name.
"""

import asyncio
import time


class BusyPoll:
    """Keeps an event loop awake for so many seconds after the last `extend`."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._until = 0.0
        self._is_awake = False

    def extend(self, loop: asyncio.AbstractEventLoop) -> None:
        if not self._seconds:
            return
        self._until = time.perf_counter() + self._seconds
        if not self._is_awake:
            self._is_awake = True
            loop.call_soon(self._poll, loop)

    def _poll(self, loop: asyncio.AbstractEventLoop) -> None:
        """With a callback due, the loop checks its sockets without waiting."""
        self._is_awake = time.perf_counter() < self._until
        if self._is_awake:
            loop.call_soon(self._poll, loop)
