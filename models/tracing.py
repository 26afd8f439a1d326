"""OpenTelemetry traces. They are off unless OpenTelemetry's own variables name a collector.

Server, worker and training each send their own spans, all in one trace. While traces are off,
OpenTelemetry is not imported.
"""

import logging
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from perceptd import __version__

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import SpanContext

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
PROTOCOL = "http/protobuf"
REQUIRED = ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http")
PARENT = "TRACEPARENT"  # the environment variable that hands a span to a child process
NAME = "perceptd"
FLUSH_S = 1.0  # how long a process that ends waits for the collector

_provider: "TracerProvider | None" = None


class TracingError(Exception):
    """Traces are wanted but cannot be sent. The message says why."""


def is_wanted() -> bool:
    """Whether the environment turns traces on."""
    if os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    return bool(_endpoint()[1]) and _exporter() != "none"


def check() -> None:
    """Raise `TracingError` if traces are wanted but cannot be sent."""
    if not is_wanted():
        return
    name, endpoint = _endpoint()
    if not endpoint.startswith(("http://", "https://")):
        raise TracingError(
            f"{name}: expected a URL such as http://localhost:4318, got {endpoint!r}"
        )
    if (exporter := _exporter()) != "otlp":
        raise TracingError(f"OTEL_TRACES_EXPORTER: expected otlp or none, got {exporter!r}")
    name, protocol = _first(PROTOCOLS)
    if protocol not in ("", PROTOCOL):
        raise TracingError(f"{name}: expected {PROTOCOL}, got {protocol!r}")
    if not all(map(_is_installed, REQUIRED)):
        name, _ = _endpoint()
        raise TracingError(f"{name} is set, and traces need perceptd[telemetry] to be installed")


def start(role: str, parent: str | None = None) -> None:
    """Start to send the spans of this process, if traces are wanted.

    Spans without a parent in this process become children of `parent`, a W3C traceparent. Raises
    `TracingError`.
    """
    global _provider
    check()
    if not is_wanted() or _provider:
        return
    from opentelemetry import context, trace
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    own: dict[str, Any] = {
        "service.version": __version__,
        "process.pid": os.getpid(),
        "perceptd.role": role,
    }
    configured = Resource.create()  # from the environment
    if str(configured.attributes["service.name"]).startswith("unknown_service"):
        configured = configured.merge(Resource({"service.name": NAME}))
    resource = Resource(own).merge(configured)
    # It would log every span that does not fit into its queue, which slows requests down.
    logging.getLogger("opentelemetry.sdk._shared_internal").setLevel(logging.ERROR)
    _provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    _provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(_provider)
    if parent:
        context.attach(_context_of(parent))


def provider() -> "TracerProvider | None":
    """The tracer provider; None while traces are off."""
    return _provider


def stop() -> None:
    """Send the remaining spans within `FLUSH_S`. Later spans are lost."""
    global _provider
    ending, _provider = _provider, None
    if ending:
        flush = threading.Thread(target=ending.shutdown, daemon=True)
        flush.start()
        flush.join(FLUSH_S)


@contextmanager
def span(name: str, parent: str | None = None, **attributes: Any) -> Iterator[None]:
    """A span for the block: a child of `parent`, a W3C traceparent, or of the current span."""
    if _provider is None:
        yield
        return
    from opentelemetry.trace import SpanKind

    tracer = _provider.get_tracer(NAME)
    context = _context_of(parent) if parent else None
    kind = SpanKind.CONSUMER if parent else SpanKind.INTERNAL
    named = {f"{NAME}.{key}": value for key, value in attributes.items() if value is not None}
    with tracer.start_as_current_span(name, context, kind, named):
        yield


def past_span(name: str, began_ns: int, **attributes: Any) -> None:
    """Record a span that began at `began_ns`, in nanoseconds since the epoch, and ends now."""
    if _provider:
        tracer = _provider.get_tracer(NAME)
        named = {f"{NAME}.{key}": value for key, value in attributes.items()}
        tracer.start_span(name, attributes=named, start_time=began_ns).end()


def failed(reason: str) -> None:
    """Mark the current span as failed."""
    if _provider:
        from opentelemetry import trace
        from opentelemetry.trace import StatusCode

        trace.get_current_span().set_status(StatusCode.ERROR, reason)


def traceparent() -> str | None:
    """The current span as a W3C traceparent; None without one."""
    return _carrier().get("traceparent")


def environment() -> Mapping[str, str]:
    """The environment variables with which a child process continues the current span."""
    parent = traceparent()
    return {PARENT: parent} if parent else {}


def ids() -> Mapping[str, str]:
    """The trace and span id of the current span, for a log line; empty without one."""
    if _provider is None:
        return {}
    from opentelemetry import trace

    return ids_of(trace.get_current_span().get_span_context())


def ids_of(context: "SpanContext") -> Mapping[str, str]:
    if not context.is_valid:
        return {}
    return {"trace_id": f"{context.trace_id:032x}", "span_id": f"{context.span_id:016x}"}


def _carrier() -> dict[str, str]:
    carrier: dict[str, str] = {}
    if _provider:
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        TraceContextTextMapPropagator().inject(carrier)
    return carrier


def _context_of(parent: str) -> "Context":
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    return TraceContextTextMapPropagator().extract({"traceparent": parent})


def _endpoint() -> tuple[str, str]:
    return _first(ENDPOINTS)


def _exporter() -> str:
    return os.environ.get("OTEL_TRACES_EXPORTER", "").strip().lower() or "otlp"


def _first(names: tuple[str, ...]) -> tuple[str, str]:
    """The first variable that is set, and its value; two empty strings if none is."""
    found = ((name, os.environ.get(name, "").strip()) for name in names)
    return next((pair for pair in found if pair[1]), ("", ""))


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # its parent package is missing
        return False
