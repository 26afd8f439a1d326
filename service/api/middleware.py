"""Wraps every ASGI request: its id, count, log line and headers; one shape for all errors."""

import base64
import hashlib
import re
import time
from email.utils import formatdate
from http import HTTPStatus

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from perceptd.service import logging as logs
from perceptd.service.api import problems
from perceptd.service.api.exchange import HEADER, Exchange, request_id
from perceptd.service.api.services import Services
from perceptd.service.errors import PerceptdError

POLICY_HEADER = "Content-Security-Policy"
# uvicorn sends them with every response, its own errors included.
SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
# For pages without a policy of their own: Swagger UI and ReDoc. Both add styles to the page, so
# inline styles are allowed; of inline scripts only those that the page was sent with. ReDoc may not
# fetch its maker's logo.
POLICY = (
    "default-src 'self'; script-src 'self'{scripts}; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; worker-src 'self' blob:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
SCRIPT = re.compile(rb"<script>(.*?)</script>", re.DOTALL)
SAFE_METHODS = ("GET", "HEAD")
HTTP1 = ("1.0", "1.1")  # versions with a header that ends the connection
# Of a response that is replaced.
KEPT_HEADERS = (
    "access-control-allow-origin",
    "access-control-expose-headers",
    "connection",
    "vary",
)


def policy(html: bytes) -> str:
    """A `Content-Security-Policy` that allows the scripts in a page by their hashes."""
    digests = (hashlib.sha256(script).digest() for script in SCRIPT.findall(html))
    hashes = (f" 'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)
    return POLICY.format(scripts="".join(hashes))


class RequestMiddleware:
    """The outermost middleware: every response passes it.

    Starlette refuses a body whose declared length is over the limit in plain text, before any error
    handler; this turns it into a problem like all others.
    """

    def __init__(self, app: ASGIApp, services: Services) -> None:
        self.app = app
        self.services = services
        self.max_body_bytes = services.settings.max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        given = Headers(scope=scope)
        method, path, client = scope["method"], scope["path"], scope.get("client")
        began = time.perf_counter()
        exchange = Exchange(self.services, method, path, given.get(HEADER, ""), client, began)
        name = exchange.request_id
        scope.setdefault("state", {}).update(exchange=exchange, request_id=name)
        replaced = False
        page: Message | None = None  # the start of a page, whose policy depends on its body

        async def send_with_id(message: Message) -> None:
            nonlocal replaced, page
            if message["type"] == "http.response.start":
                exchange.answer(message["status"], getattr(scope.get("route"), "path", None))
                headers = MutableHeaders(scope=message)
                headers[HEADER] = name
                if self.services.closing.is_set() and scope["http_version"] in HTTP1:
                    headers["Connection"] = "close"
                if given.get("authorization") and method in SAFE_METHODS:
                    headers.setdefault("Cache-Control", "no-store")
                html = headers.get("content-type", "").startswith("text/html")
                if html and POLICY_HEADER not in headers:
                    page = message
                    return
                if message["status"] == 413 and headers["content-type"].startswith("text/plain"):
                    replaced = True
                    refusal = problems.body_too_large(path, self.max_body_bytes)
                    refusal.headers[HEADER] = name
                    for header in (header for header in headers if header in KEPT_HEADERS):
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
                exchange.finish()


def closing_response(error: PerceptdError, path: str) -> bytes:
    """The bytes of an error response that closes the connection."""
    problem = problems.of(error, path)
    problem.headers.update(SECURITY_HEADERS)
    problem.headers.update({HEADER: request_id(""), "connection": "close"})
    problem.headers["date"] = formatdate(usegmt=True)
    status = HTTPStatus(problem.status_code)
    lines = b"".join(b"%b: %b\r\n" % header for header in problem.raw_headers)
    return f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() + lines + b"\r\n" + problem.body
