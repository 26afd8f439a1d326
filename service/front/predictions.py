"""An ASGI layer in front of the application that answers plain predictions itself.

A prediction takes microseconds; a router and its dependencies take several times as many
(`benchmarks/profile.py` measures them). Any request that is not plainly a prediction goes on to the
application, with the body that was read of it: only `perceptd.service.api.routes.predict` decides
what is accepted, refused and documented.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable
from functools import partial
from time import monotonic, perf_counter
from typing import Any

from fastapi import FastAPI
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from perceptd.service.api import callers, problems
from perceptd.service.api.callers import KEY
from perceptd.service.api.exchange import HEADER, Exchange
from perceptd.service.api.middleware import HTTP1
from perceptd.service.api.services import Services
from perceptd.service.errors import CallerGoneError, PerceptdError, QueueFullError
from perceptd.service.front.plain import ROUTES, Headers, Route, may_predict
from perceptd.service.inference.answers import Answer, Rows
from perceptd.service.inference.decoder import LARGE_BYTES
from perceptd.service.inference.loaded_version import LoadedVersion
from perceptd.service.inference.overload import Overload
from perceptd.service.inference.pending import Caller
from perceptd.service.telemetry.spans import ids, sampled
from perceptd.service.wire.connections import Connection

ID = HEADER.lower().encode()
ORIGIN = b"origin"
JSON = (b"content-type", b"application/json")
FORWARDED = frozenset((b"x-forwarded-for", b"x-forwarded-proto"))
CLOSE = (b"connection", b"close")
TRACED = "perceptd.traced"  # in a scope whose span FastAPI makes
VARY = (b"vary", b"Origin")  # to a request without an origin


class Prediction(Exchange):
    """A prediction that is answered here."""

    __slots__ = ()

    def facts(self) -> dict[str, Any]:
        facts = {"request_id": self.request_id, "model": self.model, "version": self.version}
        return {**facts, **ids(self.span)} if self.span else facts


class Predictions:
    """In front of what answers all other requests to an application."""

    def __init__(self, app: ASGIApp, services: Services, owner: FastAPI) -> None:
        self._app = app
        self._owner = owner
        self._others: ASGIApp = self._traced if services.spans else app
        self._services = services
        self._engine = services.engine
        self._timeout_s = services.settings.request_timeout_ms / 1000
        self._max_bytes = min(services.settings.max_body_bytes, LARGE_BYTES)
        self._is_shared = bool(services.settings.cors_origins)  # answers need CORS headers
        self._overload = Overload()
        self._behind_proxy: Any = ProxyHeadersMiddleware(
            lambda scope, *others: self._choose(dict(scope["headers"]), scope, *others),
            os.environ.get("FORWARDED_ALLOW_IPS", "127.0.0.1"),  # as uvicorn does
        )

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        scope["app"] = self._owner
        if TRACED in scope:
            return self._app(scope, receive, send)
        if scope["type"] != "http":
            return self._others(scope, receive, send)
        headers = dict(scope["headers"])
        if FORWARDED.isdisjoint(headers):
            return self._choose(headers, scope, receive, send)
        proxied: Awaitable[None] = self._behind_proxy(scope, receive, send)
        return proxied

    def _choose(
        self, headers: Headers, scope: Scope, receive: Receive, send: Send
    ) -> Awaitable[None]:
        connection: Connection | None = scope["state"].get(KEY) if "state" in scope else None
        route = ROUTES.get(scope["path"])
        if (
            route
            and scope["method"] == "POST"
            # Of two headers with one name, the router decides which counts.
            and len(headers) == len(scope["headers"])
            and route.takes(headers, self._max_bytes)
            and not (self._is_shared and ORIGIN in headers)
            and may_predict(self._services.access, headers)
        ):
            return self._answer(route, headers, connection, scope, receive, send)
        if connection is None:
            return self._others(scope, receive, send)
        return self._pass_on(connection, scope, receive, send)

    async def _traced(self, scope: Scope, receive: Receive, send: Send) -> None:
        """By way of FastAPI, which makes a span and then calls this layer again."""
        scope[TRACED] = True
        await self._owner(scope, receive, send)

    async def _pass_on(
        self, connection: Connection, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Have the application answer, and the connection know when."""
        connection.begin()
        try:
            await self._others(scope, receive, send)
        finally:
            connection.end()

    async def _answer(
        self,
        route: Route,
        headers: Headers,
        connection: Connection | None,
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        try:
            body = await whole_body(receive)
        except CallerGoneError:
            return
        began, services = perf_counter(), self._services
        if connection:
            connection.begin()
        try:
            span = services.spans.request(route.path, scope, began) if services.spans else None
            given = headers[ID].decode("latin-1") if ID in headers else ""
            exchange = Prediction(services, "POST", route.path, given, scope["client"], began, span)
            try:
                now = monotonic()
                if self._overload.lasts(now):
                    self._overload.check(self._engine, body, exchange.answered_by)
                found = route.read(self._engine, scope["query_string"], body)
                if found is None:
                    await self._others(scope, replayed(body, receive), send)
                    return
                version, rows = found
                exchange.answered_by(version)
                has_gone = self._leaving(connection, receive, now)
                caller = Caller(now + self._timeout_s, has_gone, sampled(span))
                answer = version.checked(await self._queued(version, rows, body, caller, now))
                content = route.write(version, answer)
                status, sent = 200, [JSON, (b"content-length", b"%d" % len(content))]
            except Exception as error:
                status, sent, content = parts(problem(error, route.path, exchange.request_id))
            exchange.answer(status, route.path)
            sent.append((ID, exchange.request_id.encode()))
            if self._is_shared:
                sent.append(VARY)
            if services.closing.is_set() and scope["http_version"] in HTTP1:
                sent.append(CLOSE)
            if connection:
                connection.link.cork()
            await send({"type": "http.response.start", "status": status, "headers": sent})
            await send({"type": "http.response.body", "body": content})
        finally:
            if connection:
                connection.end()
        exchange.finish()

    def _queued(
        self, version: LoadedVersion, rows: Rows, body: bytes, caller: Caller, now: float
    ) -> "asyncio.Future[Answer]":
        batcher = version.batcher
        try:
            waiting = batcher.submit(rows, caller)
        except QueueFullError:
            self._overload.saw_full_queue(version, rows, body, now)
            raise
        if batcher.has_long_queue:
            self._overload.saw_long_queue(now)
        return waiting

    def _leaving(
        self, connection: Connection | None, receive: Receive, now: float
    ) -> Callable[[], bool]:
        """Whether the client has left; in overload also if it left before its request was read."""
        if connection and self._overload.lasts(now):
            return partial(callers.has_left, connection.transport)
        return partial(callers.has_gone, receive)


async def whole_body(receive: Receive) -> bytes:
    """Raises `CallerGoneError` if the client disconnects before the end of the body."""
    pieces: list[bytes] = []
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise CallerGoneError
        if not message.get("more_body"):
            last: bytes = message.get("body", b"")
            return b"".join([*pieces, last]) if pieces else last
        pieces.append(message.get("body", b""))


def replayed(body: bytes, receive: Receive) -> Receive:
    """Give the body first, which was read already."""
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def received() -> Message:
        return messages.pop() if messages else await receive()

    return received


def problem(error: Exception, path: str, request_id: str) -> Response:
    if isinstance(error, QueueFullError):
        return problems.queue_full(path, str(error), error.retry_after_s)
    if isinstance(error, PerceptdError):
        return problems.of(error, path)
    return problems.fault(path, request_id, error)


def parts(response: Response) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    return response.status_code, list(response.raw_headers), bytes(response.body)
