"""Logs: one JSON object per line for programs, readable text on a terminal.

A line of a request in JSON is no record of the standard library: see `request_lines`.
"""

import logging
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import TracebackType
from typing import Any, TextIO

import click

from perceptd.models import tracing
from perceptd.service.request_lines import RequestLine, RequestLines, Timestamp, in_ascii
from perceptd.service.settings import Settings

COLOURS = {"DEBUG": "cyan", "INFO": "green", "WARNING": "yellow", "ERROR": "red", "CRITICAL": "red"}
IN_THE_MESSAGE = frozenset({"method", "path", "status"})  # of an access line
MAX_PATH = 500  # characters

Facts = dict[str, Any]

access = logging.getLogger("perceptd.access")
log = logging.getLogger("perceptd")
_facts: ContextVar[Facts | None] = ContextVar("facts", default=None)


@contextmanager
def about(**facts: Any) -> Iterator[None]:
    """Add these facts to every line that is logged in the block, also by tasks it starts."""
    token = _facts.set({**(_facts.get() or {}), **facts})
    try:
        yield
    finally:
        _facts.reset(token)


def note(**facts: Any) -> None:
    """Add these facts to the lines that follow in the surrounding `about` block."""
    if (known := _facts.get()) is not None:
        known.update(facts)


def is_logged() -> bool:
    """Whether each request is logged."""
    return access.isEnabledFor(logging.INFO)


def request(
    method: str, path: str, status: int, began: float, client: str | None, facts: Facts
) -> None:
    """Log a request that began at `began`, a time of `time.perf_counter`.

    `facts` are fields of `RequestLine`; those of the context are added.
    """
    path = path[:MAX_PATH]
    message = f"{method} {path} {status}"
    duration_ms = round((time.perf_counter() - began) * 1000, 3)
    if context := _facts.get():
        facts = {**context, **tracing.ids(), **facts}
    for handler in access.handlers:
        if isinstance(handler, RequestLines):
            request = ("", "info", access.name, message, method, path, status, duration_ms, client)
            handler.add(RequestLine(*request, **facts))
            return
    record = logging.LogRecord(access.name, logging.INFO, "", 0, message, (), None)
    told = {"method": method, "path": path, "status": status, "duration_ms": duration_ms}
    record.__dict__["facts"] = {**told, "client": client, **facts}
    access.handle(record)


def flush() -> None:
    """Write the lines of requests that are gathered."""
    for handler in access.handlers:
        handler.flush()


def configure(settings: Settings, role: str) -> None:
    """Set up logging; libraries other than uvicorn log warnings and errors only.

    Requests go to standard output and the rest to standard error, each as JSON unless it is a
    terminal. The processes of a server share both streams, so they choose the same format.
    """
    level = settings.log_level.upper()
    root = logging.getLogger()
    root.handlers = [_handler(sys.stderr, settings, role)]
    root.setLevel(max(logging.WARNING, logging.getLevelNamesMapping()[level]))
    for name in ("perceptd", "uvicorn"):
        logging.getLogger(name).setLevel(level)
    access.handlers = [_handler(sys.stdout, settings, role, of_requests=True)]
    access.propagate = False
    if not settings.access_log:
        access.setLevel(logging.CRITICAL)
    logging.captureWarnings(True)
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False  # unused
    sys.excepthook = _on_exception
    threading.excepthook = lambda caught: _on_exception(
        caught.exc_type, caught.exc_value, caught.exc_traceback
    )


def _handler(
    stream: TextIO, settings: Settings, role: str, *, of_requests: bool = False
) -> logging.Handler:
    is_text = stream.isatty() if settings.log_format == "auto" else settings.log_format == "text"
    if of_requests and not is_text:
        return RequestLines(stream, role)
    handler = logging.StreamHandler(stream)
    handler.setFormatter(TextFormatter(_has_colours(stream)) if is_text else JsonFormatter(role))
    return handler


def _has_colours(stream: TextIO) -> bool:
    return stream.isatty() and not os.environ.get("NO_COLOR")


def _on_exception(
    kind: type[BaseException], error: BaseException | None, traceback: TracebackType | None
) -> None:
    """Log an uncaught exception, which ends a thread or the process, in the same format."""
    if error is None or isinstance(error, SystemExit):
        return
    log.critical("uncaught exception", exc_info=(kind, error, traceback))


def facts_of(record: logging.LogRecord) -> Facts:
    """The fields of a line besides its message."""
    return {**(_facts.get() or {}), **tracing.ids(), **getattr(record, "facts", {})}


class JsonFormatter(logging.Formatter):
    """One JSON object in ASCII, so that no input can end a line or move a terminal's cursor."""

    def __init__(self, role: str) -> None:
        super().__init__()
        self._process = {"process": os.getpid(), "role": role}
        self._timestamp = Timestamp()

    def format(self, record: logging.LogRecord) -> str:
        line: Facts = {
            "timestamp": self._timestamp(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **facts_of(record),
        }
        if record.exc_info and (error := record.exc_info[1]):
            stack = super().formatException(record.exc_info)
            line["exception"] = {"type": _name(error), "message": str(error), "stack": stack}
        line |= self._process
        return in_ascii([line]).decode().rstrip("\n")


class TextFormatter(logging.Formatter):
    """Time, level, message and fields."""

    def __init__(self, colours: bool) -> None:
        super().__init__()
        self._colours = colours

    def format(self, record: logging.LogRecord) -> str:
        facts = facts_of(record)
        fields = " ".join(
            f"{name}={value}" for name, value in facts.items() if name not in IN_THE_MESSAGE
        )
        level = f"{record.levelname:<8}"
        message, fields = printable(record.getMessage()), printable(fields)
        if self._colours:
            level = click.style(level, fg=COLOURS.get(record.levelname))
            fields = click.style(fields, dim=True) if fields else fields
        line = f"{self.formatTime(record, '%Y-%m-%d %H:%M:%S')} {level} {message}"
        line += f"  {fields}" if fields else ""
        if record.exc_info:
            stack = self.formatException(record.exc_info).splitlines()
            line = "\n".join([line, *(f"    {printable(frame)}" for frame in stack)])
        return line


def printable(text: str) -> str:
    """The text with escapes for what would end a line or move a terminal's cursor."""
    if text.isprintable():
        return text
    return "".join(
        one if one.isprintable() else one.encode("unicode_escape").decode() for one in text
    )


def _name(error: BaseException) -> str:
    kind = type(error)
    return (
        kind.__qualname__
        if kind.__module__ == "builtins"
        else f"{kind.__module__}.{kind.__qualname__}"
    )
