"""Limits that the server's protocol does not have: on heads, bodies, readers and bytes.

`Connection` stands between a transport and uvicorn's protocol, which takes any `asyncio.Protocol`
by its option `http`. It passes on one request after the other. From what passes, and from the
application, which says when it begins and ends to answer, it knows the state of a connection.
"""

import asyncio
from enum import Enum
from time import monotonic
from typing import Any

from perceptd.service.api import problems
from perceptd.service.api.callers import KEY
from perceptd.service.api.middleware import closing_response
from perceptd.service.errors import HeadersTooLargeError, PerceptdError, RequestTimeoutError
from perceptd.service.wire.chunks import Chunks
from perceptd.service.wire.guard import CHECK_S, Guard
from perceptd.service.wire.head import (
    END_OF_HEAD,
    MAX_PATH,
    asks_to_change_protocol,
    body_length,
    is_chunked,
    path_in,
    unchanging,
)
from perceptd.service.wire.link import Link

ALPN = "alpn_protocols"  # uvicorn offers those that the class of a protocol names
HTTP2 = b"PRI * HTTP/2.0\r\n"
LAST_HEAD_S = 1.0  # for the rest of a head once the server shuts down


class State(Enum):
    """What a connection waits for."""

    IDLE = "a request"
    HEAD = "the rest of a head"
    BODY = "the rest of a body"
    ANSWER = "the answer"
    REST = "the rest of a body that was answered already"
    STREAMS = "anything: with HTTP/2, requests overlap"


class Connection(asyncio.Protocol):
    guard: Guard  # of all connections; set by `protocol`
    serves: type[Any]  # uvicorn's protocol

    def __init__(self, app_state: dict[str, Any], **others: Any) -> None:
        self._server = self.serves(app_state={**app_state, KEY: self}, **others)
        self.state = State.IDLE
        self.since = 0.0  # when this state began
        self.bytes_held = 0  # of unfinished requests
        self.is_turned_away = False
        self._is_new = True  # until its first byte
        self._requests = 0  # under way
        self._head = b""  # as much as has arrived; once it is whole, its beginning
        # Bytes of the request under way that are not passed on yet; None if that is not known.
        self._missing: int | None = None
        self._chunks: Chunks | None = None  # of a body whose length no header says
        self._later = b""  # that follow the request under way
        # The bytes not sent yet, and the time since which the client has read none of them.
        self._unsent: tuple[int, float] | None = None
        self.guard.arrivals.accepted()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # asyncio types it for datagrams too
        self.transport = transport
        self.link = Link(self, transport)
        self.since = monotonic()
        self._server.connection_made(self.link)
        self.guard.admit(self)

    def data_received(self, data: bytes) -> None:
        if self._is_new:
            self._is_new = False
            self.guard.arrivals.spoke()
        if self.is_turned_away:
            return
        if self.state is State.IDLE or self.state is State.HEAD:
            data = self._read_head(data)
        if data and self.state is not State.REST:
            self.hold(len(data))
        if data and self._chunks and self._missing is None:
            self._missing = self._chunks.end_in(data)
            self._check_head_size(self._chunks.trailer_bytes)
        if data and self._missing is not None:
            data = self._of_this_request(data, self._missing)
        if data and not self.is_turned_away:
            self._server.data_received(data)
            if self.state is State.REST and self._missing == 0:
                self._expect_request()

    def eof_received(self) -> bool | None:
        kept: bool | None = None if self.is_turned_away else self._server.eof_received()
        return kept

    def connection_lost(self, exc: Exception | None) -> None:
        if self._is_new:
            self.guard.arrivals.spoke()
        self.guard.forget(self)
        if not self.is_turned_away:
            self._server.connection_lost(exc)

    def pause_writing(self) -> None:
        self._server.pause_writing()

    def resume_writing(self) -> None:
        self._server.resume_writing()

    def hand_to(self, server: asyncio.BaseProtocol) -> None:
        """Another protocol of uvicorn serves from now on: that of HTTP/2."""
        self._server = server

    def hold(self, count: int) -> None:
        """A request under way has become so many bytes longer."""
        if not self.is_turned_away:
            self.bytes_held += count
            self.guard.bytes_held += count
            if self.guard.bytes_held > self.guard.max_bytes:
                self.guard.relieve(self)

    def begin(self) -> None:
        """The application begins to answer a request."""
        self._requests += 1

    def end(self) -> None:
        """The application has answered."""
        share = self.bytes_held // self._requests
        self.bytes_held -= share
        self.guard.bytes_held -= share
        self._requests -= 1
        self.since = monotonic()
        self.link.uncork()
        self.link.has_begun = False
        if self.state is State.ANSWER:
            self._expect_request()
        elif self.state is State.BODY:
            self.state = State.REST

    @property
    def is_incomplete(self) -> bool:
        """Whether no client waits for an answer or reads one."""
        if self.state is State.STREAMS:
            return not self._requests
        return self.state is not State.ANSWER

    @property
    def can_give_way(self) -> bool:
        if self.is_turned_away:
            return False
        if self.transport.is_closing() or self.transport.get_write_buffer_size():
            return self._unsent is not None and monotonic() - self._unsent[1] > CHECK_S
        return self.is_incomplete

    @property
    def outlives_close(self) -> bool:
        """Whether a head is on its way that uvicorn does not know of when the server ends."""
        is_on_its_way = self.state is State.HEAD and bool(self._head)
        return is_on_its_way and self.guard.closing.is_set()

    def check(self, now: float) -> None:
        """End the connection if its state has lasted too long."""
        if self.is_turned_away:
            if now - self.since > CHECK_S:
                self.transport.abort()
        elif unsent := self.transport.get_write_buffer_size():
            before, since = self._unsent or (unsent, now)
            self._unsent = (unsent, since if unsent >= before else now)
            if now - self._unsent[1] > self.guard.settings.write_timeout_s:
                self.drop("write_timeout")
        else:
            self._unsent = None
            if self.is_incomplete and not self.transport.is_closing():
                self._check_incomplete(now)

    def _check_incomplete(self, now: float) -> None:
        limit_s = self.guard.settings.read_timeout_s
        is_idle = self.state is State.IDLE or self.state is State.STREAMS
        if is_idle:
            limit_s = self.guard.keep_alive_s
        elif self.state is State.HEAD and self.guard.closing.is_set():
            limit_s = LAST_HEAD_S
        elif self.state is State.BODY and self.link.is_paused:  # the server is the slower one
            self.since = now
        if now - self.since <= limit_s:
            return
        if is_idle or self.state is State.REST:
            self.drop("idle")
        else:
            part = "head" if self.state is State.HEAD else "body"
            self.turn_away(RequestTimeoutError(f"the {part} did not arrive in {limit_s:g} s"))

    def drop(self, reason: str) -> None:
        """Abort the connection."""
        self.guard.metrics.connection_closed(reason)
        self._unsent = None
        self.transport.abort()

    def turn_away(self, error: PerceptdError) -> None:
        """Send the error in place of an answer, then close.

        What the client still sends is read until it has had time to read the error: closing at once
        would reset the connection, and the error would be lost.
        """
        if self.is_turned_away:
            return
        self.is_turned_away = True
        self.since = monotonic()
        self.guard.metrics.connection_closed(problems.code_of(error))
        self.guard.free(self)
        self._server.connection_lost(None)  # a route that waits for the body waits no longer
        can_explain = self.state is not State.STREAMS and not self.link.has_begun
        if not (can_explain and self.guard.may_explain(self)):
            self.transport.abort()
            return
        if not self.transport.is_closing():
            self.transport.resume_reading()
        self.transport.write(closing_response(error, path_in(self._head)))
        if self.transport.can_write_eof():
            self.transport.write_eof()
        else:
            self.transport.close()

    def _read_head(self, data: bytes) -> bytes:
        """The head once it has arrived whole, with what follows it; empty until then."""
        known = len(self._head)
        head = self._head + data if known else data.lstrip(b"\r\n")
        if not head:
            return b""
        if self.state is State.IDLE:
            self.state, self.since = State.HEAD, monotonic()
        end = head.find(END_OF_HEAD, max(known - len(END_OF_HEAD), 0))
        size = len(head) if end < 0 else end
        if size > self.guard.settings.max_header_bytes:
            self._head = head[: 2 * MAX_PATH]
            self._check_head_size(size)
            return b""
        if end < 0:
            is_http = head[:1].isupper()  # else the parser says at once what is wrong
            self._head = head if is_http else b""
            return b"" if is_http else head
        if head.startswith(HTTP2):
            self.state, self._head = State.STREAMS, b""
            return head
        self.state, self._head = State.BODY, head[: 2 * MAX_PATH]
        end += len(END_OF_HEAD)
        names = head[:end].lower()
        length = body_length(names)
        if asks_to_change_protocol(names):
            whole = unchanging(head[:end])
            head, end = whole + head[end:], len(whole)
        self._missing = None if length is None else end + length
        self._chunks = Chunks(end) if length is None and is_chunked(names) else None
        return head

    def _check_head_size(self, size: int) -> None:
        limit = self.guard.settings.max_header_bytes
        if size > limit:
            self.turn_away(HeadersTooLargeError(f"a head may have up to {limit:,} bytes"))

    def _of_this_request(self, data: bytes, missing: int) -> bytes:
        """The part of the data that belongs to the request under way.

        What follows waits until the request is answered: the parser sees no request before it is
        checked, and a refusal comes after the answers to earlier requests.
        """
        if len(data) > missing:
            self._later += data[missing:]
            self.transport.pause_reading()
            data = data[:missing]
        self._missing = missing - len(data)
        if self._missing == 0 and self.state is State.BODY:
            self.state = State.ANSWER
        return data

    def _expect_request(self) -> None:
        self.state, self._head = State.IDLE, b""
        self._missing = self._chunks = None
        later, self._later = self._later, b""
        if later and not self.link.is_closing():
            self.transport.resume_reading()
            self.data_received(later)


def protocol(guard: Guard, serves: type[Any]) -> type[Connection]:
    """A protocol of uvicorn for connections that are guarded."""
    own = {"guard": guard, "serves": serves, ALPN: getattr(serves, ALPN, None)}
    return type("GuardedConnection", (Connection,), own)
