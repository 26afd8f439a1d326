"""The fast path: recognizes plain predictions in the bytes that arrive.

A prediction takes microseconds; a task, an ASGI scope, a router and its dependencies take several
times as many (`benchmarks/profile.py` measures them). So this protocol looks whether a request is
plainly a prediction; if it is, the connection reads and answers it itself. Any other request goes
to the application from its first byte: only `perceptd.service.api.routes.predict` decides what is
accepted, refused and documented.

Clients repeat themselves: a head that has come before, byte by byte, is not parsed again.
"""

from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from fastapi import FastAPI

from perceptd.service import logging as logs
from perceptd.service.api.services import services_of
from perceptd.service.inference.decoder import END_BYTES, MAX_BYTES
from perceptd.service.settings import Settings
from perceptd.service.wire.busy_poll import BusyPoll
from perceptd.service.wire.guard import Guard
from perceptd.service.wire.hot_routes import Head, plain_head
from perceptd.service.wire.overload import Overload
from perceptd.service.wire.predictions import PredictingConnection

MAX_HEADS = 1024
MAX_HEAD_BYTES = 2048
LARGE_BYTES = 16_384  # from this size on, a request bypasses uvicorn's parser while it arrives
POST = b"POST "
END_OF_HEAD = b"\r\n\r\n"


def protocol(app: FastAPI) -> type["HotPath"]:
    """uvicorn's protocol for the connections to an app of `create_app`."""
    services = services_of(app)
    settings = services.settings
    shared = {
        "app_served": app,
        "settings": settings,
        "heads": {},
        "hashed_heads": {},
        "busy_poll": BusyPoll(settings.busy_poll_us / 1e6),
        "guard": Guard(settings, services.metrics, services.closing),
        "overload": Overload(),
        "timeout_s": settings.request_timeout_ms / 1000,
    }
    return type("HotPath", (HotPath,), shared)


@dataclass
class LargeRequest:
    """A prediction with a known head, whose body is still arriving."""

    head: Head
    start: bytes  # the head as it came
    parts: list[bytes]
    missing: int  # bytes


class HotPath(PredictingConnection):
    """One connection."""

    settings: Settings
    heads: dict[bytes, Head]
    hashed_heads: dict[bytes, Head]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._access = self._services.access
        # Of the request that is arriving:
        self._new_head: bytes | None = None  # to remember if it turns out to be plain
        self._arriving: tuple[Head, list[bytes]] | None = None  # head and body, from the parser
        self._large: LargeRequest | None = None
        self._is_for_router = False

    def data_received(self, data: bytes) -> None:
        if self._large and not self._ignores_input:
            self._read_on(self._large, data)
            return
        self._new_head, self._is_for_router = None, False
        if self._is_between and data.startswith(POST):  # the parser would skip empty lines before
            end = data.find(END_OF_HEAD) + len(END_OF_HEAD)
            head = self._known(data[:end])
            if head and len(data) == end + head.length and self._may_answer(head):
                if self.shed(head, data[end : end + END_BYTES], data):
                    return
                if self.answer(head, data[end:]):
                    return
                self._is_for_router = True
            elif head and len(data) < end + head.length >= LARGE_BYTES and self._may_answer(head):
                self._is_between, self.url = False, head.url
                self.head_arrived()
                missing = end + head.length - len(data)
                self._large = LargeRequest(head, data[:end], [data[end:]], missing)
                return
            elif len(END_OF_HEAD) <= end <= MAX_HEAD_BYTES:
                self._new_head = data[:end]
        super().data_received(data)

    def _read_on(self, large: LargeRequest, data: bytes) -> None:
        """Take the next piece of a large body, which the parser would copy."""
        piece = data[: large.missing]
        large.parts.append(piece)
        large.missing -= len(piece)
        if large.missing:
            return
        self._large = None
        self.message_arrived()
        head, parts = large.head, large.parts
        if not self.shed(head, parts[0], parts[-1]):
            body = b"".join(parts)
            if not self.answer(head, body):
                self._new_head, self._is_for_router = None, True
                super().data_received(large.start + body)
        if len(data) > len(piece):
            self.data_received(data[len(piece) :])

    def on_headers_complete(self) -> None:
        head = None if self._is_for_router else self._plain_head()
        self._is_for_router = False
        if head and self._may_answer(head):
            self.head_arrived()
            self._remember(head)
            self._arriving = (head, [])
        else:
            super().on_headers_complete()
        self._new_head = None

    def on_body(self, body: bytes) -> None:
        if self._arriving:
            self._arriving[1].append(body)
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        self.message_arrived()
        arrived, self._arriving = self._arriving, None
        if arrived:
            head, parts = arrived
            if parts and self.shed(head, parts[0], parts[-1]):
                return
            body = b"".join(parts)
            if self.answer(head, body):
                return
            super().on_headers_complete()
            super().on_body(body)
        super().on_message_complete()

    def _known(self, start: bytes) -> Head | None:
        """A head that came before; one with a token is kept by its hash, to store no token."""
        head = self.heads.get(start)
        if head is None and self.hashed_heads:
            return self.hashed_heads.get(sha256(start).digest())
        return head

    def _remember(self, head: Head) -> None:
        if self._new_head is not None:
            start = sha256(self._new_head).digest() if head.token else self._new_head
            heads = self.hashed_heads if head.token else self.heads
            if len(heads) >= MAX_HEADS:
                heads.clear()
            heads[start] = head

    def _plain_head(self) -> Head | None:
        parser = self.parser
        if parser.get_method() != b"POST" or parser.get_http_version() != "1.1":
            return None
        head = plain_head(self.url, self.headers) if parser.should_keep_alive() else None
        if head is None or head.length > min(self.settings.max_body_bytes, MAX_BYTES):
            return None
        if head.forwarded and logs.is_logged():  # only uvicorn knows which proxies to trust
            return None
        if head.foreign and self.settings.cors_origins:  # the response needs CORS headers
            return None
        return head

    def _may_answer(self, head: Head) -> bool:
        """Whether the connection has no unanswered request and the caller may predict."""
        if self.cycle is not None and not self.cycle.response_complete:
            return False
        if self.flow.write_paused:
            return False
        return self._access.is_open or self._access.may_predict(head.token)
