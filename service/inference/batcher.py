"""Requests -> batch -> answers. Knows no runtime.

A batch holds the rows that arrived in the same turn of the event loop, or while the batch before
ran. While the batcher is idle no request waits to fill a batch; under load the batches grow.
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

INLINE_S = 0.010  # longer batches run in a thread: that costs 0.1 ms and frees the event loop
BUSY_INLINE_S = 0.100  # the same while rows wait: refusals would slow the thread down
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
        self._drain_rate = drain_rate or DrainRate()
        self._busy = False  # a batch runs, or will in the next turn of the loop
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
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

    async def submit(self, rows: Rows, caller: Caller) -> Answer:
        """Answer all rows, (N, ...) with N >= 1.

        Raises `QueueFullError`, `DeadlineExceededError`, `CallerGoneError`, and what `run` raises.
        """
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()

        def deliver(outcome: Outcome) -> None:
            if not future.done():  # it may be cancelled before its task runs again
                future.set_result(outcome)

        request = self.enqueue(rows, deliver, caller)
        try:
            async with asyncio.timeout_at(caller.deadline):
                outcome = await future
        except TimeoutError:
            raise DeadlineExceededError from None
        finally:
            request.ended = True
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def enqueue(self, rows: Rows, deliver: Deliver, caller: Caller) -> PendingRequest:
        """Queue rows. `deliver` is called once, with the answer to all rows or with an error.

        Raises `QueueFullError`.
        """
        if self._busy or self._queue:
            self.admit(len(rows), caller.deadline)
        request = PendingRequest(rows, deliver, caller, self._batches)
        self._queue.append(request)
        self._queued_rows += len(rows)
        if not self._busy:
            self._wake(asyncio.get_running_loop())
        return request

    def admit(self, rows: int, deadline: float | None = None) -> None:
        """Check whether so many more rows may wait.

        Raises `QueueFullError` if they would be too many, wait too long or miss the deadline. There
        are few different messages, so that callers can cache the encoded answers.
        """
        row_s = self._drain_rate.row_s
        wait_s = self._queued_rows * row_s
        if self._queue and self._queued_rows + rows > self._max_queue_size:
            limit = f"at most {self._max_queue_size} rows may wait for a model"
            raise QueueFullError(f"queue is full: {limit}", wait_s)
        if wait_s + self._running_rows * row_s > self._max_queue_wait_s:
            wait_s += self._drain_rate.remaining_s(self._running_rows)
            if wait_s > self._max_queue_wait_s:
                limit = f"{self._max_queue_wait_s * 1000:g} ms"
                raise QueueFullError(f"queue is full: estimated wait exceeds {limit}", wait_s)
        if deadline is not None and self._queue:
            left_s = deadline - asyncio.get_running_loop().time()
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
        self._drain_rate.start()
        loop.call_soon(self._run_next, context=self._context)

    def _run_next(self) -> None:
        loop = asyncio.get_running_loop()
        batch = self._take_batch(loop.time())
        self._running_rows = sum(len(piece) for _, piece in batch)
        if self._running_rows * self._min_row_s > (BUSY_INLINE_S if self._queue else INLINE_S):
            self._task = loop.create_task(self._run_in_thread(batch))
            return
        try:
            self._deliver(batch, self._compute(batch))
        finally:
            self._finish(loop)

    async def _run_in_thread(self, batch: _Batch) -> None:
        try:
            outcomes = await to_thread.run_sync(self._compute, batch, limiter=self._limiter)
        except Exception as error:  # no thread can be started
            outcomes = [error] * len(batch)
        try:
            self._deliver(batch, outcomes)
        finally:
            self._finish(asyncio.get_running_loop())

    def _finish(self, loop: asyncio.AbstractEventLoop) -> None:
        self._notify_observers()
        self._batches += 1
        self._busy = bool(self._queue)
        self._drain_rate.measure(self._running_rows, more=self._busy)
        self._running_rows = 0
        if self._queue:
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
        deadline = request.caller.deadline
        if not request.ended and deadline is not None and deadline <= now:
            request.end(DeadlineExceededError())
        # If no other batch ran meanwhile, looking for the caller would cost more than it saves.
        if not request.ended and request.batches_before != self._batches and request.has_gone():
            request.end(CallerGoneError())
        return not request.ended

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
            if request.ended:
                continue
            if isinstance(outcome, Answer):
                request.parts += (outcome,)
                request.missing -= len(outcome.indices)
                if request.missing:
                    continue
                outcome = joined(request.parts)
            request.end(outcome)
