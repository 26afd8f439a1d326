"""Logs: one JSON object a line for programs, readable lines on a terminal.

Both are written by the standard library: what a line costs stands in the way of a prediction, and
a record, a dictionary and msgspec's JSON are all that it takes.
"""

import json
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
import msgspec

from perceptd.models import tracing
from perceptd.service.settings import Settings

COLOURS = {"DEBUG": "cyan", "INFO": "green", "WARNING": "yellow", "ERROR": "red", "CRITICAL": "red"}
IN_THE_MESSAGE = frozenset({"method", "path", "status"})  # of a request
MAX_PATH = 500  # characters

Facts = dict[str, Any]

access = logging.getLogger("perceptd.access")
log = logging.getLogger("perceptd")
_facts: ContextVar[Facts | None] = ContextVar("facts", default=None)


@contextmanager
def about(**facts: Any) -> Iterator[None]:
    """What is logged meanwhile, here and in what this starts, is about these."""
    token = _facts.set({**(_facts.get() or {}), **facts})
    try:
        yield
    finally:
        _facts.reset(token)


def note(**facts: Any) -> None:
    """Whatever is logged from here on to the end of the surrounding `about` has these too."""
    if (known := _facts.get()) is not None:
        known.update(facts)


def is_logged() -> bool:
    """Whether requests are, a line each."""
    return access.isEnabledFor(logging.INFO)


def request(method: str, path: str, status: int, began: float, **facts: Any) -> None:
    """The line of a request that came at `began`, by `time.perf_counter`."""
    path = path[:MAX_PATH]
    record = logging.LogRecord(
        access.name, logging.INFO, "", 0, f"{method} {path} {status}", (), None
    )
    record.__dict__["facts"] = {
        "method": method,
        "path": path,
        "status": status,
        "duration_ms": round((time.perf_counter() - began) * 1000, 3),
        **facts,
    }
    access.handle(record)


def configure(settings: Settings, role: str) -> None:
    """Log as the settings say; of what is no part of this service, warnings and worse.

    Requests go to standard output and the rest to standard error, each as JSON where it is no
    terminal. The processes of a server share both, and so decide alike.
    """
    level = settings.log_level.upper()
    root = logging.getLogger()
    root.handlers = [_handler(sys.stderr, settings, role)]
    root.setLevel(max(logging.WARNING, logging.getLevelNamesMapping()[level]))
    for name in ("perceptd", "uvicorn"):
        logging.getLogger(name).setLevel(level)
    access.handlers = [_handler(sys.stdout, settings, role)]
    access.propagate = False
    if not settings.access_log:
        access.setLevel(logging.CRITICAL)
    logging.captureWarnings(True)
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False  # none is told
    sys.excepthook = _on_exception
    threading.excepthook = lambda told: _on_exception(
        told.exc_type, told.exc_value, told.exc_traceback
    )


def _handler(stream: TextIO, settings: Settings, role: str) -> logging.Handler:
    handler = logging.StreamHandler(stream)
    is_text = stream.isatty() if settings.log_format == "auto" else settings.log_format == "text"
    handler.setFormatter(TextFormatter(_has_colours(stream)) if is_text else JsonFormatter(role))
    return handler


def _has_colours(stream: TextIO) -> bool:
    return stream.isatty() and not os.environ.get("NO_COLOR")


def _on_exception(
    kind: type[BaseException], error: BaseException | None, traceback: TracebackType | None
) -> None:
    """What nobody has caught ends a thread or the process, and is told as all else."""
    if error is None or isinstance(error, SystemExit):
        return
    log.critical("nobody has caught this", exc_info=(kind, error, traceback))


def facts_of(record: logging.LogRecord) -> Facts:
    """What a line is about, besides its message."""
    return {**(_facts.get() or {}), **tracing.ids(), **getattr(record, "facts", {})}


class JsonFormatter(logging.Formatter):
    """One object, in ASCII: nothing that a caller sends ends a line or moves a cursor."""

    def __init__(self, role: str) -> None:
        super().__init__()
        self._process = {"process": os.getpid(), "role": role}
        self._second = 0
        self._time = ""

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
        try:
            text = msgspec.json.encode(line, enc_hook=str).decode()
        except UnicodeEncodeError:  # half a character
            text = ""
        # Beyond ASCII there are other ends of lines, and control characters.
        return text if text and text.isascii() else json.dumps(line, default=str)

    def _timestamp(self, created: float) -> str:
        second = int(created)
        if second != self._second:
            self._time = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
            self._second = second
        return f"{self._time}.{int((created - second) * 1e6):06d}Z"


class TextFormatter(logging.Formatter):
    """Time, level, message, and what it is about."""

    def __init__(self, colours: bool) -> None:
        super().__init__()
        self._colours = colours

    def format(self, record: logging.LogRecord) -> str:
        facts = facts_of(record)
        said = " ".join(
            f"{name}={value}" for name, value in facts.items() if name not in IN_THE_MESSAGE
        )
        level = f"{record.levelname:<8}"
        message, said = printable(record.getMessage()), printable(said)
        if self._colours:
            level = click.style(level, fg=COLOURS.get(record.levelname))
            said = click.style(said, dim=True) if said else said
        line = f"{self.formatTime(record, '%Y-%m-%d %H:%M:%S')} {level} {message}"
        line += f"  {said}" if said else ""
        if record.exc_info:
            stack = self.formatException(record.exc_info).splitlines()
            line = "\n".join([line, *(f"    {printable(each)}" for each in stack)])
        return line


def printable(text: str) -> str:
    """With an escape for whatever would end a line or move a terminal's cursor."""
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in text
    )


def _name(error: BaseException) -> str:
    kind = type(error)
    return (
        kind.__qualname__
        if kind.__module__ == "builtins"
        else f"{kind.__module__}.{kind.__qualname__}"
    )
