"""A request whose rows wait for an answer, and its caller."""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from perceptd.service.inference.answers import Answer, Rows

if TYPE_CHECKING:
    from opentelemetry.trace import SpanContext

log = logging.getLogger("perceptd")


def never() -> bool:
    return False


class Caller(NamedTuple):
    """Who waits for an answer."""

    deadline: float | None = None  # by `time.monotonic`
    has_gone: Callable[[], bool] = never
    span: "SpanContext | None" = None  # of the request, if it is traced


NO_CALLER = Caller()  # no deadline, cannot disconnect

Outcome = Answer | Exception


class PendingRequest:
    """A request's rows, the parts of their answer so far, and who waits for it."""

    __slots__ = (
        "arrived", "batches_before", "caller", "missing", "parts", "rows", "taken", "waiter"
    )  # fmt: skip

    def __init__(
        self, rows: Rows, waiter: "asyncio.Future[Answer]", caller: Caller, batches_before: int
    ) -> None:
        self.rows = rows
        self.waiter = waiter  # cancelled if its task no longer waits
        self.caller = caller
        self.batches_before = batches_before  # batches that had run when it arrived
        self.arrived = time.perf_counter()
        self.taken = 0  # rows that are or were in a batch
        self.missing = len(rows)  # rows without an answer
        self.parts: tuple[Answer, ...] = ()

    def end(self, outcome: Outcome) -> None:
        if isinstance(outcome, Exception):
            self.waiter.set_exception(outcome)
        else:
            self.waiter.set_result(outcome)

    def has_gone(self) -> bool:
        try:
            return self.caller.has_gone()
        except Exception:
            log.exception("cannot check whether a caller is still connected")
            return False
