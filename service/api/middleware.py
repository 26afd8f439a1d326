"""What wraps every answer: its request id, count and log line, one shape for all refusals."""

import base64
import hashlib
import itertools
import re
import secrets
import time

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from perceptd.service import logging as logs
from perceptd.service.api import problems
from perceptd.service.telemetry.metrics import Metrics

HEADER = "X-Request-ID"
ANSWERED_BY = "answered_by"  # the key of a request's state: a model's name, and the version
NO_VERSION = ("", 0)
POLICY_HEADER = "Content-Security-Policy"
# Of every answer; uvicorn sends them, also with those of its own.
SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
# For a page that does not say it itself: that of Swagger UI, that of ReDoc, which would fetch its
# maker's logo. Both write styles into the page; of scripts in it, those alone that it came with.
POLICY = (
    "default-src 'self'; script-src 'self'{scripts}; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; worker-src 'self' blob:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
SCRIPT = re.compile(rb"<script>(.*?)</script>", re.DOTALL)
READING = ("GET", "HEAD")
OF_CORS = ("access-control-allow-origin", "access-control-expose-headers", "vary")
ACCEPTABLE = re.compile(r"[\w.:/+=-]{1,128}", re.ASCII)


THIS_PROCESS = secrets.token_hex(8)
numbers = itertools.count()


def request_id(given: str) -> str:
    """The caller's own, or a new one: 32 hexadecimal digits, half of them this process's."""
    if given and ACCEPTABLE.fullmatch(given):
        return given
    return f"{THIS_PROCESS}{next(numbers):016x}"


def policy(html: bytes) -> str:
    """A `Content-Security-Policy` that lets the scripts in a page run, each by its hash."""
    digests = (hashlib.sha256(script).digest() for script in SCRIPT.findall(html))
    hashes = (f" 'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)
    return POLICY.format(scripts="".join(hashes))


class RequestMiddleware:
    """Outermost: nothing leaves the service without passing here.

    A body whose declared length is over the limit is refused by Starlette in plain text before any
    handler sees it; here that refusal becomes the problem it is everywhere else.
    """

    def __init__(self, app: ASGIApp, max_body_bytes: int, metrics: Metrics) -> None:
        self.app = app
        self.max_body_bytes = max_body_bytes
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        given = Headers(scope=scope)
        name = request_id(given.get(HEADER, ""))
        scope.setdefault("state", {})["request_id"] = name
        replaced = False
        began, status = time.perf_counter(), 500  # which uvicorn answers where nothing else is
        page: Message | None = None  # the start of one whose policy depends on what is in it

        async def send_with_id(message: Message) -> None:
            nonlocal replaced, page, status
            if message["type"] == "http.response.start":
                status = message["status"]
                path = getattr(scope.get("route"), "path", None)
                seconds = time.perf_counter() - began
                by = scope["state"].get(ANSWERED_BY, NO_VERSION)
                self.metrics.request(scope["method"], path, message["status"], seconds, *by)
                headers = MutableHeaders(scope=message)
                headers[HEADER] = name
                if given.get("authorization") and scope["method"] in READING:
                    headers.setdefault("Cache-Control", "no-store")
                html = headers.get("content-type", "").startswith("text/html")
                if html and POLICY_HEADER not in headers:
                    page = message
                    return
                if message["status"] == 413 and headers["content-type"].startswith("text/plain"):
                    replaced = True
                    refusal = problems.body_too_large(scope["path"], self.max_body_bytes)
                    refusal.headers[HEADER] = name
                    for header in (header for header in headers if header in OF_CORS):
                        refusal.headers[header] = headers[header]
                    await refusal(scope, receive, send)
            if page:
                MutableHeaders(scope=page)[POLICY_HEADER] = policy(message.get("body", b""))
                await send(page)
                page = None
            if not replaced:
                await send(message)

        with logs.about(request_id=name):
            try:
                await self.app(scope, receive, send_with_id)
            finally:
                if logs.is_logged():
                    client, _ = scope.get("client") or (None, None)
                    logs.request(scope["method"], scope["path"], status, began, client=client)
