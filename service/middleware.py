"""What wraps every answer: its request id, and one shape for what the framework refuses itself."""

import re
from uuid import uuid4

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service import problems

HEADER = "X-Request-ID"
# ReDoc would fetch its maker's logo.
PAGES_ASK_HERE_ONLY = "img-src 'self' data:; connect-src 'self'; font-src 'self' data:"
ACCEPTABLE = re.compile(r"[\w.:/+=-]{1,128}", re.ASCII)


class Envelope:
    """Outermost: nothing leaves the service without passing here.

    A body whose declared length is over the limit is refused by Starlette in plain text before any
    handler sees it; here that refusal becomes the problem it is everywhere else.
    """

    def __init__(self, app: ASGIApp, max_body_bytes: int) -> None:
        self.app = app
        self.max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        given = Headers(scope=scope).get(HEADER, "")
        request_id = given if ACCEPTABLE.fullmatch(given) else uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id
        replaced = False

        async def send_with_id(message: Message) -> None:
            nonlocal replaced
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers[HEADER] = request_id
                if headers.get("content-type", "").startswith("text/html"):
                    headers["Content-Security-Policy"] = PAGES_ASK_HERE_ONLY
                if message["status"] == 413 and headers["content-type"].startswith("text/plain"):
                    replaced = True
                    refusal = problems.body_too_large(scope["path"], self.max_body_bytes)
                    refusal.headers[HEADER] = request_id
                    await refusal(scope, receive, send)
            if not replaced:
                await send(message)

        await self.app(scope, receive, send_with_id)
