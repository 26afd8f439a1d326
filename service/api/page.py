"""The playground on `/` and its files, and CORS for pages of other origins."""

import re
from collections.abc import Sequence
from pathlib import Path

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

FOLDER = Path(__file__).parent.parent / "static"
HEADERS = {
    # The page runs its own scripts, asks its own server and may not be framed.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data: blob:; connect-src 'self'; font-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-cache",  # revalidate: a page must not mix files of two releases
}

# Headers that a page of another origin may send and read, beside those that CORS always allows.
REQUEST_HEADERS = (
    "Authorization",
    "Content-Encoding",
    "Content-Type",
    "Idempotency-Key",
    "Inference-Header-Content-Length",
    "Last-Event-ID",
    "traceparent",
    "tracestate",
    "X-Request-ID",
    "X-Request-Timeout-Ms",
)
RESPONSE_HEADERS = ("Inference-Header-Content-Length", "Location", "Retry-After", "X-Request-ID")


class PageFiles(StaticFiles):
    """A folder of files, each sent whole and with the page's headers."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        # The files are small, and Starlette answers a wrong range with plain text.
        scope["headers"] = [pair for pair in scope["headers"] if pair[0] != b"range"]
        try:
            response = await super().get_response(path, scope)
        except HTTPException as error:
            error.headers = {**HEADERS, **(error.headers or {})}
            raise
        response.headers.update(HEADERS)
        del response.headers["Accept-Ranges"]
        # Weak: compressed and plain responses have different bytes.
        response.headers["ETag"] = f"W/{response.headers['ETag']}"
        return response


class Compression(GZipMiddleware):
    """Gzip for clients that accept it; every response says that it depends on `Accept-Encoding`."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_vary(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(raw=message["headers"])["Vary"] = "Accept-Encoding"
            await send(message)

        # Starlette searches the header for "gzip" and so accepts `gzip;q=0`.
        accepted = ",".join(Headers(scope=scope).getlist("accept-encoding"))
        kept = [pair for pair in scope["headers"] if pair[0] != b"accept-encoding"]
        coding = (b"accept-encoding", b"gzip" if accepts_gzip(accepted) else b"identity")
        await super().__call__({**scope, "headers": [*kept, coding]}, receive, send_with_vary)


def accepts_gzip(accepted: str) -> bool:
    """Whether `Accept-Encoding` names gzip with a weight above 0."""
    for entry in accepted.lower().split(","):
        coding, _, weight = entry.partition(";")
        if coding.strip() == "gzip":
            return not re.fullmatch(r"\s*q=0(\.0*)?\s*", weight)
    return False


def shared(app: ASGIApp, origins: Sequence[str]) -> ASGIApp:
    """The app with CORS for these origins; without any, the app itself.

    Credentials are not allowed: tokens are sent in a header.
    """
    if not origins:
        return app
    return CORSMiddleware(
        app,
        allow_origins=origins,
        allow_methods=("GET", "POST", "PUT"),
        allow_headers=REQUEST_HEADERS,
        expose_headers=RESPONSE_HEADERS,
    )


class Counted(BaseRoute):
    """A route whose requests are counted under its path, as FastAPI does for its own routes."""

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["route"] = self
        await super().handle(scope, receive, send)


class CountedRoute(Counted, Route): ...


class CountedMount(Counted, Mount): ...


def routes() -> list[BaseRoute]:
    """The page on `/` and its files on `/static`."""
    files = PageFiles(directory=FOLDER)
    compressed = [Middleware(Compression)]

    async def page(request: Request) -> Response:
        return await files.get_response("index.html", request.scope)

    return [
        CountedRoute("/", page, middleware=compressed),
        CountedMount("/static", files, middleware=compressed),
    ]
