"""One attempt at a job: make a checkpoint, register it, let the gate decide, promote it or not.

Each step leaves its result where the next attempt finds it, so that a job whose worker dies is
resumed: from the last epoch of its training, the finished checkpoint, or the registered version.
"""

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from perceptd.models import tracing
from perceptd.models.checkpoint import CheckpointError
from perceptd.service.errors import PerceptdError, StoreError
from perceptd.service.jobs.claims import CancelledError, Claims, LostJobError
from perceptd.service.jobs.plans import TrainPlan, plan_of
from perceptd.service.jobs.queue import Job, Jobs
from perceptd.service.jobs.uploads import JOBS
from perceptd.service.settings import Settings
from perceptd.service.store import db
from perceptd.service.store.feedback import Feedback
from perceptd.service.store.repository import Repository
from perceptd.service.worker.arguments import Arguments
from perceptd.service.worker.judging import Judge
from perceptd.service.worker.lease import Lease
from perceptd.service.worker.making import CheckpointMaker
from perceptd.service.worker.monitor import (
    KilledError,
    Monitor,
    StalledError,
    StoppingError,
    TimedOutError,
    TrainingFailedError,
)
from perceptd.service.worker.process import Budget
from perceptd.service.worker.publishing import Publisher
from perceptd.service.worker.recorder import Recorder

log = logging.getLogger("perceptd.worker")


@dataclass(frozen=True)
class WorkerContext:
    """What every attempt of a worker uses."""

    settings: Settings
    repository: Repository
    jobs: Jobs
    claims: Claims
    feedback: Feedback
    budget: Budget
    stop: threading.Event
    command: Sequence[str]  # that starts `perceptd`


class Attempt:
    """`claimed_at` is a time of `time.monotonic`, taken before the job was claimed."""

    def __init__(self, job: Job, context: WorkerContext, claimed_at: float) -> None:
        self.job = job
        self.plan = plan_of(job)
        self._context = context
        data_dir = context.settings.data_dir.resolve()
        self._folder = data_dir / JOBS / str(job.id) / str(job.attempts)
        self._arguments = Arguments(
            job.model,
            self.plan,
            self._folder,
            context.repository,
            context.feedback,
            context.settings,
        )
        self._lease = Lease(job, context.claims, context.stop, claimed_at)
        self._monitor = Monitor(
            self._lease,
            Recorder(job),
            context.stop,
            max_runtime_s=self.plan.max_runtime_s,
            max_silence_s=context.settings.max_silence_s,
        )

    def run(self) -> None:
        """Do the job, and end it or hand it back. Errors become the job's reason."""
        job, claims = self.job, self._context.claims
        try:
            self._work()
        except CancelledError:
            self._settle(lambda: claims.abort(job))
        except StoppingError:
            self._settle(lambda: claims.hand_back(job, "its worker was stopped", counts=False))
        except KilledError as error:
            self._try_again("training_killed", f"its training was killed by {error}")
        except StalledError as error:
            self._try_again("training_stalled", f"its training stalled: {error}")
        except TimedOutError:
            self._fail(
                "max_runtime_exceeded", f"it ran for more than {self.plan.max_runtime_s:g} s"
            )
        except TrainingFailedError as error:
            self._fail("training_failed", str(error))
        except LostJobError as error:
            log.warning("job %d: %s", job.id, error)
        except StoreError as error:
            self._try_again("store_unavailable", str(error))
        except (PerceptdError, CheckpointError) as error:
            self._fail("registration_failed", str(error))
        except Exception as error:  # must not end the worker
            log.exception("job %d: unexpected error", job.id)
            self._fail("worker_error", f"{type(error).__name__}: {error}")

    def _work(self) -> None:
        context, plan, version = self._context, self.plan, self.job.version
        with db.store_errors():
            self._folder.mkdir(parents=True, exist_ok=True)
        publisher = Publisher(
            self.job, context.jobs, context.claims, context.repository, self._lease
        )
        if version is None:
            made = CheckpointMaker(plan, self._folder, self._arguments, self._run).make()
            if isinstance(plan, TrainPlan) and plan.reproduces:
                publisher.compare(made, plan.reproduces)
                return
            version = publisher.register(made)
        judge = Judge(
            self.job.model,
            plan,
            context.repository,
            context.settings,
            lambda versions: self._run(self._arguments.evaluation(versions)),
        )
        publisher.publish(version, judge)

    def _run(self, arguments: Sequence[str]) -> list[dict[str, Any]]:
        default = self._context.budget
        threads = self.plan.threads if isinstance(self.plan, TrainPlan) else None
        budget = Budget(threads or default.threads, default.memory_mb, default.nice)
        return self._monitor.run(arguments, self._folder, budget, self._context.command)

    def _try_again(self, code: str, reason: str) -> None:
        """Hand the job back for another attempt, or fail it after the last one."""
        claims = self._context.claims
        if self.job.attempts >= claims.max_attempts:
            self._fail(code, f"{reason}, in each of {self.job.attempts} attempts")
        else:
            self._settle(lambda: claims.hand_back(self.job, reason, counts=True))

    def _fail(self, code: str, reason: str) -> None:
        log.warning("job %d failed: %s", self.job.id, reason)
        tracing.failed(code)
        self._settle(lambda: self._context.claims.fail(self.job, code, reason, self._monitor.log))

    def _settle(self, write: Callable[[], None]) -> None:
        try:
            self._lease.persist(write)
        except LostJobError as error:
            log.warning("job %d: %s", self.job.id, error)
