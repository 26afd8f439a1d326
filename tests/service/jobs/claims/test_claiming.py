"""Who gets a job: turns, models, races, and jobs whose worker was lost."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from sqlalchemy import Engine

from perceptd.service.jobs.claims import Claims
from perceptd.service.jobs.queue import HELD, Job, Jobs
from tests.service.jobs.claims.conftest import expire, fail, set_lease, statuses, submit
from tests.service.jobs.playing import LEASE_S, claimed, claims_of

pytestmark = pytest.mark.database


def test_nothing_is_claimed_without_a_queued_job(jobs: Jobs, one: Claims) -> None:
    assert one.claim() is None
    jobs.cancel(submit(jobs).id)
    assert one.claim() is None


def test_a_claimed_job_names_its_worker_and_the_end_of_its_lease(
    jobs: Jobs, job: Job, two: Claims
) -> None:
    assert (job.status, job.worker, job.attempts) == ("running", "one", 1)
    assert job.started_at
    assert job.lease_until == job.started_at + timedelta(seconds=LEASE_S)
    assert statuses(jobs, job) == ["queued", "running"]
    assert two.claim() is None
    assert jobs.get(job.id) == job


def test_models_take_turns_and_each_is_first_come_first_served(jobs: Jobs, one: Claims) -> None:
    for model in ("dnn", "dnn", "dnn", "xor", "xor", "perceptron"):
        submit(jobs, model)
    order = []
    while job := one.claim():
        order.append((job.model, job.id))
        fail(one, job)
    assert order == [
        ("dnn", 1),
        ("xor", 4),
        ("perceptron", 6),
        ("dnn", 2),
        ("xor", 5),
        ("dnn", 3),
    ]


def test_a_running_job_blocks_only_jobs_of_its_model(jobs: Jobs, one: Claims, two: Claims) -> None:
    for model in ("dnn", "dnn", "xor"):
        submit(jobs, model)
    first, second = claimed(one), claimed(two)
    assert (first.model, second.model) == ("dnn", "xor")
    assert one.claim() is None

    fail(two, second)
    submit(jobs, "xor")
    third = claimed(two)
    assert third.model == "xor"
    fail(two, third)

    jobs.cancel(first.id)
    assert one.claim() is None, "a job in state cancelling still runs"
    one.abort(first)
    assert claimed(one).id == 2


def test_workers_that_claim_at_once_never_run_two_jobs_of_one_model(
    jobs: Jobs, database: Engine, race: Callable[[], list[Job]]
) -> None:
    for _ in range(12):
        for model in ("dnn", "xor", "dnn", "xor"):
            submit(jobs, model)
        won = race()
        running = [job for job in jobs.unfinished() if job.status in HELD]
        assert sorted(job.id for job in won) == sorted(job.id for job in running)
        assert won
        assert len({job.model for job in won}) == len(won)
        for job in won:
            assert statuses(jobs, job) == ["queued", "running"]
            jobs.cancel(job.id)
            claims_of(database, job.worker or "").abort(job)


def test_a_stalled_job_is_resumed_by_another_worker(
    jobs: Jobs, job: Job, one: Claims, two: Claims, database: Engine
) -> None:
    one.heartbeat(job, runtime_s=4.5, progress={"epoch": 3})
    expire(database)

    resumed = claimed(two)

    assert (resumed.id, resumed.worker, resumed.attempts) == (job.id, "two", 2)
    assert (resumed.started_at, resumed.runtime_s) == (job.started_at, 4.5)
    assert (resumed.progress, resumed.reason) == ({"epoch": 3}, None)
    assert statuses(jobs, job) == ["queued", "running", "queued", "running"]
    assert jobs.events(job.id)[-2].data["reason"] == "its worker was lost"


@pytest.mark.parametrize(("hours", "attempts"), [(1.9, 1), (24, 2)])
def test_a_lease_beyond_the_maximum_counts_as_expired(
    jobs: Jobs, database: Engine, job: Job, two: Claims, hours: float, attempts: int
) -> None:
    """As after the clock was set back."""
    set_lease(database, timedelta(hours=hours))
    two.claim()
    assert jobs.get(job.id).attempts == attempts


def test_a_job_that_stalls_in_each_attempt_fails(
    jobs: Jobs, one: Claims, two: Claims, database: Engine
) -> None:
    submit(jobs)
    waiting = submit(jobs)
    for _ in range(3):
        claimed(one)
        expire(database)

    following = claimed(two)

    failed = jobs.get(1)
    assert (failed.status, failed.code, failed.attempts) == ("failed", "worker_lost", 3)
    assert failed.reason == "its worker was lost, in each of 3 attempts"
    assert (failed.lease_until, failed.finished_at is None) == (None, False)
    assert statuses(jobs, failed)[-2:] == ["running", "failed"]
    assert following.id == waiting.id


def test_a_stalled_job_in_state_cancelling_is_cancelled(
    jobs: Jobs, job: Job, two: Claims, database: Engine
) -> None:
    jobs.cancel(job.id)
    expire(database)
    assert two.claim() is None
    assert jobs.get(job.id).reason == "cancelled while its worker was lost"
    assert statuses(jobs, job) == ["queued", "running", "cancelling", "cancelled"]


def test_workers_that_claim_at_once_release_a_stalled_job_once(
    jobs: Jobs, job: Job, database: Engine, race: Callable[[], list[Job]]
) -> None:
    for attempts in range(1, 11):
        before = jobs.get(job.id)
        assert before.attempts == attempts
        expire(database)
        # On PostgreSQL the second worker may find the job locked. It takes it with its next claim.
        won = race() or [claimed(claims_of(database, "late", max_attempts=100))]
        assert len(won) == 1
        assert jobs.get(job.id).events == before.events + 2
    assert len(statuses(jobs, job)) == 22
