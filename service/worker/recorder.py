"""The events of a training process, checked and counted before they are stored."""

import logging
from collections import Counter
from typing import Any

from pydantic import ValidationError

from perceptd.service.jobs.events import Event
from perceptd.service.jobs.queue import Job
from perceptd.service.jobs.schemas import DRAWN, JobProgress
from perceptd.service.worker.process import LOG_CHARACTERS

# Of each kind, per attempt. The trainings of this project stay below.
MAX_EVENTS = {"log": 1000, "epoch": 1000, "plane": 1, "boundary": 100}
MAX_WARNINGS = 50  # about invalid events

log = logging.getLogger("perceptd.worker")


class Recorder:
    """Collects the events of one attempt until a heartbeat has stored them."""

    def __init__(self, job: Job) -> None:
        self.progress = job.progress  # of the newest epoch
        self.pending: list[Event] = []  # since the last heartbeat
        self._job = job
        self._counts: Counter[str] = Counter()

    def record(self, event: dict[str, Any], threads: int) -> None:
        """Keep a valid event of a public kind; log an invalid one.

        `threads` is stored with the progress: a resumed training needs the same number to get the
        same sums.
        """
        kind = event["event"]
        try:
            if kind == "log":
                self._keep(kind, {"line": str(event.get("line", ""))[:LOG_CHARACTERS]})
            elif kind == "epoch":
                self._record_epoch(JobProgress.model_validate(event), threads)
            elif schema := DRAWN.get(kind):
                self._keep(kind, schema.model_validate(event).model_dump())
        except ValidationError:
            self._counts["invalid"] += 1
            if self._counts["invalid"] <= MAX_WARNINGS:
                shown = str(event)[:LOG_CHARACTERS]
                log.warning("job %d: invalid event: %s", self._job.id, shown)

    def clear(self) -> None:
        """Forget the pending events, once they are stored."""
        self.pending = []

    def _record_epoch(self, progress: JobProgress, threads: int) -> None:
        """Keep an epoch, unless a resumed training repeats it."""
        if progress.epoch > (self.progress or {}).get("epoch", 0):
            self.progress = {**progress.model_dump(), "threads": threads}
            self._keep("epoch", progress.model_dump())

    def _keep(self, kind: str, data: dict[str, Any]) -> None:
        self._counts[kind] += 1
        if self._counts[kind] <= MAX_EVENTS[kind]:
            self.pending.append(Event(kind, data))
