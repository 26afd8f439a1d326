"""What a worker does with a job, for tests that play the worker."""

from typing import Any

from sqlalchemy import Engine

from perceptd.service.jobs.claims import Claims
from perceptd.service.jobs.queue import Job, Promotion
from perceptd.service.jobs.schemas import JOB_EXAMPLE

EPOCH: dict[str, Any] = {
    "epoch": 1,
    "epochs": 3,
    "loss": 0.5,
    "test_loss": 0.6,
    "test_accuracy": 0.7,
    "seconds": 0.1,
    "seconds_left": 0.2,
}
VERDICT: dict[str, Any] = JOB_EXAMPLE["gate"]
LEASE_S = 600


def claims_of(database: Engine, worker: str = "a worker", max_attempts: int = 3) -> Claims:
    return Claims(database, worker, LEASE_S, max_attempts)


def claimed(claims: Claims) -> Job:
    """The job that this worker claims next; there must be one."""
    job = claims.claim()
    assert job
    return job


def succeed(claims: Claims, job: Job, promotion: Promotion = "promoted") -> None:
    """End a job as its worker does, with `VERDICT` as the result of its gate."""
    with claims.holding(job) as connection:
        claims.succeed(job, promotion, VERDICT["reason"], connection, gate=VERDICT)
