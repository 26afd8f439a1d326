"""Predictions, answered where their bytes arrive.

A prediction takes microseconds; a task, an ASGI scope, a router and its dependencies for each take
several times as many (`benchmarks/profile.py` shows them). So uvicorn's protocol is asked here
whether a request is plainly a prediction: then it is read, put into a batch and answered without
them. Whatever is unusual or wrong goes the ordinary way, from its first byte: what is accepted,
refused and documented is decided in `service.routes.predict` alone.
"""

import asyncio
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple

from starlette.datastructures import State
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from models.preprocessing import from_bytes
from service import auth, problems
from service.answers import Answer, Rows
from service.batcher import Caller, Outcome
from service.callers import TIMEOUT_HEADER
from service.encoder import with_labels, with_probabilities
from service.engine import Engine, LoadedVersion
from service.errors import PerceptdError, UnauthorizedError
from service.media import JSON_TYPE, PICTURE_MODEL, RAW_TYPE
from service.metrics import Metrics
from service.middleware import HEADER, request_id

Found = tuple[LoadedVersion, Rows]
Headers = dict[bytes, bytes]

JSON_BYTES = JSON_TYPE.encode()
ID = HEADER.lower().encode()
JSON_HEADERS = b"content-type: application/json\r\ncontent-length: %d\r\n"
FORWARDED = b"x-forwarded-for"
UNUSUAL = frozenset(
    name.encode()
    for name in (
        "content-encoding",
        "transfer-encoding",
        "expect",
        "upgrade",
        TIMEOUT_HEADER.lower(),
    )
)


def lines(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    return b"".join(b"%b: %b\r\n" % header for header in headers)


class Route(NamedTuple):
    path: str
    media_type: bytes
    read: Callable[[Engine, bytes, bytes], Found | None]  # the query and the body
    write: Callable[[LoadedVersion, Answer], bytes]


def read_numbers(engine: Engine, query: bytes, body: bytes) -> Found | None:
    decoded = engine.decoder.decode(body)
    version = decoded and engine.serving(decoded.model, decoded.version)
    return (version, decoded.rows) if decoded and version else None


def read_pixels(engine: Engine, query: bytes, body: bytes) -> Found | None:
    name, is_named, model = query.partition(b"=")
    if name != (b"model" if is_named else b""):
        return None
    version = engine.serving(model.decode("latin-1") if is_named else PICTURE_MODEL)
    if version is None or not version.spec.input.picture or len(body) != version.spec.input.size:
        return None
    return version, from_bytes(version.spec.input, body)


ROUTES = {
    route.path.encode(): route
    for route in (
        Route("/predict", JSON_BYTES, read_numbers, with_labels),
        Route("/predict_proba", JSON_BYTES, read_numbers, with_probabilities),
        Route("/predict/image", RAW_TYPE.encode(), read_pixels, with_probabilities),
    )
}


class Prediction:
    """A request that is answered here; to uvicorn, what its own request cycle is."""

    message_event = asyncio.Event()  # uvicorn sets it; nobody waits for it

    def __init__(self, route: Route, url: bytes, headers: Headers) -> None:
        self.route = route
        self.url = url
        self.headers = headers
        self.body: list[bytes] = []
        self.response_complete = False
        self.disconnected = False
        self.keep_alive = True


class HotPath(HttpToolsProtocol):
    """A connection to the application whose state `service` is."""

    service: State

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._engine: Engine = self.service.engine
        self._metrics: Metrics = self.service.metrics
        self._prediction: Prediction | None = None  # whose body is arriving
        self._usual_headers: list[tuple[bytes, bytes]] = []
        self._usual = b""

    def on_headers_complete(self) -> None:
        route = ROUTES.get(self.url.partition(b"?")[0])
        if route is None or not self._is_plain(headers := dict(self.headers), route):
            super().on_headers_complete()
        else:
            self._prediction = Prediction(route, self.url, headers)

    def on_body(self, body: bytes) -> None:
        if self._prediction:
            self._prediction.body.append(body)
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        prediction, self._prediction = self._prediction, None
        if prediction is None:
            super().on_message_complete()
            return
        body = b"".join(prediction.body)
        query = prediction.url.partition(b"?")[2]
        found = prediction.route.read(self._engine, query, body)
        if found is None:
            super().on_headers_complete()
            super().on_body(body)
            super().on_message_complete()
            return
        version, rows = found
        self.cycle = prediction  # type: ignore[assignment]
        deliver = partial(self._deliver, prediction, version)
        try:
            version.batcher.enqueue(rows, deliver, Caller(has_gone=self.transport.is_closing))
        except PerceptdError as error:
            deliver(error)

    def _is_plain(self, headers: Headers, route: Route) -> bool:
        """Whether a request asks for nothing but a prediction, and may have one now."""
        length = headers.get(b"content-length")
        settings = self.service.settings
        return (
            headers.get(b"content-type") == route.media_type
            and length is not None
            and int(length) <= settings.max_body_bytes
            and UNUSUAL.isdisjoint(headers)
            and self.parser.get_method() == b"POST"
            and self.parser.get_http_version() == "1.1"
            and self.parser.should_keep_alive()
            and (self.cycle is None or self.cycle.response_complete)  # none before it waits
            and not self.flow.write_paused
            and not (self.access_log and FORWARDED in headers)  # uvicorn knows whom to believe
            and (settings.predict_token is None or self._is_allowed(headers))
        )

    def _is_allowed(self, headers: Headers) -> bool:
        scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
        if scheme != b"Bearer":
            return False
        try:
            auth.check_predict(
                token.decode("latin-1"),
                self.service.admin_token,
                self.service.settings.predict_token,
            )
        except UnauthorizedError:
            return False
        return True

    def _deliver(self, prediction: Prediction, version: LoadedVersion, outcome: Outcome) -> None:
        """Answer, unless the caller has gone."""
        if self.transport.is_closing():
            return
        name = request_id(prediction.headers.get(ID, b"").decode("latin-1"))
        try:
            if isinstance(outcome, Exception):
                raise outcome
            body = prediction.route.write(version, version.checked(outcome))
            status, headers = 200, JSON_HEADERS % len(body)
        except Exception as error:
            path = prediction.route.path
            if isinstance(error, PerceptdError):
                problem = problems.of(error, path)
            else:
                problem = problems.fault(path, name, error)
            status, headers = problem.status_code, lines(problem.raw_headers)
            body = bytes(problem.body)
        self._send(prediction, status, headers + b"x-request-id: %b\r\n" % name.encode(), body)

    def _send(self, prediction: Prediction, status: int, headers: bytes, body: bytes) -> None:
        """Write a whole response, as uvicorn's own request cycle does."""
        self._metrics.request("POST", prediction.route.path, status)
        if self.access_log:
            client = f"{self.client[0]}:{self.client[1]}" if self.client else ""
            line = '%s - "%s %s HTTP/%s" %d'
            self.access_logger.info(line, client, "POST", prediction.url.decode(), "1.1", status)
        end = b"\r\n" if prediction.keep_alive else b"connection: close\r\n\r\n"
        if self.server_state.default_headers is not self._usual_headers:  # new ones each second
            self._usual_headers = self.server_state.default_headers
            self._usual = lines(self._usual_headers)
        self.transport.write(b"".join((STATUS_LINE[status], self._usual, headers, end, body)))
        prediction.response_complete = True
        if not prediction.keep_alive:
            self.transport.close()
        self.on_response_complete()
