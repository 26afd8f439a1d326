"""How many connections a process may have, and how long each may take.

uvicorn waits for ever for a head, a body, or a client that does not read its answer. Here one check
per second goes over all connections of a process; no request has a timer of its own.
"""

import asyncio
import logging
import resource
import threading
import time
from collections import deque
from collections.abc import Collection
from contextlib import suppress
from typing import Any, Protocol

from perceptd.service.errors import PerceptdError, TooManyConnectionsError
from perceptd.service.settings import Settings

CHECK_S = 1.0
SCAN_S = 0.05  # pause after a search that found no connection to close
OTHER_FILES = 256  # that a process opens besides its connections
ENOUGH_FILES = 2**20

log = logging.getLogger("perceptd")


class Counter(Protocol):
    """Counts closed connections by reason."""

    def connection_closed(self, reason: str) -> None: ...


class Guarded(Protocol):
    """A connection, as its guard sees it."""

    since: float  # when its present state began, by the event loop's clock
    loop: asyncio.AbstractEventLoop

    @property
    def connections(self) -> Collection[Any]:
        """All open connections of the process."""

    @property
    def can_give_way(self) -> bool: ...

    def check(self, now: float) -> None: ...

    def drop(self, reason: str) -> None: ...

    def turn_away(self, error: PerceptdError) -> None: ...


class Guard:
    """Limits the connections of one process."""

    def __init__(self, settings: Settings, metrics: Counter, closing: threading.Event) -> None:
        self.settings = settings
        self.metrics = metrics
        self.closing = closing  # once set, each answer is the last of its connection
        self.max_connections = max(min(settings.max_connections, max_open_files() - OTHER_FILES), 1)
        self.turned_away: set[Guarded] = set()
        self._is_checking = False
        self._can_give_way: deque[Guarded] = deque()
        self._scanned_at = 0.0

    def admit(self, connection: Guarded) -> None:
        """Admit a new connection or turn it away."""
        if self._is_over(connection.connections) and not self._make_room(connection):
            connection.turn_away(TooManyConnectionsError("no connection can give way now"))
        if not self._is_checking:
            self._is_checking = True
            connection.loop.call_later(
                CHECK_S, self._check, connection.loop, connection.connections
            )

    def _is_over(self, connections: Collection[Guarded]) -> bool:
        """Whether there are too many, not counting those that were turned away."""
        return len(connections) - len(self.turned_away) > self.max_connections

    def _make_room(self, new: Guarded) -> bool:
        """Close the connection that has been idle or incomplete for longest."""
        for _ in range(2):
            while self._can_give_way:
                oldest = self._can_give_way.popleft()
                if oldest.can_give_way:
                    oldest.drop("gave_way")
                    return True
            now = time.monotonic()
            if now - self._scanned_at < SCAN_S:
                return False
            self._scanned_at = now
            found = [one for one in new.connections if one.can_give_way and one is not new]
            self._can_give_way.extend(sorted(found, key=lambda one: one.since))
        return False

    def _check(self, loop: asyncio.AbstractEventLoop, connections: Collection[Guarded]) -> None:
        now = loop.time()
        for connection in list(connections):
            try:
                connection.check(now)
            except Exception:  # one fault must not end the time limits of all others
                log.exception("checking a connection failed")
        if not self._is_over(connections):  # keep no reference to those that need not give way
            self._can_give_way.clear()
            self._scanned_at = 0.0
        self._is_checking = bool(connections)
        if connections:
            loop.call_later(CHECK_S, self._check, loop, connections)


def max_open_files() -> int:
    """Raise the limit of open files as far as the system allows, and return it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= ENOUGH_FILES:
        return ENOUGH_FILES
    for wanted in (ENOUGH_FILES, 65_536, 10_240):  # "infinity" may be more than the system allows
        wanted = wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)
        if wanted <= soft:
            break
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            return wanted
    return soft
