"""How many connections a process may have, how long each may take, how many bytes all may hold.

A server waits for ever for a head, a body, or a client that does not read its answer. Here one
check per second goes over all connections of a process; no request has a timer of its own.
"""

import asyncio
import logging
import threading
import time
from collections import deque
from typing import Protocol

from perceptd.service.errors import PerceptdError, TooManyBytesError, TooManyConnectionsError
from perceptd.service.inference.arrivals import Arrivals
from perceptd.service.settings import Settings

CHECK_S = 1.0
SCAN_S = 0.05  # pause after a search that found no connection to close
MAX_EXPLAINED = 64  # connections that get an error response; more are closed without one

log = logging.getLogger("perceptd")


class Counter(Protocol):
    """Counts closed connections by reason."""

    def connection_closed(self, reason: str) -> None: ...


class Guarded(Protocol):
    """A connection, as its guard sees it."""

    since: float  # when its present state began, by `time.monotonic`
    bytes_held: int
    is_turned_away: bool

    @property
    def outlives_close(self) -> bool: ...

    def hand_to(self, server: asyncio.BaseProtocol) -> None: ...

    @property
    def can_give_way(self) -> bool: ...

    @property
    def is_incomplete(self) -> bool: ...

    def check(self, now: float) -> None: ...

    def drop(self, reason: str) -> None: ...

    def turn_away(self, error: PerceptdError) -> None: ...


class Guard:
    """Limits the connections of one process."""

    def __init__(
        self,
        settings: Settings,
        metrics: Counter,
        closing: threading.Event,
        arrivals: Arrivals,
        max_connections: int,
        keep_alive_s: float,
    ) -> None:
        self.settings = settings
        self.metrics = metrics
        self.closing = closing  # once set, each answer is the last of its connection
        self.arrivals = arrivals
        self.keep_alive_s = keep_alive_s
        self.max_connections = max_connections
        whole = 2 * settings.max_body_bytes + settings.max_header_bytes  # compressed and plain
        self.max_bytes = max(settings.max_bytes_in_flight, whole)
        self.connections: set[Guarded] = set()
        self.bytes_held = 0
        self._explained: set[Guarded] = set()
        self._is_checking = False
        self._can_give_way: deque[Guarded] = deque()
        self._scanned_at = 0.0

    def admit(self, connection: Guarded) -> None:
        """Admit a new connection or turn it away."""
        self.connections.add(connection)
        if self.room < 0 and not self._make_room(connection):
            connection.turn_away(TooManyConnectionsError("no connection can give way now"))
        if not self._is_checking:
            self._is_checking = True
            asyncio.get_running_loop().call_later(CHECK_S, self._check)

    def forget(self, connection: Guarded) -> None:
        """The connection is closed."""
        self.free(connection)
        self.connections.discard(connection)
        self._explained.discard(connection)

    def may_explain(self, connection: Guarded) -> bool:
        """Whether a connection that is turned away may stay open until its client knows why."""
        if len(self._explained) >= MAX_EXPLAINED:
            return False
        self._explained.add(connection)
        return True

    def relieve(self, newest: Guarded) -> None:
        """Too many bytes are held: the body that has been incomplete for longest gives way."""
        while self.bytes_held > self.max_bytes:
            arriving = [one for one in self.connections if one.bytes_held and one.is_incomplete]
            longest = min(arriving, key=lambda one: one.since, default=newest)
            longest.turn_away(TooManyBytesError("too many bytes of requests are under way"))

    def free(self, connection: Guarded) -> None:
        """Its requests are finished."""
        self.bytes_held -= connection.bytes_held
        connection.bytes_held = 0

    @property
    def room(self) -> int:
        """So many more connections may come, not counting those that were turned away."""
        return self.max_connections - len(self.connections) + len(self._explained)

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
            found = [one for one in self.connections if one.can_give_way and one is not new]
            self._can_give_way.extend(sorted(found, key=lambda one: one.since))
        return False

    def _check(self) -> None:
        now = time.monotonic()
        for connection in list(self.connections):
            try:
                connection.check(now)
            except Exception:  # one fault must not end the time limits of all others
                log.exception("checking a connection failed")
        if self.room >= 0:  # keep no reference to those that need not give way
            self._can_give_way.clear()
            self._scanned_at = 0.0
        self._is_checking = bool(self.connections)
        if self.connections:
            asyncio.get_running_loop().call_later(CHECK_S, self._check)
