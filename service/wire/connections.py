"""What a connection may cost: its head, its time, its place among the others.

uvicorn waits for ever for a head, a body, or a client who takes what it is sent. Here one look per
second over all connections of a process finds those that take too long; no request has a timer.
"""

import asyncio
import logging
import resource
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, Protocol

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from perceptd.service.api import problems
from perceptd.service.api.exchange import HEADER, request_id
from perceptd.service.errors import (
    HeadersTooLargeError,
    PerceptdError,
    RequestTimeoutError,
    TooManyConnectionsError,
)
from perceptd.service.settings import Settings
from perceptd.service.wire.upgrades import WithoutUpgrades

LOOK_S = 1.0
OTHER_FILES = 256  # that a process has open besides its connections
MAX_TURNED_AWAY = 64  # that are still told why; those beyond are closed without a word
MAX_PATH = 200  # characters of an address that are repeated to its sender
ENOUGH_FILES = 2**20
SCAN_S = 0.05  # between searches for a connection that can give way, where there was none
LAST_HEAD_S = 1.0  # for a head that is arriving when the server ends

log = logging.getLogger("perceptd")


class Closes(Protocol):
    """What counts the connections that are closed here, by reason."""

    def connection_closed(self, reason: str) -> None: ...


class Guard:
    """Watches over the connections of one process."""

    def __init__(self, settings: Settings, metrics: Closes, closing: threading.Event) -> None:
        self.settings = settings
        self.metrics = metrics
        self.closing = closing  # once set, no request is to follow on any connection
        self.max_connections = max(min(settings.max_connections, max_open_files() - OTHER_FILES), 1)
        self.turned_away: set[Connection] = set()
        self._is_looking = False
        self._can_give_way: deque[Connection] = deque()
        self._scanned_at = 0.0

    def welcome(self, connection: "Connection") -> None:
        """Take a connection in, or turn it away."""
        everyone = connection.connections
        if self._is_over(everyone) and not self._make_room(connection):
            connection.turn_away(TooManyConnectionsError("no connection can give way now"))
        if not self._is_looking:
            self._is_looking = True
            connection.loop.call_later(LOOK_S, self._look, connection.loop, everyone)

    def _is_over(self, everyone: set[Any]) -> bool:
        """Whether there are too many; those that were turned away are as good as gone."""
        return len(everyone) - len(self.turned_away) > self.max_connections

    def _make_room(self, newcomer: "Connection") -> bool:
        """Close the connection that has been idle or incomplete longest."""
        for _ in range(2):
            while self._can_give_way:
                one = self._can_give_way.popleft()
                if one.can_give_way:
                    one.drop("gave_way")
                    return True
            now = time.monotonic()
            if now - self._scanned_at < SCAN_S:
                return False
            self._scanned_at = now
            found = [one for one in self._all(newcomer) if one.can_give_way and one is not newcomer]
            self._can_give_way.extend(sorted(found, key=lambda one: one.since))
        return False

    def _all(self, connection: "Connection") -> "list[Connection]":
        return [one for one in connection.connections if isinstance(one, Connection)]

    def _look(self, loop: asyncio.AbstractEventLoop, everyone: set[Any]) -> None:
        now = loop.time()
        for connection in list(everyone):
            if isinstance(connection, Connection):
                try:
                    connection.look(now)
                except Exception:  # one fault must not end the time limits of all others
                    log.exception("a connection could not be looked after")
        if not self._is_over(everyone):  # whom nobody has to give way to is let go
            self._can_give_way.clear()
            self._scanned_at = 0.0
        self._is_looking = bool(everyone)
        if everyone:
            loop.call_later(LOOK_S, self._look, loop, everyone)


class Connection(WithoutUpgrades):
    """A connection whose head, time and place are bounded."""

    guard: Guard

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._is_between = True  # requests: what arrives now begins with a head
        self._is_in_head = False
        self._is_turned_away = False
        self._last_words: Callable[[], None] | None = None  # once earlier requests are answered
        self._ahead: Any = None  # the request that is being answered where others wait behind it
        self.since = 0.0  # when what it does now began: being idle, sending a head, sending a body
        self.url = b""
        self._head_bytes = 0
        self._partial_bytes = 0  # of a head, since the piece in which it began
        self._unsent: tuple[int, float] | None = None  # bytes, and since when none was taken

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.since = self.loop.time()
        self.guard.welcome(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.guard.turned_away.discard(self)
        if self._is_answering:  # uvicorn tells the last request alone, which may wait behind it
            self._tell_that_the_client_is_gone()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._is_deaf:
            return
        was_in_head = self._is_in_head
        super().data_received(data)
        if was_in_head and self._is_in_head and not self._is_deaf:
            self._partial_bytes += len(data)
            if self._partial_bytes > self.guard.settings.max_header_bytes:
                self._refuse_head()

    def on_message_begin(self) -> None:
        self._is_between, self._is_in_head = False, True
        self._head_bytes = self._partial_bytes = 0
        self.since = self.loop.time()
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(len(name) + len(value) + len(b": \r\n"))
        super().on_header(name, value)

    def head_arrived(self) -> None:
        """From here on the body has its time."""
        self._is_in_head = False
        self.since = self.loop.time()

    def on_headers_complete(self) -> None:
        before = self.oldest
        super().on_headers_complete()
        self.head_arrived()
        if self.pipeline:
            self._ahead = before
        if self.guard.closing.is_set() and self.cycle is not None:
            self.cycle.keep_alive = False

    def message_arrived(self) -> None:
        """What comes next begins with a head."""
        self._is_between = True

    def on_message_complete(self) -> None:
        self.message_arrived()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """As uvicorn's, without a timer for each request: `look` ends what is idle for long."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.since = self.loop.time()
        self.flow.resume_reading()
        if self.pipeline:
            cycle, app = self.pipeline.pop()
            self._ahead = cycle
            self._start_asgi_task(cycle, app)
        elif self._last_words:
            self._last_words()

    def send_400_response(self, msg: str) -> None:
        """What the parser refuses: no HTTP, or a head that was found too large on the way."""
        if self._head_bytes > self.guard.settings.max_header_bytes:
            self._refuse_head()
        elif not self._is_deaf:
            self.guard.metrics.connection_closed("invalid_http")
            self._end_with(partial(super().send_400_response, msg))

    def shutdown(self) -> None:
        """Answer what has begun to arrive, as any other request, and close then."""
        self.guard.closing.set()
        if self._is_between:
            super().shutdown()
        elif self._is_answering:
            self.cycle.keep_alive = False

    @property
    def _is_answering(self) -> bool:
        return self.oldest is not None and not self.oldest.response_complete

    @property
    def oldest(self) -> Any:
        """The cycle of the oldest request without an answer; if all are answered, of the last."""
        return self._ahead if self.pipeline else self.cycle

    @property
    def _is_awaited(self) -> bool:
        """Whether the answer to a request that has arrived is still to be sent."""
        arrives = not (self._is_between or self._is_in_head)
        return self._is_answering and not (arrives and self.oldest is self.cycle)

    @property
    def _is_deaf(self) -> bool:
        """Whether nothing that arrives is heeded any more."""
        return self._is_turned_away or self._last_words is not None

    @property
    def can_give_way(self) -> bool:
        """Whether nobody waits for an answer on it, or takes one."""
        if self._is_turned_away:
            return False
        if self.transport.is_closing() or self.transport.get_write_buffer_size():
            return self._unsent is not None and self.loop.time() - self._unsent[1] > LOOK_S
        return not self._is_awaited

    def look(self, now: float) -> None:
        """End the connection if what it does has taken too long."""
        settings = self.guard.settings
        if self._is_turned_away:
            if now - self.since > LOOK_S:
                self.transport.abort()
            return
        if unsent := self.transport.get_write_buffer_size():
            before, since = self._unsent or (unsent, now)
            self._unsent = (unsent, since if unsent >= before else now)
            if now - self._unsent[1] > settings.write_timeout_s:
                self.drop("write_timeout")
            return
        self._unsent = None
        if self.transport.is_closing() or self._is_deaf:
            return
        if self._is_between:
            if not self._is_answering and now - self.since > self.timeout_keep_alive:
                self.drop("idle")
        elif self.flow.read_paused:  # it is not the client who lets the other wait
            self.since = now
        else:
            is_last = self.guard.closing.is_set() and self._is_in_head
            within = LAST_HEAD_S if is_last else settings.read_timeout_s
            if now - self.since > within:
                what = "head" if self._is_in_head else "body"
                self.turn_away(RequestTimeoutError(f"the {what} did not arrive in {within:g} s"))

    def drop(self, reason: str) -> None:
        """End the connection without a word."""
        self.guard.metrics.connection_closed(reason)
        self._unsent = None
        self.transport.abort()

    def turn_away(self, error: PerceptdError) -> None:
        """Answer what has arrived, say why no more is, then close."""
        if self._is_deaf:
            return
        self.guard.metrics.connection_closed(problems.code_of(error))
        self._end_with(partial(self._say, error))

    def _end_with(self, last_words: Callable[[], None]) -> None:
        """Have them said at once, or after the answers to the requests that came before: who
        waits for one would take them for it.
        """
        if not self._is_awaited:
            last_words()
            return
        if not self._is_in_head and not self._is_between:  # the request of which a part is missing
            self.pipeline.popleft()
            self.cycle = self.pipeline[0][0] if self.pipeline else self._ahead
        self._last_words, self._is_between = last_words, False

    def _say(self, error: PerceptdError) -> None:
        """Refuse what arrives.

        What still does is read until the client has had time to read the answer: a connection
        closed before would take it back.
        """
        self._is_turned_away, self._is_between = True, False
        self.since = self.loop.time()
        if self._is_answering:  # somebody waits for the rest of a body
            self._tell_that_the_client_is_gone()
        if len(self.guard.turned_away) >= MAX_TURNED_AWAY or self._has_begun_to_answer:
            self.transport.abort()
            return
        self.guard.turned_away.add(self)
        path = self.url.decode("ascii", "replace").partition("?")[0] or "/"
        self.transport.write(closing_response(error, path, self.server_state.default_headers))
        self.transport.write_eof()

    def _tell_that_the_client_is_gone(self) -> None:
        self.oldest.disconnected = True
        self.oldest.message_event.set()

    @property
    def _has_begun_to_answer(self) -> bool:
        return self._is_answering and bool(getattr(self.cycle, "response_started", False))

    def _count(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > self.guard.settings.max_header_bytes:
            raise HeadersTooLargeError  # the parser stops, and `send_400_response` follows

    def _refuse_head(self) -> None:
        most = self.guard.settings.max_header_bytes
        self.turn_away(HeadersTooLargeError(f"a head may have up to {most:,} bytes"))


def closing_response(error: PerceptdError, path: str, usual: list[tuple[bytes, bytes]]) -> bytes:
    """All bytes of the answer after which a connection is closed."""
    problem = problems.of(error, path[:MAX_PATH])
    problem.headers[HEADER] = request_id("")
    headers = b"".join(b"%b: %b\r\n" % header for header in (*usual, *problem.raw_headers))
    end = b"connection: close\r\n\r\n"
    return STATUS_LINE[problem.status_code] + headers + end + bytes(problem.body)


def max_open_files() -> int:
    """The files that this process may have open: as many as the system lets it ask for."""
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
