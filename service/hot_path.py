"""Predictions, answered where their bytes arrive.

A prediction takes microseconds; a task, an ASGI scope, a router and its dependencies for each take
several times as many (`benchmarks/profile.py` shows them). So uvicorn's protocol is asked here
whether a request is plainly a prediction: then it is read, put into a batch and answered without
them. Whatever is unusual or wrong goes the ordinary way, from its first byte: what is accepted,
refused and documented is decided in `service.routes.predict` alone.

Clients repeat themselves: a head that came before, byte by byte, is not taken apart again.
"""

import asyncio
import logging
from functools import partial
from typing import Any

from fastapi import FastAPI
from starlette.datastructures import State
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from service import auth, problems
from service.batcher import Caller, Outcome
from service.busy_poll import BusyPoll
from service.decoder import MAX_BYTES
from service.engine import Engine, LoadedVersion
from service.errors import PerceptdError, UnauthorizedError
from service.hot_routes import Head, Headers, plain_head
from service.metrics import Metrics
from service.middleware import HEADER, request_id
from service.upgrades import WithoutUpgrades

MAX_HEADS = 1024
MAX_HEAD_BYTES = 2048
POST = b"POST "
END_OF_HEAD = b"\r\n\r\n"
ID_HEADER = HEADER.encode() + b": %b\r\n"
JSON_HEADERS = b"content-type: application/json\r\ncontent-length: %d\r\n"

log = logging.getLogger("perceptd")


def protocol(app: FastAPI) -> type["HotPath"]:
    """uvicorn's protocol for the connections to an app of `create_app`."""
    busy_poll = BusyPoll(app.state.settings.busy_poll_us / 1e6)
    shared = {"service": app.state, "heads": {}, "busy_poll": busy_poll}
    return type("HotPath", (HotPath,), shared)


class Prediction:
    """A request that is answered here; to uvicorn, what its own request cycle is."""

    message_event = asyncio.Event()  # uvicorn sets it; nobody waits for it

    def __init__(self, head: Head) -> None:
        self.head = head
        self.response_complete = False
        self.disconnected = False
        self.keep_alive = True


class HotPath(WithoutUpgrades):
    """One connection."""

    service: State
    heads: dict[bytes, Head]
    busy_poll: BusyPoll

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._engine: Engine = self.service.engine
        self._metrics: Metrics = self.service.metrics
        self._is_between = True  # requests: what arrives now begins with a head
        self._new_head: bytes | None = None  # of what arrives now, to be remembered if it is plain
        self._arriving: tuple[Head, list[bytes]] | None = None  # a prediction's head and body
        self._is_refused = False  # what arrives now was looked at, and is for the router
        self._is_ending = False  # the server: no request is to follow
        self._usual_headers: Headers = []
        self._usual = b""

    def data_received(self, data: bytes) -> None:
        self._new_head, self._is_refused = None, False
        if self._is_between and data.startswith(POST):  # the parser would skip empty lines before
            end = data.find(END_OF_HEAD) + len(END_OF_HEAD)
            head = self.heads.get(data[:end])
            if head and len(data) == end + head.length and self._is_free(head):
                self._unset_keepalive_if_required()
                if self._answer(head, data[end:]):
                    return
                self._is_refused = True
            elif len(END_OF_HEAD) <= end <= MAX_HEAD_BYTES:
                self._new_head = data[:end]
        super().data_received(data)

    def shutdown(self) -> None:
        """Answer a prediction whose body is still arriving, as any other, and close then."""
        self._is_ending = True
        if self._arriving is None:
            super().shutdown()

    def on_message_begin(self) -> None:
        self._is_between = False
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        head = None if self._is_refused else self._plain_head()
        self._is_refused = False
        if head and self._is_free(head):
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
        self._is_between = True
        arrived, self._arriving = self._arriving, None
        if arrived:
            head, parts = arrived
            body = b"".join(parts)
            if self._answer(head, body):
                return
            super().on_headers_complete()
            self.cycle.keep_alive &= not self._is_ending
            super().on_body(body)
        super().on_message_complete()

    def _remember(self, head: Head) -> None:
        if self._new_head is not None:
            if len(self.heads) >= MAX_HEADS:
                self.heads.clear()
            self.heads[self._new_head] = head

    def _plain_head(self) -> Head | None:
        parser = self.parser
        if parser.get_method() != b"POST" or parser.get_http_version() != "1.1":
            return None
        head = plain_head(self.url, self.headers) if parser.should_keep_alive() else None
        if head is None or head.length > min(self.service.settings.max_body_bytes, MAX_BYTES):
            return None
        if head.forwarded and self.access_log:  # uvicorn knows which proxies to believe
            return None
        return head

    def _is_free(self, head: Head) -> bool:
        """Whether a prediction may be answered now: none before it waits, and it is allowed."""
        if self.cycle is not None and not self.cycle.response_complete:
            return False
        if self.flow.write_paused:
            return False
        return self.service.settings.predict_token is None or self._is_allowed(head)

    def _is_allowed(self, head: Head) -> bool:
        scheme, _, token = head.authorization.partition(b" ")
        if scheme != b"Bearer":
            return False
        known = self.service.admin_token, self.service.settings.predict_token
        try:
            auth.check_predict(token.decode("latin-1"), *known)
        except UnauthorizedError:
            return False
        return True

    def _answer(self, head: Head, body: bytes) -> bool:
        """Have a prediction answered; False where it has to go the ordinary way."""
        try:
            found = head.route.read(self._engine, head.query, body)
        except Exception:  # the parser would blame the caller for it
            log.exception("%s could not be read here", head.route.path)
            return False
        if found is None:
            return False
        version, rows = found
        prediction = Prediction(head)
        prediction.keep_alive = not self._is_ending
        self.cycle = prediction  # type: ignore[assignment] # all that uvicorn asks of one
        deliver = partial(self._deliver, prediction, version)
        try:
            version.batcher.enqueue(rows, deliver, Caller(has_gone=self.transport.is_closing))
        except PerceptdError as error:
            deliver(error)
        return True

    def _deliver(self, prediction: Prediction, version: LoadedVersion, outcome: Outcome) -> None:
        if self.transport.is_closing():
            return
        route = prediction.head.route
        name = request_id(prediction.head.request_id)
        try:
            if isinstance(outcome, Exception):
                raise outcome
            body = route.write(version, version.checked(outcome))
            status, headers = 200, JSON_HEADERS % len(body)
        except Exception as error:
            if isinstance(error, PerceptdError):
                problem = problems.of(error, route.path)
            else:
                problem = problems.fault(route.path, name, error)
            status, headers = problem.status_code, lines(problem.raw_headers)
            body = bytes(problem.body)
        self._metrics.request("POST", route.path, status)
        self._send(prediction, status, headers + ID_HEADER % name.encode(), body)

    def _send(self, prediction: Prediction, status: int, headers: bytes, body: bytes) -> None:
        """Write a whole response, as uvicorn's own request cycle does."""
        if self.access_log:
            client = f"{self.client[0]}:{self.client[1]}" if self.client else ""
            url = prediction.head.url.decode()
            self.access_logger.info('%s - "%s %s HTTP/%s" %d', client, "POST", url, "1.1", status)
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
