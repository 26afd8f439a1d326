"""Compressed request bodies, unpacked on their way in: nothing below knows of them."""

import zlib

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from perceptd.service.api import problems
from perceptd.service.errors import (
    PROBLEMS,
    BodyTooLargeError,
    FieldError,
    InvalidInputError,
    UnsupportedMediaTypeError,
)

HEADER = b"content-encoding"
DESCRIBES_WHAT_CAME = (HEADER, b"content-length")
GZIP = ("gzip", "x-gzip")
DEFLATE = "deflate"
KNOWN = "gzip, deflate, identity"
CHUNK = 64 * 1024  # bytes that are unpacked at a time, however small they came


class Decompression:
    """Outside of what counts a body's bytes, which so counts the unpacked ones."""

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
                f"a body may be compressed as one of {KNOWN}, got {coding[:60]}",
                scope["path"],
                headers={"Accept-Encoding": KNOWN},
            )
            await refusal(scope, receive, send)
            return
        if coding in (*GZIP, DEFLATE):
            receive = Unpacked(receive, coding, self.max_body_bytes)
            # In the scope itself: those outside learn from it which route was taken.
            kept = [pair for pair in scope["headers"] if pair[0] not in DESCRIBES_WHAT_CAME]
            scope["headers"] = kept
        await self.app(scope, receive, send)


class Unpacked:
    """Receives a request's body as it was before it was compressed, chunk by chunk."""

    def __init__(self, receive: Receive, coding: str, max_packed: int) -> None:
        self._receive = receive
        self._inflater = Inflater(coding)
        self._limit = max_packed
        self._packed = 0
        self._all_came = False
        self._ended = False

    async def __call__(self) -> Message:
        """Raises `InvalidInputError` for what cannot be unpacked, `BodyTooLargeError`."""
        while not self._ended:
            if piece := self._inflater.read():
                return {"type": "http.request", "body": piece, "more_body": True}
            if self._all_came:
                self._inflater.check_whole()
                self._ended = True
                return {"type": "http.request", "body": b"", "more_body": False}
            message = await self._receive()
            if message["type"] != "http.request":  # the caller is gone
                return message
            packed = message.get("body", b"")
            self._packed += len(packed)
            if self._packed > self._limit:  # such as a million empty streams in a row
                raise BodyTooLargeError.over(self._limit)
            self._inflater.feed(packed)
            self._all_came = not message.get("more_body", False)
        return await self._receive()


class Inflater:
    """One compressed body. A gzip one may have several streams, one after the other."""

    def __init__(self, coding: str) -> None:
        self._coding = coding
        self._packed = b""
        self._stream: zlib._Decompress | None = None  # None between streams
        self._streams = 0
        self._has_more = False  # unpacked bytes, of packed ones that it has taken already

    def feed(self, packed: bytes) -> None:
        """The next packed bytes; all before them have been read."""
        self._packed = packed

    def read(self) -> bytes:
        """At most `CHUNK` unpacked bytes; none where more packed ones are needed."""
        while self._packed or self._has_more:
            self._stream = self._stream or self._next_stream()
            try:
                piece = self._stream.decompress(self._packed, CHUNK)
            except zlib.error:
                raise self._refusal("damaged data") from None
            self._packed = self._stream.unconsumed_tail or self._stream.unused_data
            self._has_more = len(piece) == CHUNK and not self._stream.eof
            if self._stream.eof:
                self._stream = None
            if piece:
                return piece
        return b""

    def check_whole(self) -> None:
        """Raise `InvalidInputError` where the body ended before its last stream did."""
        if self._stream:
            raise self._refusal("one that stops early")

    def _next_stream(self) -> "zlib._Decompress":
        self._streams += 1
        if self._coding in GZIP:
            return zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
        if self._streams > 1:
            raise self._refusal("more after its end")
        # RFC 9110 means zlib's format, whose first byte ends in 8; some senders leave it out.
        has_header = self._packed[0] & 0x0F == zlib.DEFLATED
        return zlib.decompressobj(wbits=zlib.MAX_WBITS if has_header else -zlib.MAX_WBITS)

    def _refusal(self, got: str) -> InvalidInputError:
        expected = f"a whole body as its Content-Encoding says: {self._coding}"
        return InvalidInputError.of([FieldError(loc=[], expected=expected, got=got)])
