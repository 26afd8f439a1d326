"""Requests -> batch -> answers. Knows no runtime.

A batch holds the rows that arrived in the same turn of the event loop, or while the batch before
ran. A request that comes alone waits for no others. After a batch of several rows, the next one
starts when no more rows come; for that, and for connections that have just arrived, it waits for
`ARRIVALS_S` at most.
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
from perceptd.service.inference.arrivals import Arrivals
from perceptd.service.inference.pending import Caller, Outcome, PendingRequest

INLINE_S = 0.010  # longer batches run in a thread: that costs 0.1 ms and frees the event loop
BUSY_INLINE_S = 0.100  # the same while rows wait: refusals would slow the thread down
ARRIVALS_S = 0.005  # for which a batch waits at most for more rows
# Turns of the event loop without more rows, until no more are expected: in one turn answers are
# sent and requests are read, in the next one these are queued.
STILL_TURNS = 2
SWEEP_S = 0.05  # between looks at deadlines while a batch runs in a thread
LONG_QUEUE_BATCHES = 4
DRAIN_DECAY = 0.9  # weight that a measured batch loses with each later one
MIN_TIME_GROWTH = 1.05  # per batch, so that one fast batch does not count for ever

log = logging.getLogger("perceptd")

_Batch = list[tuple[PendingRequest, Rows]]


class BatchResult(NamedTuple):
    """A batch that was computed. Times are by `time.perf_counter`."""

    rows: Rows  # (N, ...)
    answer: Answer  # to all rows
    requests: Sequence[PendingRequest]  # that the rows are from, in order
    began: float
    ended: float


Observer = Callable[[BatchResult], None]


class DrainRate:
    """Seconds per row while one batch follows the other. They include what happens in between:
    reading requests, writing answers, refusing others.

    A batch that no other follows can only lower the estimate. It has to, as an estimate that is too
    high refuses the requests that would correct it.
    """

    def __init__(self, row_s: float = 0.0) -> None:
        self.row_s = row_s  # 0: not known, nothing is refused
        self._rows = 0.0
        self._seconds = 0.0
        self._since = 0.0

    def start(self) -> None:
        """The first batch after a pause begins."""
        self._since = time.perf_counter()

    def measure(self, rows: int, *, more: bool) -> None:
        """A batch of `rows` rows ended. `more`: another one follows at once."""
        now = time.perf_counter()
        took, self._since = now - self._since, now
        if more:
            self._rows = self._rows * DRAIN_DECAY + rows
            self._seconds = self._seconds * DRAIN_DECAY + took
            if self._rows:
                self.row_s = self._seconds / self._rows
        elif took < rows * self.row_s:
            self._rows, self._seconds, self.row_s = rows, took, took / rows

    def remaining_s(self, rows: int) -> float:
        """Estimated time until the running batch of `rows` rows ends."""
        return max(rows * self.row_s - (time.perf_counter() - self._since), 0.0)


class Batcher:
    """Combines the rows of requests into batches, and runs one batch after the other on one event
    loop.

    A request with more rows than a batch can hold is answered over several batches, with other
    requests in between. `run` computes a batch. If it raises for the rows of several requests, it
    is called for each request alone, so that only the bad ones fail. Observers are called on the
    event loop, after the answers of their batch are delivered.
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
        drain_rate: DrainRate | None = None,
        arrivals: Arrivals | None = None,
    ) -> None:
        self._run = run
        self._limiter = limiter
        self._observers = observers
        self._unobserved: list[BatchResult] = []
        self._max_batch_size = max_batch_size
        self._max_batch_time_s = max_batch_time_s
        self._max_queue_size = max_queue_size
        self._max_queue_wait_s = max_queue_wait_s
        self._queue: deque[PendingRequest] = deque()
        self._queued_rows = 0
        self._running_rows = 0
        self._last_rows = 0  # of the last batch
        self._drain_rate = drain_rate or DrainRate()
        self._arrivals = arrivals or Arrivals()
        self._due_at = 0.0  # when the next batch could first start
        self._seen_rows = 0  # in the queue in the last turn of the loop
        self._turns = 0  # in which no more came
        self._busy = False  # a batch runs, or will in the next turn of the loop
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._sweeping: asyncio.TimerHandle | None = None
        self._batches = 0
        self._context = Context()  # empty: a batch does not log as one of its requests
        self._min_row_s = math.inf  # least time per row of the last batches

    @property
    def queued_rows(self) -> int:
        """Rows that wait for a batch."""
        return self._queued_rows

    @property
    def has_long_queue(self) -> bool:
        """Whether more rows wait than `LONG_QUEUE_BATCHES` batches hold."""
        return self._queued_rows > LONG_QUEUE_BATCHES * self._max_batch_size

    @property
    def max_queue_size(self) -> int:
        """Rows that may wait at most."""
        return self._max_queue_size

    def submit(self, rows: Rows, caller: Caller) -> "asyncio.Future[Answer]":
        """Queue rows, (N, ...) with N >= 1, whose answer the future gets.

        Raises `QueueFullError`. The future raises `DeadlineExceededError`, `CallerGoneError`, and
        what `run` raises.
        """
        if self._busy or self._queue:
            self.admit(len(rows), caller.deadline)
        loop = asyncio.get_running_loop()
        request = PendingRequest(rows, loop.create_future(), caller, self._batches)
        self._queue.append(request)
        self._queued_rows += len(rows)
        if not self._busy:
            self._wake(loop)
        return request.waiter

    def admit(self, rows: int, deadline: float | None = None) -> None:
        """Check whether so many more rows may wait.

        Raises `QueueFullError` if they would be too many, wait too long or miss the deadline. What
        fits into the next batch does not wait too long, whatever the estimate is: one slow batch on
        a busy machine must not refuse a few clients. There are few different messages, so that
        callers can cache the encoded answers.
        """
        row_s = self._drain_rate.row_s
        wait_s = self._queued_rows * row_s
        if self._queue and self._queued_rows + rows > self._max_queue_size:
            limit = f"at most {self._max_queue_size} rows may wait for a model"
            raise QueueFullError(f"queue is full: {limit}", wait_s)
        fits_next = self._queued_rows + rows <= self._max_batch_size
        if not fits_next and wait_s + self._running_rows * row_s > self._max_queue_wait_s:
            wait_s += self._drain_rate.remaining_s(self._running_rows)
            if wait_s > self._max_queue_wait_s:
                limit = f"{self._max_queue_wait_s * 1000:g} ms"
                raise QueueFullError(f"queue is full: estimated wait exceeds {limit}", wait_s)
        if deadline is not None and self._queue:
            left_s = deadline - time.monotonic()
            if wait_s + rows * row_s > left_s:
                raise QueueFullError("estimated wait exceeds the request's deadline", wait_s)

    def _wake(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start a batch in the next turn of the loop, or after `max_batch_time_s`."""
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
        self._turns = 0 if self._last_rows > 1 else STILL_TURNS
        self._seen_rows = self._queued_rows
        self._due_at = time.perf_counter()
        self._drain_rate.start()
        loop.call_soon(self._run_next, context=self._context)

    def _run_next(self) -> None:
        loop = asyncio.get_running_loop()
        self._arrivals.accept()
        if self._may_grow():
            loop.call_soon(self._run_next, context=self._context)
            return
        batch = self._take_batch(time.monotonic())
        self._running_rows = sum(len(piece) for _, piece in batch)
        if self._running_rows * self._min_row_s > (BUSY_INLINE_S if self._queue else INLINE_S):
            self._task = loop.create_task(self._run_in_thread(batch))
            return
        try:
            self._deliver(batch, self._compute(batch))
        finally:
            self._finish(loop)

    def _may_grow(self) -> bool:
        """Whether rows may be on their way that the next batch has room for."""
        if self._queued_rows >= self._max_batch_size:
            return False
        self._turns = self._turns + 1 if self._queued_rows == self._seen_rows else 0
        self._seen_rows = self._queued_rows
        if self._turns >= STILL_TURNS and not self._arrivals.expected():
            return False
        return time.perf_counter() - self._due_at < ARRIVALS_S

    async def _run_in_thread(self, batch: _Batch) -> None:
        loop = asyncio.get_running_loop()
        self._sweeping = loop.call_later(SWEEP_S, self._sweep, batch)
        try:
            outcomes = await to_thread.run_sync(self._compute, batch, limiter=self._limiter)
        except Exception as error:  # no thread can be started
            outcomes = [error] * len(batch)
        finally:
            if self._sweeping:
                self._sweeping.cancel()
        try:
            self._deliver(batch, outcomes)
        finally:
            self._finish(asyncio.get_running_loop())

    def _sweep(self, batch: _Batch) -> None:
        """End the requests whose deadline has passed while a batch runs."""
        loop = asyncio.get_running_loop()
        now = time.monotonic()
        for request in (*(request for request, _ in batch), *self._queue):
            deadline = request.caller.deadline
            if deadline is not None and deadline <= now and not request.waiter.done():
                request.end(DeadlineExceededError())
        self._sweeping = loop.call_later(SWEEP_S, self._sweep, batch)

    def _finish(self, loop: asyncio.AbstractEventLoop) -> None:
        self._notify_observers()
        self._arrivals.answered(loop)
        self._batches += 1
        self._busy = bool(self._queue)
        self._due_at = time.perf_counter()
        self._drain_rate.measure(self._running_rows, more=self._busy)
        self._last_rows, self._running_rows = self._running_rows, 0
        if self._queue:
            self._turns = 0
            loop.call_soon(self._run_next, context=self._context)

    def _notify_observers(self) -> None:
        batches, self._unobserved = self._unobserved, []
        for batch in batches:
            for observer in self._observers:
                try:
                    observer(batch)
                except Exception:  # an observer must not stop the answers
                    log.exception("an observer of batches failed")

    def _take_batch(self, now: float) -> _Batch:
        """The rows of the next batch, without requests that no longer need an answer."""
        batch: _Batch = []
        room = self._max_batch_size
        while self._queue and room:
            request = self._queue.popleft()
            if not self._is_wanted(request, now):
                self._queued_rows -= len(request.rows) - request.taken
                continue
            piece = request.rows[request.taken : request.taken + room]
            batch.append((request, piece))
            room -= len(piece)
            self._queued_rows -= len(piece)
            request.taken += len(piece)
            if request.taken < len(request.rows):
                self._queue.append(request)  # its other rows go behind later requests
        return batch

    def _is_wanted(self, request: PendingRequest, now: float) -> bool:
        if request.waiter.done():
            return False
        deadline = request.caller.deadline
        if deadline is not None and deadline <= now:
            request.end(DeadlineExceededError())
            return False
        # If no other batch ran meanwhile, looking for the caller would cost more than it saves.
        if request.batches_before != self._batches and request.has_gone():
            request.end(CallerGoneError())
            return False
        return True

    def _compute(self, batch: _Batch) -> list[Outcome]:
        """The outcome for each request's rows of a batch."""
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
        self._min_row_s = min(self._min_row_s * MIN_TIME_GROWTH, (ended - began) / len(rows))
        self._unobserved.append(
            BatchResult(rows, answer, [request for request, _ in batch], began, ended)
        )
        ends = list(accumulate(map(len, pieces)))
        return [answer.part(end - len(piece), end) for piece, end in zip(pieces, ends, strict=True)]

    def _deliver(self, batch: _Batch, outcomes: list[Outcome]) -> None:
        for (request, _), outcome in zip(batch, outcomes, strict=True):
            if request.waiter.done():
                continue
            if isinstance(outcome, Answer):
                request.parts += (outcome,)
                request.missing -= len(outcome.indices)
                if request.missing:
                    continue
                if len(request.parts) > 1:
                    outcome = joined(request.parts)
            request.end(outcome)
