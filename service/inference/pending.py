"""A request whose rows wait for an answer, and its caller."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from perceptd.service.inference.answers import Answer, Rows

if TYPE_CHECKING:
    from opentelemetry.trace import SpanContext

log = logging.getLogger("perceptd")


def never() -> bool:
    return False


class Caller(NamedTuple):
    """Who waits for an answer."""

    deadline: float | None = None  # by the event loop's clock
    has_gone: Callable[[], bool] = never
    span: "SpanContext | None" = None  # of the request, if it is traced


NO_CALLER = Caller()  # no deadline, cannot disconnect

Outcome = Answer | Exception
Deliver = Callable[[Outcome], None]


@dataclass(slots=True, eq=False)
class PendingRequest:
    """A request's rows, and the parts of their answer so far.

    Once `ended` is set, nothing more is delivered.
    """

    rows: Rows
    deliver: Deliver
    caller: Caller
    batches_before: int  # batches that had run when it arrived
    arrived: float = field(default_factory=time.perf_counter)
    taken: int = 0  # rows that are or were in a batch
    missing: int = 0  # rows without an answer
    parts: tuple[Answer, ...] = ()
    ended: bool = False

    def __post_init__(self) -> None:
        self.missing = len(self.rows)

    def end(self, outcome: Outcome) -> None:
        """Deliver the outcome. An error is only logged: the rest of the batch needs its answers."""
        self.ended = True
        try:
            self.deliver(outcome)
        except Exception:
            log.exception("cannot deliver an answer")

    def has_gone(self) -> bool:
        try:
            return self.caller.has_gone()
        except Exception:
            log.exception("cannot check whether a caller is still connected")
            return False
