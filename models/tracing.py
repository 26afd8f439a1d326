"""Traces, for whoever names a collector by OpenTelemetry's own variables; else nothing is imported.

What serves, what runs jobs and what trains each send their own spans, all of one trace.
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
NEEDS = ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http")
PARENT = "TRACEPARENT"  # in the environment of a process that works for another
NAME = "perceptd"
FLUSH_S = 1.0  # that the end of a process waits for a collector

_provider: "TracerProvider | None" = None


class TracingError(Exception):
    """Traces are asked for and cannot be sent; the text is for people."""


def is_wanted() -> bool:
    """Whether the environment asks for traces."""
    if os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    return bool(_endpoint()[1]) and _exporter() != "none"


def check() -> None:
    """Raises `TracingError` where traces are asked for and cannot be sent."""
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
    if not all(map(_is_installed, NEEDS)):
        name, _ = _endpoint()
        raise TracingError(f"{name} is set, and traces need perceptd[telemetry] to be installed")


def start(role: str, parent: str | None = None) -> None:
    """Send the spans of this process from now on, if they are asked for.

    Those that have no parent here are children of that `traceparent`. Raises `TracingError`.
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
    told = Resource.create()  # what the environment says
    if str(told.attributes["service.name"]).startswith("unknown_service"):
        told = told.merge(Resource({"service.name": NAME}))
    resource = Resource(own).merge(told)
    # It would say for each span that there is no room for it, and cost what it must not.
    logging.getLogger("opentelemetry.sdk._shared_internal").setLevel(logging.ERROR)
    _provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    _provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(_provider)
    if parent:
        context.attach(_context_of(parent))


def provider() -> "TracerProvider | None":
    """Where spans are made; None where traces are not asked for."""
    return _provider


def stop() -> None:
    """Send what is left, if the collector takes it soon; later spans are lost."""
    global _provider
    ending, _provider = _provider, None
    if ending:
        flush = threading.Thread(target=ending.shutdown, daemon=True)
        flush.start()
        flush.join(FLUSH_S)


@contextmanager
def span(name: str, parent: str | None = None, **attributes: Any) -> Iterator[None]:
    """A span of what happens meanwhile: a child of that `traceparent`, or of the span around it."""
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
    """A span that began then and ends now."""
    if _provider:
        tracer = _provider.get_tracer(NAME)
        named = {f"{NAME}.{key}": value for key, value in attributes.items()}
        tracer.start_span(name, attributes=named, start_time=began_ns).end()


def failed(reason: str) -> None:
    """Say of the current span that what it is of went wrong."""
    if _provider:
        from opentelemetry import trace
        from opentelemetry.trace import StatusCode

        trace.get_current_span().set_status(StatusCode.ERROR, reason)


def traceparent() -> str | None:
    """The current span, as the W3C writes it for others; None where there is none."""
    return _carrier().get("traceparent")


def environment() -> Mapping[str, str]:
    """What a process that works for the current span is to have in its environment."""
    parent = traceparent()
    return {PARENT: parent} if parent else {}


def ids() -> Mapping[str, str]:
    """The current span's, for a line of the log."""
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
    """The first of those variables that is set, and its value; empty where none is."""
    found = ((name, os.environ.get(name, "").strip()) for name in names)
    return next((pair for pair in found if pair[1]), ("", ""))


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # what it is in is not there either
        return False
