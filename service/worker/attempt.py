"""One attempt at a job: make a checkpoint -> register it -> the gate -> promote it, or not.

Each step leaves what it did where the next attempt finds it, so that a job whose worker dies goes
on from there: the training's last epoch, the finished checkpoint, the registered version. What
changes the store does so in the one transaction that checks that the job is still this worker's.
"""

import logging
import shutil
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perceptd.models import checkpoint, tracing
from perceptd.models.checkpoint import CheckpointError
from perceptd.service.errors import PerceptdError, StoreError
from perceptd.service.jobs.claims import CancelledError, Claims, LostJobError
from perceptd.service.jobs.plans import TrainPlan, plan_of
from perceptd.service.jobs.queue import Job, Jobs
from perceptd.service.jobs.schemas import Reproduction
from perceptd.service.jobs.uploads import JOBS
from perceptd.service.settings import Settings
from perceptd.service.store import db
from perceptd.service.store.aliases import PRODUCTION
from perceptd.service.store.feedback import Feedback
from perceptd.service.store.repository import Repository
from perceptd.service.worker.arguments import CHECKPOINT, Arguments
from perceptd.service.worker.judging import Decision, Judge
from perceptd.service.worker.process import Budget
from perceptd.service.worker.watch import (
    KilledError,
    StalledError,
    StoppingError,
    TimedOutError,
    TrainingFailedError,
    Watch,
)

STATE = f".{CHECKPOINT}.state"  # where a training keeps what it needs to go on

log = logging.getLogger("perceptd.worker")


@dataclass(frozen=True)
class WorkerContext:
    """What an attempt works with."""

    settings: Settings
    repository: Repository
    jobs: Jobs
    claims: Claims
    feedback: Feedback
    budget: Budget
    stop: threading.Event
    command: Sequence[str]  # that starts `perceptd`


class Attempt:
    def __init__(self, job: Job, tools: WorkerContext, claimed_at: float) -> None:
        self.job = job
        self.plan = plan_of(job)
        self.tools = tools
        self.folder = tools.settings.data_dir.resolve() / JOBS / str(job.id) / str(job.attempts)
        self._arguments = Arguments(
            job.model, self.plan, self.folder, tools.repository, tools.feedback, tools.settings
        )
        self._watch = Watch(
            job,
            tools.claims,
            tools.stop,
            max_runtime_s=self.plan.max_runtime_s,
            max_silence_s=tools.settings.max_silence_s,
            claimed_at=claimed_at,
        )

    def run(self) -> None:
        """Do the job to its end, or hand it back. Raises nothing that the job can be told of."""
        job, claims = self.job, self.tools.claims
        try:
            self._work()
        except CancelledError:
            self._settle(lambda: claims.cancelled(job))
        except StoppingError:
            self._settle(lambda: claims.hand_back(job, "its worker was asked to end", counts=False))
        except KilledError as error:
            self._try_again("training_killed", f"its training was ended by {error}")
        except StalledError as error:
            self._try_again("training_stalled", f"its training hung: {error}")
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
        except Exception as error:  # one job must not end the worker
            log.exception("job %d broke something here", job.id)
            self._fail("worker_error", f"{type(error).__name__}: {error}")

    def _work(self) -> None:
        version = self.job.version
        with db.store_errors():
            self.folder.mkdir(parents=True, exist_ok=True)
        if version is None:
            made = self._checked(self._made() or self._make())
            if isinstance(self.plan, TrainPlan) and self.plan.reproduces:
                self._compare_weights(made, self.plan.reproduces)
                return
            version = self._register(made)
        self._decide(version)

    def _made(self) -> Path | None:
        """The checkpoint that an earlier attempt finished and did not come to register."""
        for folder in sorted(self.folder.parent.glob(f"*/{CHECKPOINT}")):
            try:
                checkpoint.read(folder)
            except CheckpointError:
                continue
            return folder
        return None

    def _make(self) -> Path:
        plan, made = self.plan, self.folder / CHECKPOINT
        if isinstance(plan, TrainPlan):
            self._take_over_state()
            self._run(self._arguments.training(plan))
        else:
            weights = f"weights{plan.suffix}"
            with db.store_errors():
                shutil.copyfile(self.folder.parents[1] / plan.upload, self.folder / weights)
            self._run(self._arguments.importing(plan, weights))
        return made

    def _checked(self, made: Path) -> Path:
        """That checkpoint. Raises `CheckpointError` where it is none, or of another network."""
        if not made.exists():
            raise CheckpointError("its training ended well and left no checkpoint")
        try:
            meta = checkpoint.read(made)
        except CheckpointError as error:  # told to callers, whom folders do not concern
            raise CheckpointError(str(error).replace(f"{made}: ", "")) from error
        if meta.architecture != (planned := self.plan.architecture):
            raise CheckpointError(f"its training made a {meta.architecture}, not a {planned}")
        return made

    def _take_over_state(self) -> None:
        """Begin with the newest state that an earlier attempt saved."""
        states = [path for path in self.folder.parent.glob(f"*/{STATE}") if path.is_file()]
        # By attempts, each of which went on from the one before: a clock may be set back.
        newest = max(states, key=lambda path: int(path.parent.name), default=None)
        if newest and newest.parent != self.folder:
            unfinished = self.folder / f"{STATE}-unfinished"
            with db.store_errors():
                shutil.copyfile(newest, unfinished)
                unfinished.replace(self.folder / STATE)

    def _register(self, made: Path) -> int:
        def register() -> int:
            with self.tools.claims.holding(self.job) as connection:
                _, version = self.tools.repository.register(
                    made, self.job.model, first_serves=False, job=self.job.id, within=connection
                )
                self.tools.claims.registered(self.job, version, connection)
                return version

        return self._watch.persist(register)

    def _decide(self, version: int) -> None:
        """Judge a version and act on it; again, where production changed in the meantime."""
        judge = Judge(
            self.job.model,
            self.plan,
            self.tools.repository,
            self.tools.settings,
            lambda versions: self._run(self._arguments.evaluation(versions)),
        )
        production = self._production()
        while not self._act(version, judge.decide(version, production)):
            production = self._production()
            log.info("job %d: production changed while it was judged", self.job.id)

    def _production(self) -> int | None:
        return self._watch.persist(self.tools.repository.production).get(self.job.model)

    def _act(self, version: int, decision: Decision) -> bool:
        """Promote or refuse, and end the job, all at once; False where production has changed."""
        repository, claims, job = self.tools.repository, self.tools.claims, self.job

        def act() -> bool:
            with claims.holding(job) as connection:
                if repository.production(connection).get(job.model) != decision.production:
                    return False
                if decision.promotion == "promoted":
                    repository.point(job.model, PRODUCTION, version, within=connection)
                gate = decision.verdict.model_dump(mode="json") if decision.verdict else None
                claims.succeed(job, decision.promotion, decision.reason, connection, gate=gate)
                return True

        return self._watch.persist(act)

    def _compare_weights(self, made: Path, original: int) -> None:
        """Say whether a training that was done again gave the same weights."""
        meta = checkpoint.read(made)
        job = self.tools.jobs.get(original)
        assert job.version is not None  # noqa: S101 - or the reproduction would not be queued
        expected = self.tools.repository.version(job.model, job.version).meta
        same = meta.weights_sha256 == expected.weights_sha256
        same_data = meta.dataset == expected.dataset
        reproduction = Reproduction(
            of=original,
            same=same,
            sha256=meta.weights_sha256,
            expected_sha256=expected.weights_sha256,
            same_data=same_data,
        )
        because = "" if same_data else ", and so do the data"
        reason = "the weights are the same" if same else f"the weights differ{because}"

        def end() -> None:
            with self.tools.claims.holding(self.job) as connection:
                self.tools.claims.succeed(
                    self.job,
                    "skipped",
                    reason,
                    connection,
                    reproduction=reproduction.model_dump(mode="json"),
                )

        self._watch.persist(end)

    def _run(self, arguments: Sequence[str]) -> list[dict[str, Any]]:
        given = self.tools.budget
        planned = self.plan.threads if isinstance(self.plan, TrainPlan) else None
        budget = Budget(planned or given.threads, given.memory_mb, given.nice)
        return self._watch.run(arguments, self.folder, budget, self.tools.command)

    def _try_again(self, code: str, reason: str) -> None:
        """Hand the job back for another attempt, or fail it after the last."""
        if self.job.attempts >= self.tools.claims.max_attempts:
            self._fail(code, f"{reason}, in each of {self.job.attempts} attempts")
        else:
            claims = self.tools.claims
            self._settle(lambda: claims.hand_back(self.job, reason, counts=True))

    def _fail(self, code: str, reason: str) -> None:
        log.warning("job %d failed: %s", self.job.id, reason)
        tracing.failed(code)
        self._settle(lambda: self.tools.claims.fail(self.job, code, reason, self._watch.log))

    def _settle(self, write: Callable[[], None]) -> None:
        try:
            self._watch.persist(write)
        except LostJobError as error:
            log.warning("job %d: %s", self.job.id, error)
