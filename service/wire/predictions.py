"""Predictions that a connection answers itself, without a task, a scope and a router."""

import asyncio
import logging
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from perceptd.service.api import problems
from perceptd.service.api.exchange import HEADER, Exchange
from perceptd.service.api.services import Services, services_of
from perceptd.service.errors import (
    CallerGoneError,
    DeadlineExceededError,
    PerceptdError,
    QueueFullError,
)
from perceptd.service.inference.loaded_version import LoadedVersion
from perceptd.service.inference.pending import Caller, Outcome, PendingRequest
from perceptd.service.telemetry.spans import GONE, ids, sampled
from perceptd.service.wire import overload
from perceptd.service.wire.busy_poll import BusyPoll
from perceptd.service.wire.connections import Connection, header_lines
from perceptd.service.wire.hot_routes import Head, Headers
from perceptd.service.wire.overload import Overload

if TYPE_CHECKING:
    from opentelemetry.trace import Span

ID_HEADER = HEADER.encode() + b": %b\r\n"
JSON_HEADERS = b"content-type: application/json\r\ncontent-length: %d\r\n"

log = logging.getLogger("perceptd")


class Prediction(Exchange):
    """A prediction that is answered here; uvicorn takes it for its own request cycle."""

    __slots__ = ("disconnected", "head", "keep_alive", "pending", "response_complete")

    message_event = asyncio.Event()  # uvicorn sets it; nothing waits for it

    def __init__(
        self,
        services: Services,
        head: Head,
        client: tuple[str, int] | None,
        began: float,
        span: "Span | None",
    ) -> None:
        super().__init__(services, "POST", head.route.path, head.request_id, client, began, span)
        self.head = head
        self.pending: PendingRequest | None = None  # while it is in a batch or queued
        self.response_complete = False
        self.disconnected = False
        self.keep_alive = True

    def facts(self) -> dict[str, Any]:
        about = {"request_id": self.request_id, "model": self.model, "version": self.version}
        return {**about, **ids(self.span)}


class PredictingConnection(Connection):
    """Answers predictions; the class attributes are shared by all connections of a process."""

    app_served: FastAPI
    busy_poll: BusyPoll
    overload: Overload
    timeout_s: float

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._services = services_of(self.app_served)
        self._engine = self._services.engine
        self._usual_headers: Headers = []  # uvicorn's, with the date
        self._usual_lines = b""

    def shed(self, head: Head, first: bytes, last: bytes) -> bool:
        """Whether a prediction was refused, or its client is gone, before its body is parsed.

        The body is known by its first and last bytes, which may be all of it.
        """
        if not self.overload.lasts(self.loop.time()):
            return False
        if full := self.overload.refusal(self._engine, first, last, head.length):
            version, error = full
            self._refuse(self._begin(head, version, perf_counter()), error)
            return True
        if overload.has_left(self.transport):
            self.transport.abort()
            return True
        return False

    def answer(self, head: Head, body: bytes) -> bool:
        """Queue a prediction to be answered; False if it is for the router."""
        began, now = perf_counter(), self.loop.time()
        try:
            found = head.route.read(self._engine, head.query, body)
        except Exception:  # uvicorn's parser would answer 400
            log.exception("the fast path could not read a body of %s", head.route.path)
            return False
        if found is None:
            return False
        version, rows = found
        prediction = self._begin(head, version, began)
        deliver = partial(self._deliver, prediction, version)
        caller = Caller(now + self.timeout_s, self._has_gone, sampled(prediction.span))
        try:
            prediction.pending = version.batcher.enqueue(rows, deliver, caller)
            if version.batcher.has_long_queue:
                self.overload.saw_long_queue(now)
        except QueueFullError as error:
            self.overload.saw_full_queue(version, rows, body, now)
            self._refuse(prediction, error)
        return True

    def check(self, now: float) -> None:
        """Also end a prediction whose deadline passes while its batch runs."""
        super().check(now)
        pending = self.oldest.pending if isinstance(self.oldest, Prediction) else None
        if pending and not pending.ended and (pending.caller.deadline or now) < now:
            pending.end(DeadlineExceededError())

    def _has_gone(self) -> bool:
        if self.transport.is_closing():
            return True
        return self.overload.lasts(self.loop.time()) and overload.has_left(self.transport)

    def _begin(self, head: Head, version: LoadedVersion, began: float) -> Prediction:
        spans = self._services.spans
        span = spans.request(head.route.path, head.headers, began) if spans else None
        prediction = Prediction(self._services, head, self.client, began, span)
        prediction.answered_by(version)
        prediction.keep_alive = not self.guard.closing.is_set()
        self.cycle = prediction  # type: ignore[assignment] # has all that uvicorn uses of a cycle
        return prediction

    def _deliver(self, prediction: Prediction, version: LoadedVersion, outcome: Outcome) -> None:
        prediction.pending = None  # it refers to the version, which may be replaced by now
        route = prediction.head.route
        if self.transport.is_closing() or isinstance(outcome, CallerGoneError):
            prediction.answer(GONE, route.path)
            self.transport.abort()
            prediction.finish()
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
            status, headers = problem.status_code, header_lines(problem.raw_headers)
            body = bytes(problem.body)
        self._respond(prediction, status, headers, body)

    def _refuse(self, prediction: Prediction, full: QueueFullError) -> None:
        path = prediction.path
        headers, body = overload.response(path, str(full), full.retry_after_s or 1)
        self._respond(prediction, 429, headers, body)

    def _respond(self, prediction: Prediction, status: int, headers: bytes, body: bytes) -> None:
        prediction.answer(status, prediction.path)
        name = ID_HEADER % prediction.request_id.encode()
        self._write(prediction, status, headers + name, body)
        prediction.finish()

    def _write(self, prediction: Prediction, status: int, headers: bytes, body: bytes) -> None:
        """Write a whole response, as uvicorn's own request cycle does."""
        if self.server_state.default_headers is not self._usual_headers:  # uvicorn renews the date
            self._usual_headers = self.server_state.default_headers
            self._usual_lines = header_lines(self._usual_headers)
        end = b"\r\n" if prediction.keep_alive else b"connection: close\r\n\r\n"
        self.transport.write(b"".join((STATUS_LINE[status], self._usual_lines, headers, end, body)))
        prediction.response_complete = True
        if not prediction.keep_alive:
            self.transport.close()
        self.on_response_complete()
        self.busy_poll.extend(self.loop)
