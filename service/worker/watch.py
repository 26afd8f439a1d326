"""A job's process, watched: what it says is told, the lease renewed, and it is stopped in time."""

import logging
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from perceptd.service.errors import DiskError, StoreError
from perceptd.service.jobs.claims import Claims, LostJobError
from perceptd.service.jobs.queue import Event, Job
from perceptd.service.jobs.schemas import DRAWN, JobProgress
from perceptd.service.settings import TIMEOUT_S
from perceptd.service.store import db
from perceptd.service.worker.process import GRACE_S, LOG_CHARACTERS, Budget, TrainingProcess

LISTEN_S = 0.1  # between looks at the clock while a process says nothing
BEAT_S = 0.5  # between beats; the most that a cancellation waits to be seen
TERMINATED = 128 + signal.SIGTERM  # the exit status of a training that was asked to end
RETRY_S = 0.5  # before a database that is away is asked again; doubled with each time, up to
MAX_RETRY_S = 30.0
LOOK_S = 1.0  # the most that one look adds to a silence: a worker that was stopped heard nothing
# Of each kind so many events of one attempt are told; a training of ours has no more.
MAX_EVENTS = {"log": 1000, "epoch": 1000, "plane": 1, "boundary": 100}
MAX_RESULTS = 100
MAX_WARNINGS = 50  # about events that are none
DISK_FAILED = os.EX_IOERR  # the exit status of a training that could not write or read

log = logging.getLogger("perceptd.worker")
Result = TypeVar("Result")


class StoppingError(Exception):
    """The worker is asked to end."""


class TimedOutError(Exception):
    """The job has run for as long as it may."""


class StalledError(Exception):
    """The process has said nothing for as long as it may; the text says for how long."""


class KilledError(Exception):
    """The process was ended by a signal; the text names it."""


class TrainingFailedError(Exception):
    """The process gave up; the text is its own word for why."""


class Watch:
    """The lease of one claimed job, and whatever runs under it."""

    def __init__(
        self,
        job: Job,
        claims: Claims,
        stop: threading.Event,
        *,
        max_runtime_s: float,
        max_silence_s: float,
        claimed_at: float,
    ) -> None:
        self.job = job
        self.log: Sequence[str] = ()  # the last lines of the last process
        self._claims = claims
        self._stop = stop
        self._max_runtime_s = max_runtime_s
        self._started_at = self._renewed_at = claimed_at
        self._progress = job.progress
        self._max_silence_s = max_silence_s
        self._pending: list[Event] = []
        self._told: Counter[str] = Counter()  # events of each kind, and warnings about others

    def run(
        self,
        arguments: Sequence[str],
        folder: Path,
        budget: Budget,
        command: Sequence[str],
    ) -> list[dict[str, Any]]:
        """Run a training process to its end; the `metrics` that it told.

        Raises `CancelledError`, `StoppingError`, `TimedOutError`, `StalledError`, `LostJobError`,
        `KilledError`, `DiskError`, `TrainingFailedError`; the process has ended by then.
        """
        results: list[dict[str, Any]] = []
        threads = (self._progress or {}).get("threads") or budget.threads  # sums depend on them
        process = TrainingProcess(
            arguments, folder, Budget(threads, budget.memory_mb, budget.nice), command
        )
        silent_s, looked_at = 0.0, time.monotonic()
        try:
            while (exit_code := process.poll()) is None:
                said = process.said(LISTEN_S)
                for event in said:
                    self._note(event, threads)
                    if event["event"] == "metrics" and len(results) < MAX_RESULTS:
                        results.append(event)
                now = time.monotonic()
                silent_s = 0.0 if said else silent_s + min(now - looked_at, LOOK_S)
                looked_at = now
                if self._stop.is_set():
                    raise StoppingError
                if self._runtime_s() > self._max_runtime_s:
                    raise TimedOutError
                if silent_s > self._max_silence_s:
                    raise StalledError(f"it said nothing for {self._max_silence_s:g} s")
                if time.monotonic() - self._renewed_at > min(BEAT_S, self._claims.lease_s / 5):
                    self._beat()
        finally:
            self.log = list(process.log)
            process.close()
        self.persist(self._renew)
        if exit_code != 0 and self._stop.is_set():
            raise StoppingError
        if exit_code < 0:
            raise KilledError(signal.Signals(-exit_code).name)
        if exit_code == TERMINATED:
            raise KilledError("SIGTERM")
        reason = _last_word(self.log) or f"exit status {exit_code}"
        if exit_code == DISK_FAILED:
            raise DiskError(f"the training could not write or read: {reason}")
        if exit_code > 0:
            raise TrainingFailedError(reason)
        return results

    def persist(self, write: Callable[[], Result]) -> Result:
        """Write to the store, waiting for a database that is away.

        A full disk and tables of another release are told at once. Nothing runs meanwhile, and what
        is written is checked against the claim: so the wait may outlast the lease.
        """
        pause = RETRY_S
        while True:
            try:
                return write()
            except StoreError as error:
                if isinstance(error, DiskError) or db.has_other_tables(error):
                    raise
                if pause == RETRY_S:
                    log.warning("job %d waits for the database: %s", self.job.id, error)
                if self._stop.wait(pause):
                    raise LostJobError("its worker ended while the database was away") from error
                pause = min(2 * pause, MAX_RETRY_S)

    def _note(self, event: dict[str, Any], threads: int) -> None:
        """Keep an event that is told to others, for the next beat."""
        kind = event["event"]
        try:
            if kind == "log":
                self._keep(kind, {"line": str(event.get("line", ""))[:LOG_CHARACTERS]})
            elif kind == "epoch":
                self._note_epoch(JobProgress.model_validate(event), threads)
            elif schema := DRAWN.get(kind):
                self._keep(kind, schema.model_validate(event).model_dump())
        except ValidationError:
            self._told["warning"] += 1
            if self._told["warning"] <= MAX_WARNINGS:
                shown = str(event)[:LOG_CHARACTERS]
                log.warning("job %d: an event that is none: %s", self.job.id, shown)

    def _keep(self, kind: str, facts: dict[str, Any]) -> None:
        self._told[kind] += 1
        if self._told[kind] <= MAX_EVENTS[kind]:
            self._pending.append(Event(kind, facts))

    def _note_epoch(self, progress: JobProgress, threads: int) -> None:
        """Keep an epoch, unless it is one that a resumed training tells again."""
        if progress.epoch > (self._progress or {}).get("epoch", 0):
            self._progress = {**progress.model_dump(), "threads": threads}
            self._keep("epoch", progress.model_dump())

    def _beat(self) -> None:
        """Renew the lease, or go on without for as long as it lasts."""
        try:
            self._renew()
        except StoreError as error:
            if self._lease_is_over():
                raise LostJobError(f"its lease ran out: {error}") from error

    def _renew(self) -> None:
        asked_at = time.monotonic()
        self._claims.beat(
            self.job, runtime_s=self._runtime_s(), progress=self._progress, events=self._pending
        )
        self._renewed_at = asked_at
        self._pending = []

    def _lease_is_over(self) -> bool:
        """Whether another try and the end of the process would not fit in what is left of it."""
        left = self._claims.lease_s - (time.monotonic() - self._renewed_at)
        return left < TIMEOUT_S + GRACE_S

    def _runtime_s(self) -> float:
        return self.job.runtime_s + time.monotonic() - self._started_at


def _last_word(lines: Sequence[str]) -> str | None:
    """Why a training gave up, in its own words: its last line that says something."""
    spoken = [line.strip() for line in lines if line.strip()]
    return spoken[-1].removeprefix("Error: ") if spoken else None
