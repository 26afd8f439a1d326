"""A job's training process, monitored: recorded, and stopped when it must not continue."""

import os
import signal
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from perceptd.service.errors import DiskError
from perceptd.service.worker.lease import Lease
from perceptd.service.worker.process import Budget, TrainingProcess
from perceptd.service.worker.recorder import Recorder

POLL_S = 0.1  # longest wait for output before the limits are checked again
MAX_POLL_S = 1.0  # counted as silence per poll: a suspended worker has not been listening
MAX_RESULTS = 100
TERMINATED = 128 + signal.SIGTERM  # exit status of a training that was asked to stop
DISK_FAILED = os.EX_IOERR  # exit status of a training that could not read or write


class StoppingError(Exception):
    """The worker is asked to stop."""


class TimedOutError(Exception):
    """The job has used up its run time."""


class StalledError(Exception):
    """The process has been silent for too long; the text says for how long."""


class KilledError(Exception):
    """A signal ended the process; the text names it."""


class TrainingFailedError(Exception):
    """The process failed; the text is its last line of output."""


class Monitor:
    """Runs the processes of one attempt while it keeps the job's lease."""

    def __init__(
        self,
        lease: Lease,
        recorder: Recorder,
        stop: threading.Event,
        *,
        max_runtime_s: float,
        max_silence_s: float,
    ) -> None:
        self.log: Sequence[str] = ()  # the last lines of the last process
        self._lease = lease
        self._recorder = recorder
        self._stop = stop
        self._max_runtime_s = max_runtime_s
        self._max_silence_s = max_silence_s

    def run(
        self,
        arguments: Sequence[str],
        folder: Path,
        budget: Budget,
        command: Sequence[str],
    ) -> list[dict[str, Any]]:
        """Run a training process to its end, and return its `metrics` events.

        Raises `CancelledError`, `StoppingError`, `TimedOutError`, `StalledError`, `LostJobError`,
        `KilledError`, `DiskError`, `TrainingFailedError`; the process has ended by then.
        """
        threads = (self._recorder.progress or {}).get("threads") or budget.threads
        budget = Budget(threads, budget.memory_mb, budget.nice)
        process = TrainingProcess(arguments, folder, budget, command)
        results: list[dict[str, Any]] = []
        silent_s, polled_at = 0.0, time.monotonic()
        try:
            while (exit_code := process.poll()) is None:
                events = process.events(POLL_S)
                for event in events:
                    self._recorder.record(event, threads)
                    if event["event"] == "metrics" and len(results) < MAX_RESULTS:
                        results.append(event)
                now = time.monotonic()
                silent_s = 0.0 if events else silent_s + min(now - polled_at, MAX_POLL_S)
                polled_at = now
                self._check_limits(silent_s)
                self._renew_if_due()
        finally:
            self.log = list(process.log)
            process.close()
        self._lease.persist(self._renew)
        self._check_exit(exit_code)
        return results

    def _check_limits(self, silent_s: float) -> None:
        if self._stop.is_set():
            raise StoppingError
        if self._lease.runtime_s > self._max_runtime_s:
            raise TimedOutError
        if silent_s > self._max_silence_s:
            raise StalledError(f"no output for {self._max_silence_s:g} s")

    def _check_exit(self, exit_code: int) -> None:
        if exit_code != 0 and self._stop.is_set():
            raise StoppingError
        if exit_code < 0:
            raise KilledError(signal.Signals(-exit_code).name)
        if exit_code == TERMINATED:
            raise KilledError("SIGTERM")
        reason = _last_line(self.log) or f"exit status {exit_code}"
        if exit_code == DISK_FAILED:
            raise DiskError(f"the training could not read or write: {reason}")
        if exit_code > 0:
            raise TrainingFailedError(reason)

    def _renew_if_due(self) -> None:
        recorder = self._recorder
        if self._lease.is_due and self._lease.try_renew(recorder.progress, recorder.pending):
            recorder.clear()

    def _renew(self) -> None:
        self._lease.renew(self._recorder.progress, self._recorder.pending)
        self._recorder.clear()


def _last_line(lines: Sequence[str]) -> str | None:
    """The last line that is not blank: the reason that a training gives."""
    texts = [line.strip() for line in lines if line.strip()]
    return texts[-1].removeprefix("Error: ") if texts else None
