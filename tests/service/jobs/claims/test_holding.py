"""What the worker of a job may write, and what a worker that lost it may not."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
from sqlalchemy import Engine

from perceptd.service.errors import ConflictError
from perceptd.service.jobs.claims import CancelledError, Claims, LostJobError
from perceptd.service.jobs.queue import Job, Jobs
from perceptd.service.settings import Settings
from perceptd.service.store import db
from perceptd.service.store.aliases import PRODUCTION
from perceptd.service.store.repository import Repository
from tests.service.jobs.claims.conftest import DNN, expire, fail, hand_back, heartbeat, statuses
from tests.service.jobs.playing import VERDICT, claimed, claims_of, succeed

pytestmark = pytest.mark.database


class DiedError(Exception):
    """The worker dies within a transaction."""


def requeue(jobs: Jobs, database: Engine) -> None:
    claims = claims_of(database, "three")
    claims.hand_back(claimed(claims), "its worker was stopped", counts=False)


def claim_by_another(jobs: Jobs, database: Engine) -> None:
    claimed(claims_of(database, "two"))


def claim_by_the_same(jobs: Jobs, database: Engine) -> None:
    claimed(claims_of(database, "one"))


def cancel(jobs: Jobs, database: Engine) -> None:
    jobs.cancel(1)
    assert claims_of(database, "two").claim() is None


@pytest.mark.parametrize("lose", [requeue, claim_by_another, claim_by_the_same, cancel])
def test_a_worker_that_lost_its_job_writes_nothing(
    jobs: Jobs, job: Job, one: Claims, database: Engine, lose: Callable[[Jobs, Engine], None]
) -> None:
    expire(database)
    lose(jobs, database)
    before, events = jobs.get(job.id), jobs.events(job.id)
    for write in (heartbeat, fail, Claims.abort, hand_back, succeed):
        with pytest.raises(LostJobError, match="job 1 is no longer held by one"):
            write(one, job)
    assert (jobs.get(job.id), jobs.events(job.id)) == (before, events)


def test_a_worker_holds_a_job_after_its_lease_until_another_claims_it(
    jobs: Jobs, job: Job, one: Claims, database: Engine
) -> None:
    expire(database)
    succeed(one, job)
    assert jobs.get(job.id).status == "succeeded"


def test_success_and_promotion_are_one_transaction(
    jobs: Jobs, job: Job, one: Claims, repository: Repository
) -> None:
    heartbeat(one, job)
    before, events = jobs.get(job.id), jobs.events(job.id)
    with suppress(DiedError), one.holding(job) as connection:
        repository.point("dnn", PRODUCTION, 2, within=connection)
        one.succeed(job, "promoted", "it is better", connection, gate=VERDICT)
        raise DiedError
    assert repository.version("dnn", 1).aliases == (PRODUCTION,)
    assert (jobs.get(job.id), jobs.events(job.id)) == (before, events)

    with one.holding(job) as connection:
        repository.point("dnn", PRODUCTION, 2, within=connection)
        one.succeed(job, "promoted", "it is better", connection, gate=VERDICT)
    assert repository.production()["dnn"] == 2
    ended = jobs.get(job.id)
    assert (ended.status, ended.promotion) == ("succeeded", "promoted")
    assert (ended.reason, ended.gate, ended.lease_until) == ("it is better", VERDICT, None)
    assert ended.finished_at
    assert statuses(jobs, job)[-1] == "succeeded"
    *_, gate, last = jobs.events(job.id)
    assert (gate.kind, gate.data) == ("gate", {"promotion": "promoted", **VERDICT})
    assert last.data == {
        "status": "succeeded",
        "attempts": 1,
        "promotion": "promoted",
        "reason": "it is better",
    }


def test_a_version_and_the_job_that_names_it_are_one_transaction(
    jobs: Jobs, job: Job, one: Claims, repository: Repository
) -> None:
    with suppress(DiedError), one.holding(job) as connection:
        _, version = repository.register(DNN, "dnn", job=job.id, within=connection)
        one.set_version(job, version, connection)
        raise DiedError
    assert [version.version for version in repository.versions("dnn")] == [2, 1]
    assert jobs.get(job.id).version is None

    with one.holding(job) as connection:
        _, version = repository.register(DNN, "dnn", job=job.id, within=connection)
        one.set_version(job, version, connection)
    assert (version, jobs.get(job.id).version) == (3, 3)
    assert repository.version("dnn", 3).job == job.id
    repository.verified_folder("dnn", 3)


def test_a_job_that_registers_twice_has_one_version(
    job: Job, one: Claims, two: Claims, repository: Repository, database: Engine
) -> None:
    with one.holding(job) as connection:
        first = repository.register(DNN, "dnn", job=job.id, within=connection)
    expire(database)
    with two.holding(claimed(two)) as connection:
        assert repository.register(DNN, "dnn", job=job.id, within=connection) == first
    assert len(repository.versions("dnn")) == 3


def test_a_job_in_state_cancelling_cannot_be_written(jobs: Jobs, job: Job, one: Claims) -> None:
    jobs.cancel(job.id)
    with pytest.raises(CancelledError), one.holding(job):
        pytest.fail("the transaction began")


def test_a_cancellation_during_the_final_write_is_refused(
    jobs: Jobs, job: Job, one: Claims, store_settings: Settings
) -> None:
    elsewhere = db.connect(store_settings)
    with ThreadPoolExecutor(1) as pool:
        with one.holding(job) as connection:
            cancelling = pool.submit(Jobs(elsewhere).cancel, job.id)
            one.succeed(job, "skipped", "no promotion was asked for", connection)
        with pytest.raises(ConflictError, match=r"it has ended \(succeeded\)"):
            cancelling.result()
    assert statuses(jobs, job) == ["queued", "running", "succeeded"]
    elsewhere.dispose()


@pytest.mark.parametrize(("counts", "attempts"), [(True, 1), (False, 0)])
def test_a_job_that_is_handed_back_is_queued_again(
    jobs: Jobs, job: Job, one: Claims, two: Claims, counts: bool, attempts: int
) -> None:
    one.heartbeat(job, runtime_s=3, progress={"epoch": 2})
    one.hand_back(job, "its worker was stopped", counts=counts)

    waiting = jobs.get(job.id)
    assert (waiting.status, waiting.attempts, waiting.worker) == ("queued", attempts, None)
    assert (waiting.reason, waiting.lease_until) == ("its worker was stopped", None)
    again = claimed(two)
    assert (again.attempts, again.runtime_s, again.progress) == (attempts + 1, 3, {"epoch": 2})
    assert statuses(jobs, job) == ["queued", "running", "queued", "running"]


@pytest.mark.parametrize("write", [hand_back, fail, Claims.abort])
def test_a_job_in_state_cancelling_ends_as_cancelled(
    jobs: Jobs, job: Job, one: Claims, write: Callable[[Claims, Job], None]
) -> None:
    jobs.cancel(job.id)
    write(one, job)
    ended = jobs.get(job.id)
    assert (ended.status, ended.reason, ended.code) == ("cancelled", "cancelled while it ran", None)
    assert one.claim() is None


def test_a_failure_keeps_its_code_its_reason_and_its_log(jobs: Jobs, job: Job, one: Claims) -> None:
    one.fail(job, "training_failed", "the loss is NaN", ["epoch 1", "Error: ä"])
    failed = jobs.get(job.id)
    assert (failed.status, failed.code) == ("failed", "training_failed")
    assert (failed.reason, failed.log) == ("the loss is NaN", ["epoch 1", "Error: ä"])
    assert failed.finished_at
    assert jobs.events(job.id)[-1].data == {
        "status": "failed",
        "attempts": 1,
        "code": "training_failed",
        "reason": "the loss is NaN",
    }
