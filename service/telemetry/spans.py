"""Spans of requests, of their wait in the queue, and of the batches that answer them.

A batch can answer many requests. Its span belongs to the trace of its first traced request, and
links to all of them. Without a collector of traces there are no spans, and nothing is imported.
"""

import time
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from perceptd import __version__
from perceptd.models import tracing
from perceptd.service.errors import PROBLEMS, CallerGoneError
from perceptd.service.inference.batcher import BatchResult, Observer

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span, SpanContext

GONE = PROBLEMS[CallerGoneError].status


def of_process() -> "Spans | None":
    """The spans of this process; None without a collector of traces."""
    provider = tracing.provider()
    return Spans(provider) if provider else None


def caller_span() -> "SpanContext | None":
    """The span of the current request, if it is sampled."""
    if tracing.provider() is None:
        return None
    from opentelemetry import trace

    context = trace.get_current_span().get_span_context()
    return context if context.trace_flags.sampled else None


def sampled(span: "Span | None") -> "SpanContext | None":
    """The context of a span, if it is sampled."""
    return span.get_span_context() if span and span.is_recording() else None


def ids(span: "Span | None") -> Mapping[str, str]:
    """The ids of a span, for a line of the log."""
    return tracing.ids_of(span.get_span_context()) if span else {}


class Spans:
    def __init__(self, provider: "TracerProvider") -> None:
        from opentelemetry import context, propagate, trace

        self._trace = trace
        self._no_parent = context.Context()
        self._extract = propagate.extract
        self._fields = {
            name.lower().encode(): name.lower() for name in propagate.get_global_textmap().fields
        }
        self._tracer = provider.get_tracer(tracing.NAME, __version__)

    def request(self, path: str, scope: MutableMapping[str, Any], began: float) -> "Span":
        """The span of a POST that FastAPI does not see, with the attributes of FastAPI's spans.

        `began` is by `time.perf_counter`.
        """
        headers = dict(scope["headers"])
        carrier = {
            field: headers[name].decode("latin-1")
            for name, field in self._fields.items()
            if name in headers
        }
        parent = self._extract(carrier, self._no_parent) if carrier else self._no_parent
        return self._tracer.start_span(
            f"POST {path}",
            context=parent,
            kind=self._trace.SpanKind.SERVER,
            attributes={
                "url.scheme": scope["scheme"],
                "http.request.method": "POST",
                "network.protocol.version": scope["http_version"],
                "url.path": path,
                "http.route": path,
                **address(headers.get(b"host", b"")),
            },
            start_time=_clock()(began),
        )

    def end_request(self, span: "Span", status: int) -> None:
        if span.is_recording():
            span.set_attribute("http.response.status_code", status)
            if status >= 500:
                span.set_attribute("error.type", str(status))
                span.set_status(self._trace.StatusCode.ERROR)
        span.end()

    def observer(self, model: str, version: int, runtime: str, device: str) -> Observer:
        """An observer that makes the spans of a version's batches."""
        of_version: dict[str, Any] = {"perceptd.model": model, "perceptd.version": version}
        of_runtime = {"perceptd.runtime": runtime, "perceptd.device": device}

        def observe(batch: BatchResult) -> None:
            traced = [
                (request.arrived, request.caller.span)
                for request in batch.requests
                if request.caller.span
            ]
            if traced:
                sizes = {"perceptd.rows": len(batch.rows), "perceptd.requests": len(batch.requests)}
                self._make(batch, traced, {**of_version, **sizes}, of_runtime)

        return observe

    def _make(
        self,
        result: BatchResult,
        traced: "Sequence[tuple[float, SpanContext]]",
        of_batch: dict[str, Any],
        of_runtime: dict[str, Any],
    ) -> None:
        to_ns = _clock()
        began, ended = to_ns(result.began), to_ns(result.ended)
        links = [self._trace.Link(request) for _, request in traced]
        batch = self._tracer.start_span(
            "batch", self._in(traced[0][1]), attributes=of_batch, links=links, start_time=began
        )
        inside = self._in(batch.get_span_context())
        runtime = self._tracer.start_span(
            "runtime", inside, attributes=of_runtime, start_time=began
        )
        runtime.end(ended)
        batch.end()
        answered_by = [self._trace.Link(batch.get_span_context())]
        for arrived, request in traced:
            queue = self._tracer.start_span(
                "queue", self._in(request), links=answered_by, start_time=to_ns(arrived)
            )
            queue.end(began)

    def _in(self, parent: "SpanContext") -> Any:
        return self._trace.set_span_in_context(self._trace.NonRecordingSpan(parent))


@lru_cache(maxsize=64)
def address(host: bytes) -> Mapping[str, str | int]:
    """The attributes that a request's `Host` header gives."""
    try:
        url = urlsplit(f"//{host.decode('latin-1')}")
        return (
            {"server.address": url.hostname, "server.port": url.port or 80} if url.hostname else {}
        )
    except ValueError:
        return {}


def _clock() -> Callable[[float], int]:
    """Converts `time.perf_counter` to nanoseconds since 1970, until the clock is set."""
    difference = time.time_ns() - time.perf_counter_ns()
    return lambda moment: difference + int(moment * 1e9)
