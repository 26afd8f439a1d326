"""What an attempt does with its checkpoint: register it, let the gate decide, promote it.

Each write is one transaction that also checks that the worker still holds the job.
"""

import logging
from dataclasses import dataclass
from pathlib import Path

from perceptd.models import checkpoint
from perceptd.service.jobs.claims import Claims
from perceptd.service.jobs.queue import Job, Jobs
from perceptd.service.jobs.schemas import Reproduction
from perceptd.service.store.aliases import PRODUCTION
from perceptd.service.store.repository import Repository
from perceptd.service.worker.judging import Decision, Judge
from perceptd.service.worker.lease import Lease

log = logging.getLogger("perceptd.worker")


@dataclass(frozen=True)
class Publisher:
    """Publishes the version of one job."""

    job: Job
    jobs: Jobs
    claims: Claims
    repository: Repository
    lease: Lease

    def register(self, made: Path) -> int:
        """Register a checkpoint as the job's version, once over all attempts."""

        def write() -> int:
            with self.claims.holding(self.job) as connection:
                _, version = self.repository.register(
                    made, self.job.model, first_serves=False, job=self.job.id, within=connection
                )
                self.claims.set_version(self.job, version, connection)
                return version

        return self.lease.persist(write)

    def publish(self, version: int, judge: Judge) -> None:
        """Judge a version, promote it or not, and end the job.

        If production has changed in the meantime, the version is judged again.
        """
        while not self.end(version, judge.decide(version, self._production())):
            log.info("job %d: production changed while its version was judged", self.job.id)

    def end(self, version: int, decision: Decision) -> bool:
        """Act on a decision and end the job; False if production has changed since."""

        def write() -> bool:
            with self.claims.holding(self.job) as connection:
                production = self.repository.production(connection).get(self.job.model)
                if production != decision.production:
                    return False
                if decision.promotion == "promoted":
                    self.repository.point(self.job.model, PRODUCTION, version, within=connection)
                gate = decision.verdict.model_dump(mode="json") if decision.verdict else None
                self.claims.succeed(
                    self.job, decision.promotion, decision.reason, connection, gate=gate
                )
                return True

        return self.lease.persist(write)

    def compare(self, made: Path, original: int) -> None:
        """End a reproduction with the answer whether its weights equal the original's."""
        meta = checkpoint.read(made)
        job = self.jobs.get(original)
        assert job.version is not None  # noqa: S101 - a reproduction needs one to be queued
        expected = self.repository.version(job.model, job.version).meta
        same = meta.weights_sha256 == expected.weights_sha256
        same_data = meta.dataset == expected.dataset
        reproduction = Reproduction(
            of=original,
            same=same,
            sha256=meta.weights_sha256,
            expected_sha256=expected.weights_sha256,
            same_data=same_data,
        )
        differ = "the weights differ" if same_data else "the weights differ, and so do the data"
        reason = "the weights are the same" if same else differ

        def write() -> None:
            with self.claims.holding(self.job) as connection:
                self.claims.succeed(
                    self.job,
                    "skipped",
                    reason,
                    connection,
                    reproduction=reproduction.model_dump(mode="json"),
                )

        self.lease.persist(write)

    def _production(self) -> int | None:
        return self.lease.persist(self.repository.production).get(self.job.model)
