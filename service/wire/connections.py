"""An HTTP connection with a maximum head size and timeouts; it may be closed to make room."""

import asyncio
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from perceptd.service.api import problems
from perceptd.service.api.exchange import HEADER, request_id
from perceptd.service.errors import HeadersTooLargeError, PerceptdError, RequestTimeoutError
from perceptd.service.wire.guard import CHECK_S, Guard
from perceptd.service.wire.upgrades import WithoutUpgrades

MAX_TURNED_AWAY = 64  # connections that get an error response; more are closed without one
MAX_PATH = 200  # characters of the path that an error repeats
LAST_HEAD_S = 1.0  # for the rest of a head once the server shuts down


class Connection(WithoutUpgrades):
    guard: Guard  # of all connections; set by `protocol`

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._is_between = True  # between two requests: the next byte begins a head
        self._is_in_head = False
        self._is_turned_away = False
        # Sends the error that ends the connection, once earlier requests are answered.
        self._final_refusal: Callable[[], None] | None = None
        self._ahead: Any = None  # the cycle being answered while later ones wait in the pipeline
        self.since = 0.0  # when the current state began: idle, in a head, in a body
        self.url = b""
        self._head_bytes = 0
        self._partial_bytes = 0  # of an incomplete head, after the chunk in which it began
        # The bytes not sent yet, and the time since which the client has read none of them.
        self._unsent: tuple[int, float] | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn has it
        super().connection_made(transport)
        self.since = self.loop.time()
        self.guard.admit(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.guard.turned_away.discard(self)
        if self._is_answering:  # uvicorn notifies only the last request in the pipeline
            self._disconnect_oldest()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._ignores_input:
            return
        was_in_head = self._is_in_head
        super().data_received(data)
        if was_in_head and self._is_in_head and not self._ignores_input:
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
        """Start the timeout of the body."""
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
        """Expect the next head."""
        self._is_between = True

    def on_message_complete(self) -> None:
        self.message_arrived()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """As uvicorn's, without a timer for each request: `check` ends idle connections."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.since = self.loop.time()
        self.flow.resume_reading()
        if self.pipeline:
            cycle, app = self.pipeline.pop()
            self._ahead = cycle
            self._start_asgi_task(cycle, app)
        elif self._final_refusal:
            self._final_refusal()

    def send_400_response(self, msg: str) -> None:
        """Refuse what the parser rejects: invalid HTTP, or a head that `_count` found too large."""
        if self._head_bytes > self.guard.settings.max_header_bytes:
            self._refuse_head()
        elif not self._ignores_input:
            self.guard.metrics.connection_closed("invalid_http")
            self._end_with(partial(super().send_400_response, msg))

    def shutdown(self) -> None:
        """Answer a request that has begun to arrive, then close."""
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
        """The cycle of the oldest unanswered request; of the last one if all are answered."""
        return self._ahead if self.pipeline else self.cycle

    @property
    def _is_awaited(self) -> bool:
        """Whether a request that has arrived whole is not answered yet."""
        body_arrives = not (self._is_between or self._is_in_head)
        return self._is_answering and not (body_arrives and self.oldest is self.cycle)

    @property
    def _ignores_input(self) -> bool:
        return self._is_turned_away or self._final_refusal is not None

    @property
    def can_give_way(self) -> bool:
        """Whether no client waits for an answer or reads one."""
        if self._is_turned_away:
            return False
        if self.transport.is_closing() or self.transport.get_write_buffer_size():
            return self._unsent is not None and self.loop.time() - self._unsent[1] > CHECK_S
        return not self._is_awaited

    def check(self, now: float) -> None:
        """End the connection if its state has lasted too long."""
        settings = self.guard.settings
        if self._is_turned_away:
            if now - self.since > CHECK_S:
                self.transport.abort()
            return
        if unsent := self.transport.get_write_buffer_size():
            before, since = self._unsent or (unsent, now)
            self._unsent = (unsent, since if unsent >= before else now)
            if now - self._unsent[1] > settings.write_timeout_s:
                self.drop("write_timeout")
            return
        self._unsent = None
        if self.transport.is_closing() or self._ignores_input:
            return
        if self._is_between:
            if not self._is_answering and now - self.since > self.timeout_keep_alive:
                self.drop("idle")
        elif self.flow.read_paused:  # the server is the slower one
            self.since = now
        else:
            is_last = self.guard.closing.is_set() and self._is_in_head
            timeout = LAST_HEAD_S if is_last else settings.read_timeout_s
            if now - self.since > timeout:
                what = "head" if self._is_in_head else "body"
                self.turn_away(RequestTimeoutError(f"the {what} did not arrive in {timeout:g} s"))

    def drop(self, reason: str) -> None:
        """Abort the connection."""
        self.guard.metrics.connection_closed(reason)
        self._unsent = None
        self.transport.abort()

    def turn_away(self, error: PerceptdError) -> None:
        """Answer the requests that have arrived, send the error, then close."""
        if self._ignores_input:
            return
        self.guard.metrics.connection_closed(problems.code_of(error))
        self._end_with(partial(self._send_error, error))

    def _end_with(self, refuse: Callable[[], None]) -> None:
        """Call `refuse` after earlier requests are answered, as responses keep their order."""
        if not self._is_awaited:
            refuse()
            return
        if not self._is_in_head and not self._is_between:  # the last request is incomplete
            self.pipeline.popleft()
            self.cycle = self.pipeline[0][0] if self.pipeline else self._ahead
        self._final_refusal, self._is_between = refuse, False

    def _send_error(self, error: PerceptdError) -> None:
        """Send the error in place of an answer to the incomplete request.

        The rest of that request is still read until the client has had time to read the error:
        closing at once would reset the connection, and the error would be lost.
        """
        self._is_turned_away, self._is_between = True, False
        self.since = self.loop.time()
        if self._is_answering:  # a route waits for the rest of a body
            self._disconnect_oldest()
        if len(self.guard.turned_away) >= MAX_TURNED_AWAY or self._has_begun_to_answer:
            self.transport.abort()
            return
        self.guard.turned_away.add(self)
        path = self.url.decode("ascii", "replace").partition("?")[0] or "/"
        self.transport.write(closing_response(error, path, self.server_state.default_headers))
        self.transport.write_eof()

    def _disconnect_oldest(self) -> None:
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
        limit = self.guard.settings.max_header_bytes
        self.turn_away(HeadersTooLargeError(f"a head may have up to {limit:,} bytes"))


def closing_response(
    error: PerceptdError, path: str, default_headers: list[tuple[bytes, bytes]]
) -> bytes:
    """The bytes of an error response that closes the connection."""
    problem = problems.of(error, path[:MAX_PATH])
    problem.headers[HEADER] = request_id("")
    headers = header_lines((*default_headers, *problem.raw_headers))
    end = b"connection: close\r\n\r\n"
    return STATUS_LINE[problem.status_code] + headers + end + bytes(problem.body)


def header_lines(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    return b"".join(b"%b: %b\r\n" % header for header in headers)
