"""Predictions, answered where their bytes arrive.

A prediction takes microseconds; a task, an ASGI scope, a router and its dependencies for each take
several times as many (`benchmarks/profile.py` shows them). So uvicorn's protocol is asked here
whether a request is plainly a prediction: then it is read, put into a batch and answered without
them. Whatever is unusual or wrong goes the ordinary way, from its first byte: what is accepted,
refused and documented is decided in `perceptd.service.api.routes.predict` alone.

Clients repeat themselves: a head that came before, byte by byte, is not taken apart again.
"""

import asyncio
import logging
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from time import perf_counter
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from starlette.datastructures import State
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from perceptd.service import logging as logs
from perceptd.service.api import problems
from perceptd.service.api.middleware import HEADER, request_id
from perceptd.service.auth.access import Access
from perceptd.service.errors import (
    CallerGoneError,
    DeadlineExceededError,
    PerceptdError,
    QueueFullError,
)
from perceptd.service.inference.decoder import MAX_BYTES
from perceptd.service.inference.engine import Engine
from perceptd.service.inference.loaded_version import LoadedVersion
from perceptd.service.inference.pending import Caller, Outcome, PendingRequest
from perceptd.service.telemetry.metrics import Metrics
from perceptd.service.telemetry.spans import GONE, Spans, ids, sampled
from perceptd.service.wire import overload as refusals
from perceptd.service.wire.busy_poll import BusyPoll
from perceptd.service.wire.connections import Connection, Guard
from perceptd.service.wire.hot_routes import Head, Headers, plain_head

if TYPE_CHECKING:
    from opentelemetry.trace import Span

MAX_HEADS = 1024
MAX_HEAD_BYTES = 2048
LARGE_BYTES = 16_384  # of a request whose body is not worth a parser
POST = b"POST "
END_OF_HEAD = b"\r\n\r\n"
ID_HEADER = HEADER.encode() + b": %b\r\n"
JSON_HEADERS = b"content-type: application/json\r\ncontent-length: %d\r\n"

log = logging.getLogger("perceptd")


def protocol(app: FastAPI) -> type["HotPath"]:
    """uvicorn's protocol for the connections to an app of `create_app`."""
    busy_poll = BusyPoll(app.state.settings.busy_poll_us / 1e6)
    app.state.guard = Guard(app.state.settings, app.state.metrics)
    shared = {
        "service": app.state,
        "heads": {},
        "hashed_heads": {},
        "busy_poll": busy_poll,
        "guard": app.state.guard,
        "overload": refusals.Overload(),
        "timeout_s": app.state.settings.request_timeout_ms / 1000,
    }
    return type("HotPath", (HotPath,), shared)


class Prediction:
    """A request that is answered here; to uvicorn, what its own request cycle is."""

    message_event = asyncio.Event()  # uvicorn sets it; nobody waits for it
    waiting: PendingRequest | None = None

    def __init__(self, head: Head, began: float, span: "Span | None") -> None:
        self.head = head
        self.request_id = request_id(head.request_id)
        self.began = began
        self.span = span
        self.response_complete = False
        self.disconnected = False
        self.keep_alive = True


@dataclass
class Large:
    """A prediction of a head that is known, whose body is still arriving."""

    head: Head
    start: bytes  # the head, as it came
    parts: list[bytes]
    missing: int  # bytes


class HotPath(Connection):
    """One connection."""

    service: State
    heads: dict[bytes, Head]
    hashed_heads: dict[bytes, Head]
    busy_poll: BusyPoll
    overload: refusals.Overload
    timeout_s: float

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._engine: Engine = self.service.engine
        self._access: Access = self.service.access
        self._metrics: Metrics = self.service.metrics
        self._spans: Spans | None = self.service.spans
        self._new_head: bytes | None = None  # of what arrives now, to be remembered if it is plain
        self._arriving: tuple[Head, list[bytes]] | None = None  # a prediction's head and body
        self._large: Large | None = None  # what arrives now
        self._is_refused = False  # what arrives now was looked at, and is for the router
        self._usual_headers: Headers = []
        self._usual = b""

    def data_received(self, data: bytes) -> None:
        if self._large and not self._is_deaf:
            self._read_on(self._large, data)
            return
        self._new_head, self._is_refused = None, False
        if self._is_between and data.startswith(POST):  # the parser would skip empty lines before
            end = data.find(END_OF_HEAD) + len(END_OF_HEAD)
            head = self._known(data[:end])
            if head and len(data) == end + head.length and self._is_free(head):
                if self._is_shed(head, data[end : end + refusals.LOOK_BYTES], data):
                    return
                if self._answer(head, data[end:]):
                    return
                self._is_refused = True
            elif head and len(data) < end + head.length >= LARGE_BYTES and self._is_free(head):
                self._is_between, self.url = False, head.url
                self.head_arrived()
                self._large = Large(head, data[:end], [data[end:]], end + head.length - len(data))
                return
            elif len(END_OF_HEAD) <= end <= MAX_HEAD_BYTES:
                self._new_head = data[:end]
        super().data_received(data)

    def _read_on(self, large: "Large", data: bytes) -> None:
        """The next piece of a large body, which the parser would copy."""
        piece = data[: large.missing]
        large.parts.append(piece)
        large.missing -= len(piece)
        if large.missing:
            return
        self._large = None
        self.message_arrived()
        head, parts = large.head, large.parts
        if not self._is_shed(head, parts[0], parts[-1]):
            body = b"".join(parts)
            if not self._answer(head, body):
                self._new_head, self._is_refused = None, True
                super().data_received(large.start + body)
        if len(data) > len(piece):
            self.data_received(data[len(piece) :])

    def on_headers_complete(self) -> None:
        head = None if self._is_refused else self._plain_head()
        self._is_refused = False
        if head and self._is_free(head):
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
            if parts and self._is_shed(head, parts[0], parts[-1]):
                return
            body = b"".join(parts)
            if self._answer(head, body):
                return
            super().on_headers_complete()
            super().on_body(body)
        super().on_message_complete()

    def _known(self, start: bytes) -> Head | None:
        """A head that came before. One with a token is known by its hash: no token is kept."""
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
        if head is None or head.length > min(self.service.settings.max_body_bytes, MAX_BYTES):
            return None
        if head.forwarded and logs.is_logged():  # uvicorn knows which proxies to believe
            return None
        if head.foreign and self.service.settings.cors_origins:  # the answer says who may read it
            return None
        return head

    def _is_free(self, head: Head) -> bool:
        """Whether a prediction may be answered now: none before it waits, and it is allowed."""
        if self.cycle is not None and not self.cycle.response_complete:
            return False
        if self.flow.write_paused:
            return False
        return self._access.is_open or self._access.may_predict(head.token)

    def _is_shed(self, head: Head, first: bytes, last: bytes) -> bool:
        """Whether a prediction was refused, or its client is gone: from how its body begins and
        ends, which may be all of it.
        """
        if not self.overload.lasts(self.loop.time()):
            return False
        if full := self.overload.refusal(self._engine, first, last, head.length):
            self._refuse(self._begun(head, perf_counter()), *full)
            return True
        if refusals.has_left(self.transport):
            self.transport.abort()
            return True
        return False

    def _answer(self, head: Head, body: bytes) -> bool:
        """Have a prediction answered; False where it has to go the ordinary way."""
        began, now = perf_counter(), self.loop.time()
        try:
            found = head.route.read(self._engine, head.query, body)
        except Exception:  # the parser would blame the caller for it
            log.exception("%s could not be read here", head.route.path)
            return False
        if found is None:
            return False
        version, rows = found
        prediction = self._begun(head, began)
        deliver = partial(self._deliver, prediction, version)
        caller = Caller(now + self.timeout_s, self._has_gone, sampled(prediction.span))
        try:
            prediction.waiting = version.batcher.enqueue(rows, deliver, caller)
            if version.batcher.is_long:
                self.overload.saw_long_queue(now)
        except QueueFullError as error:
            self.overload.saw_full_queue(version, rows, body, now)
            self._refuse(prediction, version, error)
        return True

    def _has_gone(self) -> bool:
        if self.transport.is_closing():
            return True
        return self.overload.lasts(self.loop.time()) and refusals.has_left(self.transport)

    def _begun(self, head: Head, began: float) -> Prediction:
        span = self._spans.request(head.route.path, head.headers, began) if self._spans else None
        prediction = Prediction(head, began, span)
        prediction.keep_alive = not self.guard.is_ending
        self.cycle = prediction  # type: ignore[assignment] # all that uvicorn asks of one
        return prediction

    def look(self, now: float) -> None:
        """End a prediction, too, that the batch which runs keeps beyond its time."""
        super().look(now)
        waiting = self.oldest.waiting if isinstance(self.oldest, Prediction) else None
        if waiting and not waiting.ended and (waiting.caller.deadline or now) < now:
            waiting.end(DeadlineExceededError())

    def _deliver(self, prediction: Prediction, version: LoadedVersion, outcome: Outcome) -> None:
        prediction.waiting = None  # which has the version, that another may have replaced
        route = prediction.head.route
        if self.transport.is_closing() or isinstance(outcome, CallerGoneError):
            took = perf_counter() - prediction.began
            self._metrics.request("POST", route.path, GONE, took, version.model, version.version)
            if self._spans and prediction.span:
                self._spans.answered(prediction.span, GONE)
            self.transport.abort()
            return
        try:
            if isinstance(outcome, Exception):
                raise outcome
            body = route.write(version, version.checked(outcome))
            status, headers = 200, JSON_HEADERS % len(body)
        except Exception as error:
            if isinstance(error, PerceptdError):
                problem = problems.of(error, route.path)
            else:
                problem = problems.fault(route.path, prediction.request_id, error)
            status, headers = problem.status_code, lines(problem.raw_headers)
            body = bytes(problem.body)
        self._respond(prediction, version, status, headers, body)

    def _refuse(self, prediction: Prediction, version: LoadedVersion, full: QueueFullError) -> None:
        """Tell a caller that there is no room; few bytes of that are made anew."""
        path = prediction.head.route.path
        headers, body = refusals.response(path, str(full), full.retry_after_s or 1)
        self._respond(prediction, version, 429, headers, body)

    def _respond(
        self,
        prediction: Prediction,
        version: LoadedVersion,
        status: int,
        headers: bytes,
        body: bytes,
    ) -> None:
        """Send a response, and have it counted, traced and logged."""
        path = prediction.head.route.path
        name = prediction.request_id
        took = perf_counter() - prediction.began
        self._metrics.request("POST", path, status, took, version.model, version.version)
        self._send(prediction, status, headers + ID_HEADER % name.encode(), body)
        if self._spans and prediction.span:
            self._spans.answered(prediction.span, status)
        if logs.is_logged():
            facts = {
                "request_id": name,
                "model": version.model,
                "version": version.version,
                **ids(prediction.span),
            }
            client = self.client[0] if self.client else None
            logs.request("POST", path, status, prediction.began, client=client, **facts)

    def _send(self, prediction: Prediction, status: int, headers: bytes, body: bytes) -> None:
        """Write a whole response, as uvicorn's own request cycle does."""
        if self.server_state.default_headers is not self._usual_headers:  # new ones each second
            self._usual_headers = self.server_state.default_headers
            self._usual = lines(self._usual_headers)
        end = b"\r\n" if prediction.keep_alive else b"connection: close\r\n\r\n"
        self.transport.write(b"".join((STATUS_LINE[status], self._usual, headers, end, body)))
        prediction.response_complete = True
        if not prediction.keep_alive:
            self.transport.close()
        self.on_response_complete()
        self.busy_poll.extend(self.loop)


def lines(headers: Headers) -> bytes:
    return b"".join(b"%b: %b\r\n" % header for header in headers)
