"""What wraps every answer: its request id, count and log line, one shape for all refusals."""

import itertools
import re
import secrets
import time

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service import logging as logs
from service import problems
from service.metrics import Metrics

HEADER = "X-Request-ID"
# For a page that does not say it itself. ReDoc would fetch its maker's logo.
PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; script-src 'self' 'unsafe-inline'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
    "worker-src 'self' blob:; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
ACCEPTABLE = re.compile(r"[\w.:/+=-]{1,128}", re.ASCII)


THIS_PROCESS = secrets.token_hex(8)
numbers = itertools.count()


def request_id(given: str) -> str:
    """The caller's own, or a new one: 32 hexadecimal digits, half of them this process's."""
    if given and ACCEPTABLE.fullmatch(given):
        return given
    return f"{THIS_PROCESS}{next(numbers):016x}"


class Envelope:
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
        name = request_id(Headers(scope=scope).get(HEADER, ""))
        scope.setdefault("state", {})["request_id"] = name
        replaced = False
        began, status = time.perf_counter(), 500  # which uvicorn answers where nothing else is

        async def send_with_id(message: Message) -> None:
            nonlocal replaced, status
            if message["type"] == "http.response.start":
                status = message["status"]
                path = getattr(scope.get("route"), "path", None)
                self.metrics.request(scope["method"], path, message["status"])
                headers = MutableHeaders(scope=message)
                headers[HEADER] = name
                if headers.get("content-type", "").startswith("text/html"):
                    for header, value in PAGE_HEADERS.items():
                        headers.setdefault(header, value)
                if message["status"] == 413 and headers["content-type"].startswith("text/plain"):
                    replaced = True
                    refusal = problems.body_too_large(scope["path"], self.max_body_bytes)
                    refusal.headers[HEADER] = name
                    await refusal(scope, receive, send)
            if not replaced:
                await send(message)

        with logs.about(request_id=name):
            try:
                await self.app(scope, receive, send_with_id)
            finally:
                if logs.is_logged():
                    client, _ = scope.get("client") or (None, None)
                    logs.request(scope["method"], scope["path"], status, began, client=client)
