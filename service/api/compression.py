"""Decompresses request bodies, so that routes see only plain ones."""

import zlib
from typing import Protocol

from anyio import lowlevel
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from perceptd.service.api import problems
from perceptd.service.api.callers import KEY
from perceptd.service.errors import (
    PROBLEMS,
    BodyTooLargeError,
    InvalidInputError,
    UnsupportedMediaTypeError,
)
from perceptd.service.schemas.validation import invalid

HEADER = b"content-encoding"
OF_COMPRESSED_BODY = (HEADER, b"content-length")
GZIP = ("gzip", "x-gzip")
DEFLATE = "deflate"
KNOWN = "gzip, deflate, identity"
CHUNK = 64 * 1024  # decompressed bytes at a time, however few compressed ones they were


class Holder(Protocol):
    """What counts the bytes of requests: `perceptd.service.wire.connections.Connection`."""

    is_turned_away: bool  # its bytes are free again, and it must not hold more

    def hold(self, count: int) -> None: ...


class Decompression:
    """Wraps what limits a body's bytes, so that the limit holds for decompressed ones."""

    def __init__(self, app: ASGIApp, max_body_bytes: int) -> None:
        self.app = app
        self.max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        codings = [value for name, value in scope.get("headers", ()) if name == HEADER]
        if not codings:
            await self.app(scope, receive, send)
            return
        coding = b", ".join(codings).decode("latin-1").strip().lower()
        if coding not in (*GZIP, DEFLATE, "identity", ""):
            refusal = problems.response(
                PROBLEMS[UnsupportedMediaTypeError],
                f"Content-Encoding must be one of {KNOWN}; got {coding[:60]}",
                scope["path"],
                headers={"Accept-Encoding": KNOWN},
            )
            await refusal(scope, receive, send)
            return
        if coding in (*GZIP, DEFLATE):
            holder = scope.get("state", {}).get(KEY)
            receive = DecompressedReceive(receive, coding, self.max_body_bytes, holder)
            # In the scope itself: the middleware outside reads the route from it.
            kept = [pair for pair in scope["headers"] if pair[0] not in OF_COMPRESSED_BODY]
            scope["headers"] = kept
        await self.app(scope, receive, send)


class DecompressedReceive:
    """Receives a request's body decompressed, chunk by chunk, with other work in between.

    `holder` counts the bytes that it becomes longer by. Once it is turned away, the body ends.
    """

    def __init__(
        self, receive: Receive, coding: str, max_compressed: int, holder: Holder | None
    ) -> None:
        self._receive = receive
        self._holder = holder
        self._inflater = Inflater(coding)
        self._limit = max_compressed
        self._received = 0  # bytes
        self._has_all = False
        self._ended = False

    async def __call__(self) -> Message:
        """Raises `InvalidInputError` for damaged data, `BodyTooLargeError`."""
        while not self._ended:
            if self._holder and self._holder.is_turned_away:
                return {"type": "http.disconnect"}
            if piece := self._inflater.read():
                if self._holder:
                    self._holder.hold(len(piece))
                await lowlevel.checkpoint()
                return {"type": "http.request", "body": piece, "more_body": True}
            if self._has_all:
                self._inflater.check_whole()
                self._ended = True
                return {"type": "http.request", "body": b"", "more_body": False}
            message = await self._receive()
            if message["type"] != "http.request":  # the caller has disconnected
                return message
            compressed = message.get("body", b"")
            self._received += len(compressed)
            if self._received > self._limit:  # for example by a million empty streams
                raise BodyTooLargeError.over(self._limit)
            self._inflater.feed(compressed)
            self._has_all = not message.get("more_body", False)
        return await self._receive()


class Inflater:
    """Decompresses one body. A gzip body may have several streams, one after the other."""

    def __init__(self, coding: str) -> None:
        self._coding = coding
        self._compressed = b""
        self._stream: zlib._Decompress | None = None  # None between streams
        self._streams = 0
        self._has_more = False  # output of input that it has taken already

    def feed(self, compressed: bytes) -> None:
        """Take the next compressed bytes; `read` has returned nothing before."""
        self._compressed = compressed

    def read(self) -> bytes:
        """At most `CHUNK` decompressed bytes; empty if more compressed ones are needed."""
        while self._compressed or self._has_more:
            self._stream = self._stream or self._next_stream()
            try:
                piece = self._stream.decompress(self._compressed, CHUNK)
            except zlib.error:
                raise self._refusal("damaged data") from None
            self._compressed = self._stream.unconsumed_tail or self._stream.unused_data
            self._has_more = len(piece) == CHUNK and not self._stream.eof
            if self._stream.eof:
                self._stream = None
            if piece:
                return piece
        return b""

    def check_whole(self) -> None:
        """Raise `InvalidInputError` if the body ended before its last stream did."""
        if self._stream:
            raise self._refusal("one that stops early")

    def _next_stream(self) -> "zlib._Decompress":
        self._streams += 1
        if self._coding in GZIP:
            return zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
        if self._streams > 1:
            raise self._refusal("more after its end")
        # RFC 9110 means zlib's format, whose first byte ends in 8; some senders omit its header.
        has_header = self._compressed[0] & 0x0F == zlib.DEFLATED
        return zlib.decompressobj(wbits=zlib.MAX_WBITS if has_header else -zlib.MAX_WBITS)

    def _refusal(self, got: str) -> InvalidInputError:
        expected = f"a whole body as its Content-Encoding says: {self._coding}"
        return invalid([], expected, got)
