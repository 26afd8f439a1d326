"""A request and its answer: what is counted, traced and logged of them, with and without ASGI."""

import itertools
import re
import secrets
from time import perf_counter
from typing import TYPE_CHECKING, Any

from perceptd.service import logging as logs
from perceptd.service.api.services import Services
from perceptd.service.inference.loaded_version import LoadedVersion

if TYPE_CHECKING:
    from opentelemetry.trace import Span

HEADER = "X-Request-ID"
HARMLESS_ID = re.compile(r"[\w.:/+=-]{1,128}", re.ASCII)
PROCESS_ID = secrets.token_hex(8)  # unlike a pid, unique over machines and restarts

_numbers = itertools.count()


def request_id(given: str) -> str:
    """The caller's own if it is harmless, else a new one of 32 hexadecimal digits."""
    if given and HARMLESS_ID.fullmatch(given):
        return given
    return f"{PROCESS_ID}{next(_numbers):016x}"


class Exchange:
    """One request and its answer. Slots, because a fast prediction makes one too."""

    __slots__ = (
        "_client",
        "_services",
        "began",
        "method",
        "model",
        "path",
        "request_id",
        "span",
        "status",
        "version",
    )

    def __init__(
        self,
        services: Services,
        method: str,
        path: str,
        given_id: str,
        client: tuple[str, int] | None,
        began: float,
        span: "Span | None" = None,
    ) -> None:
        self._services = services
        self.method = method
        self.path = path
        self.request_id = request_id(given_id)
        self._client = client
        self.began = began  # by `time.perf_counter`
        self.span = span  # to be ended here; None where FastAPI makes it, or without tracing
        self.status = 500  # what uvicorn answers if the application does not
        self.model = ""
        self.version = 0

    def answered_by(self, loaded: LoadedVersion) -> None:
        """Count the request as one to this version."""
        self.model, self.version = loaded.model, loaded.version

    def answer(self, status: int, route: str | None) -> None:
        """Count the answer; call it before its first byte is sent.

        `route` is the template of the route, None if no route matches.
        """
        self.status = status
        seconds = perf_counter() - self.began
        metrics = self._services.metrics
        metrics.request(self.method, route, status, seconds, self.model, self.version)

    def finish(self) -> None:
        """End the span and log the request; call it after the last byte is sent."""
        if self.span and (spans := self._services.spans):
            spans.end_request(self.span, self.status)
        if logs.is_logged():
            client = self._client[0] if self._client else None
            facts = self.facts()
            logs.request(self.method, self.path, self.status, self.began, client, facts)

    def facts(self) -> dict[str, Any]:
        """What the log line says besides what `perceptd.service.logging.about` adds to it."""
        return {}
