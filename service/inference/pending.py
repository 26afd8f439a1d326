"""A request whose rows wait for their answer, and its caller."""

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
    """Who waits for an answer: until when, on the event loop's clock, and whether still there."""

    deadline: float | None = None
    has_gone: Callable[[], bool] = never
    span: "SpanContext | None" = None  # of the request, where it is traced


NO_CALLER = Caller()  # in particular


Outcome = Answer | Exception
Deliver = Callable[[Outcome], None]


@dataclass(slots=True, eq=False)
class PendingRequest:
    """A request's rows on their way. Whoever sets `ended` gets nothing any more."""

    rows: Rows
    deliver: Deliver
    caller: Caller
    since: int  # how many batches had been run when it came
    came: float = field(default_factory=time.perf_counter)
    taken: int = 0  # rows that are in a batch, or were
    missing: int = 0  # rows without an answer
    parts: tuple[Answer, ...] = ()
    ended: bool = False

    def __post_init__(self) -> None:
        self.missing = len(self.rows)

    def end(self, outcome: Outcome) -> None:
        """Whatever comes of it, the others of the batch are still to be answered."""
        self.ended = True
        try:
            self.deliver(outcome)
        except Exception:
            log.exception("an answer could not be delivered")

    def has_gone(self) -> bool:
        try:
            return self.caller.has_gone()
        except Exception:
            log.exception("a caller cannot be asked whether it is still there")
            return False
