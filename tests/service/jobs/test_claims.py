import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine, update

from perceptd.service.errors import ConflictError
from perceptd.service.jobs.claims import CancelledError, Claims, LostJobError
from perceptd.service.jobs.events import Event
from perceptd.service.jobs.queue import HELD, Job, Jobs
from perceptd.service.settings import Settings
from perceptd.service.store import db, tables
from perceptd.service.store.aliases import PRODUCTION
from perceptd.service.store.repository import PRETRAINED, Repository
from tests.service.jobs.playing import LEASE_S, VERDICT, claimed, claims_of, succeed

pytestmark = pytest.mark.database

DNN = PRETRAINED / "dnn"


class DiedError(Exception):
    """The worker dies within a transaction."""


@pytest.fixture
def one(database: Engine) -> Claims:
    return claims_of(database, "one")


@pytest.fixture
def two(database: Engine) -> Claims:
    return claims_of(database, "two")


@pytest.fixture
def job(jobs: Jobs, one: Claims) -> Job:
    """A job of the dnn that worker one holds."""
    submit(jobs)
    return claimed(one)


@pytest.fixture
def race(store_settings: Settings) -> Iterator[Callable[[], list[Job]]]:
    """Lets workers with their own connections claim at once; returns the jobs they got."""
    racers = 4
    together = threading.Barrier(racers, timeout=30)
    databases = [db.connect(store_settings) for _ in range(racers)]

    def claim(number: int) -> Job | None:
        claims = claims_of(databases[number], f"racer {number}", max_attempts=100)
        together.wait()
        return claims.claim()

    with ThreadPoolExecutor(racers) as pool:
        yield lambda: [job for job in pool.map(claim, range(racers)) if job]
    for database in databases:
        database.dispose()


@pytest.fixture
def repository(database: Engine, store_settings: Settings) -> Repository:
    """A store with version 1 of each model in production, and version 2 of the dnn."""
    repository = Repository(database, store_settings.data_dir)
    repository.prepare()
    repository.register(DNN)
    return repository


@pytest.fixture(autouse=True)
def at_most_one_running_job_per_model(database: Engine) -> Iterator[None]:
    yield
    running = [job.model for job in Jobs(database).unfinished() if job.status in HELD]
    assert len(running) == len(set(running))


def submit(jobs: Jobs, model: str = "dnn") -> Job:
    return jobs.submit("train", model, {"model": model}, {"architecture": model})


def set_lease(database: Engine, until: timedelta) -> None:
    """Let the leases of all running jobs end at this time from now."""
    with db.updating(database) as connection:
        running = tables.jobs.c.status.in_(HELD)
        lease_until = datetime.now(UTC) + until
        connection.execute(update(tables.jobs).where(running).values(lease_until=lease_until))


def expire(database: Engine) -> None:
    set_lease(database, timedelta(hours=-1))


def statuses(jobs: Jobs, job: Job) -> list[str]:
    """The statuses in the events of a job, whose numbers must have no gap."""
    events = jobs.events(job.id)
    assert [event.number for event in events] == list(range(1, len(events) + 1))
    assert jobs.get(job.id).events == len(events)
    return [event.data["status"] for event in events if event.kind == "status"]


def heartbeat(claims: Claims, job: Job) -> None:
    claims.heartbeat(job, runtime_s=9, progress={"epoch": 9}, events=[Event("epoch", {"epoch": 9})])


def fail(claims: Claims, job: Job) -> None:
    claims.fail(job, "training_failed", "the loss is NaN", ["a line"])


def hand_back(claims: Claims, job: Job) -> None:
    claims.hand_back(job, "its worker was stopped", counts=True)


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


def test_a_heartbeat_renews_the_lease_and_stores_events(
    jobs: Jobs, job: Job, one: Claims, two: Claims, database: Engine
) -> None:
    expire(database)
    events = [Event("epoch", {"epoch": 1}), Event("log", {"line": "a\tb"})]
    one.heartbeat(job, runtime_s=1.5, progress={"epoch": 1}, events=events)
    assert two.claim() is None

    one.heartbeat(job, runtime_s=2.5, events=[Event("epoch", {"epoch": 2})])
    stored = jobs.get(job.id)
    assert (stored.runtime_s, stored.progress, stored.status) == (2.5, {"epoch": 1}, "running")
    assert stored.lease_until
    assert job.lease_until
    assert stored.lease_until > job.lease_until
    assert statuses(jobs, job) == ["queued", "running"]
    assert [(event.kind, event.data) for event in jobs.events(job.id, after=2)] == [
        ("epoch", {"epoch": 1}),
        ("log", {"line": "a\tb"}),
        ("epoch", {"epoch": 2}),
    ]


def test_events_that_are_sent_again_are_stored_once(
    jobs: Jobs, job: Job, one: Claims, two: Claims
) -> None:
    plane = Event("plane", {"x": [0, 1]})
    line = Event("log", {"line": "epoch"})

    def after(epoch: int) -> list[Event]:
        return [Event("epoch", {"epoch": epoch}), Event("boundary", {"epoch": epoch})]

    one.heartbeat(job, runtime_s=1, events=[plane, line, *after(1), *after(3)[:1]])
    # The answer was lost, so epochs 1 and 3 are sent again with those that followed.
    one.heartbeat(job, runtime_s=2, events=[plane, line, *after(1), *after(3), *after(5)])
    one.hand_back(job, "stopped", counts=False)
    again = claimed(two)
    two.heartbeat(again, runtime_s=3, events=[plane, *after(1), *after(5), *after(5), *after(6)])

    events = [event for event in jobs.events(job.id) if event.kind != "status"]
    assert [(event.kind, event.data.get("epoch")) for event in events] == [
        ("plane", None),
        ("log", None),
        ("epoch", 1),
        ("boundary", 1),
        ("epoch", 3),
        ("log", None),
        ("boundary", 3),
        ("epoch", 5),
        ("boundary", 5),
        ("epoch", 6),
        ("boundary", 6),
    ]
    assert len(statuses(jobs, job)) == 4


def test_a_heartbeat_in_state_cancelling_stores_events_and_raises(
    jobs: Jobs, job: Job, one: Claims
) -> None:
    jobs.cancel(job.id)
    with pytest.raises(CancelledError):
        heartbeat(one, job)
    assert jobs.get(job.id).runtime_s == 9
    assert [event.kind for event in jobs.events(job.id)] == ["status"] * 3 + ["epoch"]


def test_events_have_no_gap_when_a_cancellation_meets_heartbeats(
    jobs: Jobs, one: Claims, store_settings: Settings
) -> None:
    elsewhere = db.connect(store_settings)
    for round_ in range(6):
        job = submit(jobs)
        running = claimed(one)
        beaten = threading.Semaphore(0)

        def cancel(job: Job = job, beaten: threading.Semaphore = beaten) -> None:
            for _ in range(3):
                beaten.acquire(timeout=30)
            Jobs(elsewhere).cancel(job.id)

        canceller = threading.Thread(target=cancel)
        canceller.start()
        beats = 0
        with suppress(CancelledError):
            while True:
                if beats == 30:
                    canceller.join()  # SQLite's lock is not fair
                beaten.release()
                beats += 1
                events = [Event("epoch", {"epoch": 2 * beats + n}) for n in range(2)]
                one.heartbeat(running, runtime_s=beats, events=events)
        assert 3 <= beats <= 31
        canceller.join()

        one.abort(running)
        assert statuses(jobs, job) == ["queued", "running", "cancelling", "cancelled"], round_
        epochs = [event.data["epoch"] for event in jobs.events(job.id, kind="epoch")]
        assert epochs == list(range(2, 2 * beats + 2))
    elsewhere.dispose()


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
