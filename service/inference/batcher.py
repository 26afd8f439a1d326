"""Requests -> batch -> answers. Knows no runtime.

A batch is what arrived in the same turn of the event loop, or queued up while the last batch ran:
nobody waits for company while the engine is idle, and under load the batches grow by themselves.
"""

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextvars import Context
from itertools import accumulate
from typing import NamedTuple

import numpy as np
from anyio import CapacityLimiter, to_thread

from perceptd.service.errors import CallerGoneError, DeadlineExceededError, QueueFullError
from perceptd.service.inference.answers import Answer, Rows, joined
from perceptd.service.inference.pending import Caller, Deliver, Outcome, PendingRequest

INLINE_S = 0.010  # a longer batch runs in a thread: that costs 0.1 ms, and the event loop goes on
LONG_BATCHES = 4
BUSY_INLINE_S = 0.100  # the same where more rows wait: a thread would share its core with refusals
MEMORY = 0.9  # of what was seen, with each batch that is
FORGETTING = 1.05  # by which the least time of a row grows with each batch

log = logging.getLogger("perceptd")


_Batch = list[tuple[PendingRequest, Rows]]


class BatchResult(NamedTuple):
    """A batch that was computed. Its times are `time.perf_counter`'s, as a request's `came` is."""

    rows: Rows  # (N, ...)
    answer: Answer  # to all of them
    requests: Sequence[PendingRequest]  # whose rows they are, in order
    began: float
    ended: float


Observer = Callable[[BatchResult], None]


class DrainRate:
    """Seconds that a row takes where one batch follows the other, all that happens in between
    included: reading requests, writing answers, refusing others.

    A batcher that is idle in between says little about that: its rows take as long at most, or an
    estimate from worse days would refuse whoever could prove it wrong.
    """

    def __init__(self) -> None:
        self.row_s = 0.0  # not known yet: nothing is refused for it
        self._rows = 0.0
        self._seconds = 0.0
        self._since = 0.0

    def start(self) -> None:
        """The first batch after a pause begins."""
        self._since = time.perf_counter()

    def ran(self, rows: int, *, more: bool) -> None:
        """A batch of so many rows ended, and another follows at once if there are more."""
        now = time.perf_counter()
        took, self._since = now - self._since, now
        if more:
            self._rows = self._rows * MEMORY + rows
            self._seconds = self._seconds * MEMORY + took
            if self._rows:
                self.row_s = self._seconds / self._rows
        elif took < rows * self.row_s:
            self._rows, self._seconds, self.row_s = rows, took, took / rows

    def left(self, rows: int) -> float:
        """Seconds that the batch of so many rows which runs now still takes."""
        return max(rows * self.row_s - (time.perf_counter() - self._since), 0.0)


class Batcher:
    """Gathers the rows of requests into batches, run one after the other on one event loop.

    A request of more rows than a batch has room for is answered over several, and lets others in
    between. `run` computes a batch; where it raises for the rows of several requests it is asked
    for each alone, so that only those fail which fail by themselves. Observers are told of each
    batch on the event loop, once its answers are on their way.
    """

    def __init__(
        self,
        run: Callable[[Rows], Answer],
        limiter: CapacityLimiter | None,
        *,
        max_batch_size: int,
        max_batch_time_s: float,
        max_queue_size: int,
        max_queue_wait_s: float = math.inf,
        observers: Sequence[Observer] = (),
    ) -> None:
        self._run = run
        self._limiter = limiter
        self._observers = observers
        self._ran: list[BatchResult] = []  # and not yet told of
        self._max_batch_size = max_batch_size
        self._max_batch_time_s = max_batch_time_s
        self._max_queue_size = max_queue_size
        self._max_queue_wait_s = max_queue_wait_s
        self._queue: deque[PendingRequest] = deque()
        self._queued_rows = 0
        self._running_rows = 0
        self._drain_rate = DrainRate()
        self._busy = False  # a batch runs, or will in the next turn
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._batches = 0
        self._context = Context()  # no caller's own: a batch is not about one of its requests
        self._row_s = math.inf  # the least that a row has taken of late

    @property
    def queued_rows(self) -> int:
        """Rows that wait for a batch."""
        return self._queued_rows

    @property
    def is_long(self) -> bool:
        """Whether more rows wait than a few batches take."""
        return self._queued_rows > LONG_BATCHES * self._max_batch_size

    @property
    def max_queue_size(self) -> int:
        """How many rows may wait."""
        return self._max_queue_size

    async def submit(self, rows: Rows, caller: Caller) -> Answer:
        """Answer all rows, (N, ...) with N >= 1.

        Raises `QueueFullError`, `DeadlineExceededError`, `CallerGoneError`, and what `run` raises.
        """
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()

        def deliver(outcome: Outcome) -> None:
            if not future.done():  # cancelled, and its task not yet woken to say so
                future.set_result(outcome)

        waiting = self.enqueue(rows, deliver, caller)
        try:
            async with asyncio.timeout_at(caller.deadline):
                outcome = await future
        except TimeoutError:
            raise DeadlineExceededError from None
        finally:
            waiting.ended = True
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def enqueue(self, rows: Rows, deliver: Deliver, caller: Caller) -> PendingRequest:
        """Have `deliver` called once with the answer to all rows, or with what went wrong.

        Raises `QueueFullError`.
        """
        if self._busy or self._queue:
            self.admit(len(rows), caller.deadline)
        waiting = PendingRequest(rows, deliver, caller, self._batches)
        self._queue.append(waiting)
        self._queued_rows += len(rows)
        if not self._busy:
            self._wake(asyncio.get_running_loop())
        return waiting

    def admit(self, rows: int, deadline: float | None = None) -> None:
        """Let so many rows into the queue, or not.

        Raises `QueueFullError` where they would be too many, or wait too long for their turn, or
        be answered after their deadline. Its text is one of few: it may be kept as bytes.
        """
        row_s = self._drain_rate.row_s
        wait_s = self._queued_rows * row_s
        if self._queue and self._queued_rows + rows > self._max_queue_size:
            most = f"at most {self._max_queue_size} rows may wait for a model"
            raise QueueFullError(most, wait_s)
        if wait_s + self._running_rows * row_s > self._max_queue_wait_s:
            wait_s += self._drain_rate.left(self._running_rows)
            if wait_s > self._max_queue_wait_s:
                most = f"a prediction waits {self._max_queue_wait_s * 1000:g} ms at most"
                raise QueueFullError(f"{most}, and would have to wait longer now", wait_s)
        if deadline is not None and self._queue:
            left_s = deadline - asyncio.get_running_loop().time()
            if wait_s + rows * row_s > left_s:
                raise QueueFullError("there is no answer within the time that is allowed", wait_s)

    def _wake(self, loop: asyncio.AbstractEventLoop) -> None:
        """Run what waits: in the next turn, or once `max_batch_time` has passed."""
        if self._max_batch_time_s and self._queued_rows < self._max_batch_size:
            if not self._timer:
                self._timer = loop.call_later(self._max_batch_time_s, self._start, loop)
            return
        self._start(loop)

    def _start(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None
        self._busy = True
        self._drain_rate.start()
        loop.call_soon(self._next, context=self._context)

    def _next(self) -> None:
        """Run the next batch."""
        loop = asyncio.get_running_loop()
        batch = self._take(loop.time())
        self._running_rows = sum(len(piece) for _, piece in batch)
        if self._running_rows * self._row_s > (BUSY_INLINE_S if self._queue else INLINE_S):
            self._task = loop.create_task(self._off_the_loop(batch))
            return
        try:
            self._deliver(batch, self._compute(batch))
        finally:
            self._done(loop)

    async def _off_the_loop(self, batch: _Batch) -> None:
        try:
            outcomes = await to_thread.run_sync(self._compute, batch, limiter=self._limiter)
        except Exception as error:  # no thread to be had
            outcomes = [error] * len(batch)
        try:
            self._deliver(batch, outcomes)
        finally:
            self._done(asyncio.get_running_loop())

    def _done(self, loop: asyncio.AbstractEventLoop) -> None:
        self._tell()
        self._batches += 1
        self._busy = bool(self._queue)
        self._drain_rate.ran(self._running_rows, more=self._busy)
        self._running_rows = 0
        if self._queue:
            loop.call_soon(self._next, context=self._context)

    def _tell(self) -> None:
        ran, self._ran = self._ran, []
        for batch in ran:
            for observer in self._observers:
                try:
                    observer(batch)
                except Exception:  # what watches the answers must not end them
                    log.exception("a batch could not be observed")

    def _take(self, now: float) -> _Batch:
        """The rows of the next batch, of those who still want an answer."""
        batch: _Batch = []
        room = self._max_batch_size
        while self._queue and room:
            waiting = self._queue.popleft()
            if not self._is_wanted(waiting, now):
                self._queued_rows -= len(waiting.rows) - waiting.taken
                continue
            piece = waiting.rows[waiting.taken : waiting.taken + room]
            batch.append((waiting, piece))
            room -= len(piece)
            self._queued_rows -= len(piece)
            waiting.taken += len(piece)
            if waiting.taken < len(waiting.rows):
                self._queue.append(waiting)  # behind those who came meanwhile
        return batch

    def _is_wanted(self, waiting: PendingRequest, now: float) -> bool:
        deadline = waiting.caller.deadline
        if not waiting.ended and deadline is not None and deadline <= now:
            waiting.end(DeadlineExceededError())
        # Who waited for no other batch is not asked: that would cost more than it could save.
        if not waiting.ended and waiting.since != self._batches and waiting.has_gone():
            waiting.end(CallerGoneError())
        return not waiting.ended

    def _compute(self, batch: _Batch) -> list[Outcome]:
        """What becomes of each piece of a batch."""
        pieces = [piece for _, piece in batch]
        if not pieces:
            return []
        try:
            rows = pieces[0] if len(pieces) == 1 else np.concatenate(pieces)
            began = time.perf_counter()
            answer = self._run(rows)
        except Exception as error:
            if len(batch) == 1:
                return [error]
            return [outcome for alone in batch for outcome in self._compute([alone])]
        ended = time.perf_counter()
        self._row_s = min(self._row_s * FORGETTING, (ended - began) / len(rows))
        self._ran.append(BatchResult(rows, answer, [waiting for waiting, _ in batch], began, ended))
        ends = list(accumulate(map(len, pieces)))
        return [answer.part(end - len(piece), end) for piece, end in zip(pieces, ends, strict=True)]

    def _deliver(self, batch: _Batch, outcomes: list[Outcome]) -> None:
        for (waiting, _), outcome in zip(batch, outcomes, strict=True):
            if waiting.ended:
                continue
            if isinstance(outcome, Answer):
                waiting.parts += (outcome,)
                waiting.missing -= len(outcome.indices)
                if waiting.missing:
                    continue
                outcome = joined(waiting.parts)
            waiting.end(outcome)
