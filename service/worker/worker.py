"""The process that claims and runs jobs, one after another. It does not import torch."""

import logging
import os
import shutil
import socket
import threading
import time
from collections.abc import Sequence
from uuid import uuid4

from pydantic import ValidationError
from sqlalchemy import Engine

from perceptd.models import tracing, trainable
from perceptd.models.trainable import Trainable
from perceptd.service import logging as logs
from perceptd.service.errors import JobNotFoundError, StoreError
from perceptd.service.jobs.claims import Claims
from perceptd.service.jobs.queue import Job, Jobs
from perceptd.service.jobs.trainables import Trainables
from perceptd.service.jobs.uploads import JOBS, Uploads
from perceptd.service.settings import Settings
from perceptd.service.store.feedback import Feedback
from perceptd.service.store.repository import Repository
from perceptd.service.worker.attempt import Attempt, WorkerContext
from perceptd.service.worker.process import (
    TRAINING,
    Budget,
    TrainingProcess,
    cores,
    machine_memory_mb,
)

POLL_S = 0.5  # between claims while there is no job
RETRY_S = 5.0  # between attempts to store what can be trained
TIDY_S = 60.0  # between clean-ups after killed processes
DESCRIBE_S = 300.0  # for a training process to describe what can be trained
MEMORY_SHARE = 0.75  # of the machine's memory, for a training by default

log = logging.getLogger("perceptd.worker")


class Worker:
    def __init__(
        self,
        database: Engine,
        settings: Settings,
        stop: threading.Event,
        command: Sequence[str] = TRAINING,
    ) -> None:
        name = f"{socket.gethostname()}:{os.getpid()}:{uuid4().hex[:8]}"
        jobs = Jobs(database)
        self._stop = stop
        self._folder = settings.data_dir.resolve() / JOBS
        self._trainables = Trainables(database)
        self._uploads = Uploads(self._folder, jobs)
        self._context = WorkerContext(
            settings=settings,
            repository=Repository(database, settings.data_dir),
            jobs=jobs,
            claims=Claims(database, name, settings.lease_s, settings.max_attempts),
            feedback=Feedback(database),
            budget=budget_of(settings),
            stop=stop,
            command=command,
        )

    def run(self) -> None:
        """Run jobs until `stop` is set; a job that runs then is handed back."""
        self._folder.mkdir(parents=True, exist_ok=True)
        describing = threading.Thread(target=self.describe)
        describing.start()
        log.info("worker %s takes jobs", self._context.claims.worker)
        away, tidied_at = False, float("-inf")
        while not self._stop.is_set():
            try:
                if time.monotonic() - tidied_at > TIDY_S:
                    self.tidy()
                    tidied_at = time.monotonic()
                idle = not self.work()
                away = False
            except StoreError as error:
                if not away:
                    log.warning("no jobs while the store is away: %s", error)
                idle = away = True
            except Exception:  # must not end the worker
                log.exception("unexpected error")
                idle = True
            if idle:
                self._stop.wait(POLL_S)
        describing.join()

    def work(self) -> bool:
        """Run the next job; False without one."""
        claimed_at = time.monotonic()
        job = self._context.claims.claim()
        if job is None:
            return False
        facts = {"model": job.model, "attempt": job.attempts}
        with (
            logs.about(job=job.id, **facts),
            tracing.span("job", job.traceparent, job=job.id, kind=job.kind, **facts),
        ):
            self._attempt(job, claimed_at)
        return True

    def _attempt(self, job: Job, claimed_at: float) -> None:
        log.info("job %d: %s of %s, attempt %d", job.id, job.kind, job.model, job.attempts)
        try:
            attempt = Attempt(job, self._context, claimed_at)
        except ValidationError as error:
            self._context.claims.fail(job, "plan_unreadable", f"its plan cannot be read: {error}")
        else:
            attempt.run()
        self._remove_if_ended(job.id)

    def describe(self) -> None:
        """Store what can be trained here, for the servers."""
        try:
            known = self._described() if trainable.has_plug_ins() else trainable.shipped()
        except ValueError as error:
            log.error("cannot describe what can be trained here: %s", error)
            return
        while not self._stop.is_set():
            try:
                self._trainables.write(known)
                return
            except StoreError:  # `run` logs it
                self._stop.wait(RETRY_S)

    def _described(self) -> list[Trainable]:
        """The description by a training process, with plug-ins; empty if the worker is stopped.

        Raises `ValueError` if the process fails.
        """
        process = TrainingProcess(
            ["describe"], self._folder, self._context.budget, self._context.command
        )
        lines: list[str] = []
        deadline = time.monotonic() + DESCRIBE_S
        try:
            while (exit_code := process.poll()) is None and time.monotonic() < deadline:
                events = process.events(POLL_S)
                lines += [event["line"] for event in events if event.get("stream") == "out"]
                if self._stop.is_set():
                    return []
            if exit_code != 0:
                raise ValueError("; ".join(process.log) or f"exit status {exit_code}")
            return trainable.parse("\n".join(lines))
        finally:
            process.close()

    def tidy(self) -> None:
        """Remove the files of killed processes."""
        for folder in self._folder.glob("[0-9]*"):
            if folder.name.isdecimal():
                self._remove_if_ended(int(folder.name))
        self._uploads.tidy()
        self._context.repository.tidy()

    def _remove_if_ended(self, job: int) -> None:
        try:
            ended = self._context.jobs.get(job).ended
        except JobNotFoundError:
            return
        if ended:
            shutil.rmtree(self._folder / str(job), ignore_errors=True)


def budget_of(settings: Settings) -> Budget:
    """The share of this machine that a training may use."""
    return Budget(
        threads=settings.train_threads or max(1, cores() - 1),
        memory_mb=settings.train_memory_mb or int(machine_memory_mb() * MEMORY_SHARE),
        nice=settings.train_nice,
    )
