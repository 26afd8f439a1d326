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

pytestmark = pytest.mark.database

DNN = PRETRAINED / "dnn"
GATE = {"passed": True, "metric": "accuracy", "candidate": 0.95}


class Boom(Exception):  # noqa: N818 - what a test raises
    pass


@pytest.fixture
def one(database: Engine) -> Claims:
    return Claims(database, "one", lease_s=60, max_attempts=3)


@pytest.fixture
def two(database: Engine) -> Claims:
    return Claims(database, "two", lease_s=60, max_attempts=3)


@pytest.fixture
def race(store_settings: Settings) -> Iterator[Callable[[], list[Job]]]:
    """Lets workers with connections of their own claim at once; the jobs that they got."""
    racers = 4
    together = threading.Barrier(racers, timeout=30)
    databases = [db.connect(store_settings) for _ in range(racers)]

    def claim(number: int) -> Job | None:
        claims = Claims(databases[number], f"racer {number}", lease_s=60, max_attempts=100)
        together.wait()
        return claims.claim()

    with ThreadPoolExecutor(racers) as pool:
        yield lambda: [job for job in pool.map(claim, range(racers)) if job]
    for database in databases:
        database.dispose()


@pytest.fixture
def repository(database: Engine, store_settings: Settings) -> Repository:
    repository = Repository(database, store_settings.data_dir)
    repository.prepare()
    return repository


def submit(jobs: Jobs, model: str = "dnn") -> Job:
    return jobs.submit("train", model, {"model": model}, {"architecture": model})


def claimed(claims: Claims) -> Job:
    job = claims.claim()
    assert job
    return job


def end(claims: Claims, job: Job) -> None:
    claims.fail(job, "training_failed", "a test ended it")


def expire(database: Engine, job: Job) -> None:
    """What time would do to a lease that nobody renews."""
    past = datetime.now(UTC) - timedelta(hours=1)
    with db.updating(database) as connection:
        connection.execute(
            update(tables.jobs).where(tables.jobs.c.id == job.id).values(lease_until=past)
        )


def told(jobs: Jobs, job: Job) -> list[str]:
    """The statuses that a job's events tell; their numbers have no gap."""
    events = jobs.events(job.id)
    assert [event.number for event in events] == list(range(1, len(events) + 1))
    assert jobs.get(job.id).events == len(events)
    return [event.data["status"] for event in events if event.kind == "status"]


def test_nothing_is_claimed_where_nothing_waits(jobs: Jobs, one: Claims) -> None:
    assert one.claim() is None
    jobs.cancel(submit(jobs).id)
    assert one.claim() is None


def test_a_claimed_job_runs_and_says_who_has_it_until_when(jobs: Jobs, one: Claims) -> None:
    waiting = submit(jobs)
    job = claimed(one)
    assert job == jobs.get(waiting.id)
    assert (job.status, job.worker, job.attempts) == ("running", "one", 1)
    assert job.started_at
    assert job.lease_until == job.started_at + timedelta(seconds=60)
    assert told(jobs, job) == ["queued", "running"]


def test_models_take_turns_and_each_is_first_come_first_served(jobs: Jobs, one: Claims) -> None:
    for model in ("dnn", "dnn", "dnn", "xor", "xor", "perceptron"):
        submit(jobs, model)
    order = []
    while job := one.claim():
        order.append((job.model, job.id))
        end(one, job)
    assert order == [
        ("dnn", 1),
        ("xor", 4),
        ("perceptron", 6),
        ("dnn", 2),
        ("xor", 5),
        ("dnn", 3),
    ]


def test_a_model_has_one_running_job_and_the_others_do_not_wait(
    jobs: Jobs, one: Claims, two: Claims, database: Engine
) -> None:
    for model in ("dnn", "dnn", "xor"):
        submit(jobs, model)
    first, second = claimed(one), claimed(two)
    assert (first.model, second.model) == ("dnn", "xor")
    assert one.claim() is None

    end(two, second)
    submit(jobs, "xor")
    third = claimed(two)
    assert third.model == "xor", "what waits for the running job holds up no other model"
    end(two, third)

    jobs.cancel(first.id)
    assert one.claim() is None, "one that is being cancelled still runs"
    one.abort(first)
    assert claimed(one).id == 2


def test_claimers_that_race_never_run_two_jobs_of_one_model(
    jobs: Jobs, database: Engine, race: Callable[[], list[Job]]
) -> None:
    models = ("dnn", "xor")
    for _ in range(12):
        for model in models * 2:
            submit(jobs, model)
        won = race()
        running = [job for job in jobs.unfinished() if job.status in HELD]
        assert sorted(job.id for job in won) == sorted(job.id for job in running)
        assert won
        assert len({job.model for job in won}) == len(won)
        for job in won:
            assert told(jobs, job) == ["queued", "running"]
            jobs.cancel(job.id)
            Claims(database, job.worker or "", 60, 3).abort(job)


def test_a_lease_that_lasts_is_left_alone(jobs: Jobs, one: Claims, two: Claims) -> None:
    submit(jobs)
    job = claimed(one)
    assert two.claim() is None
    assert jobs.get(job.id) == job


def test_a_job_whose_worker_was_lost_goes_on_with_another(
    jobs: Jobs, one: Claims, two: Claims, database: Engine
) -> None:
    submit(jobs)
    lost = claimed(one)
    one.heartbeat(lost, runtime_s=4.5, progress={"epoch": 3}, events=[Event("epoch", {"epoch": 3})])
    expire(database, lost)

    job = claimed(two)

    assert (job.id, job.worker, job.attempts) == (lost.id, "two", 2)
    assert (job.started_at, job.runtime_s, job.progress) == (lost.started_at, 4.5, {"epoch": 3})
    assert told(jobs, job) == ["queued", "running", "queued", "running"]
    requeued = jobs.events(job.id)[-2]
    assert requeued.data["reason"] == "its worker was lost"
    assert job.reason is None


@pytest.mark.parametrize(("hours", "attempts"), [(1.9, 1), (24, 2)])
def test_a_lease_that_no_worker_may_have_is_from_before_the_clock_was_set_back(
    jobs: Jobs, database: Engine, one: Claims, two: Claims, hours: float, attempts: int
) -> None:
    submit(jobs)
    job = claimed(one)
    ahead = datetime.now(UTC) + timedelta(hours=hours)
    with db.writing(database) as connection:
        connection.execute(update(tables.jobs).values(lease_until=ahead))

    two.claim()

    assert jobs.get(job.id).attempts == attempts


def test_a_lease_of_no_length_is_over_at_once(jobs: Jobs, database: Engine, two: Claims) -> None:
    submit(jobs)
    claimed(Claims(database, "brief", lease_s=0, max_attempts=3))
    assert claimed(two).attempts == 2


def test_a_job_whose_workers_are_lost_each_time_fails(
    jobs: Jobs, one: Claims, two: Claims, database: Engine
) -> None:
    submit(jobs)
    waiting = submit(jobs)
    for _ in range(3):
        expire(database, claimed(one))

    following = claimed(two)

    failed = jobs.get(1)
    assert (failed.status, failed.code, failed.attempts) == ("failed", "worker_lost", 3)
    assert failed.reason == "its worker was lost, in each of 3 attempts"
    assert (failed.lease_until, failed.finished_at is None) == (None, False)
    assert told(jobs, failed)[-2:] == ["running", "failed"]
    assert following.id == waiting.id


def test_a_lost_job_that_was_being_cancelled_is_cancelled(
    jobs: Jobs, one: Claims, two: Claims, database: Engine
) -> None:
    submit(jobs)
    job = claimed(one)
    jobs.cancel(job.id)
    expire(database, job)
    assert two.claim() is None
    cancelled = jobs.get(job.id)
    assert (cancelled.status, cancelled.reason) == (
        "cancelled",
        "cancelled while its worker was lost",
    )
    assert told(jobs, job) == ["queued", "running", "cancelling", "cancelled"]


def test_workers_that_find_a_lost_job_together_release_it_once(
    jobs: Jobs, database: Engine, race: Callable[[], list[Job]]
) -> None:
    job = submit(jobs)
    claimed(Claims(database, "one", lease_s=60, max_attempts=100))
    for attempts in range(1, 11):
        before = jobs.get(job.id)
        assert before.attempts == attempts
        expire(database, job)
        # On PostgreSQL whoever comes second may find the job locked, and takes it next time.
        won = race() or [claimed(Claims(database, "late", lease_s=60, max_attempts=100))]
        assert len(won) == 1
        assert jobs.get(job.id).events == before.events + 2
    told(jobs, job)


def test_a_beat_renews_the_lease_and_records(
    jobs: Jobs, one: Claims, two: Claims, database: Engine
) -> None:
    submit(jobs)
    job = claimed(one)
    expire(database, job)
    events = [Event("epoch", {"epoch": 1}), Event("log", {"line": "a\tb"})]
    one.heartbeat(job, runtime_s=1.5, progress={"epoch": 1}, events=events)
    assert two.claim() is None

    one.heartbeat(job, runtime_s=2.5, events=[Event("epoch", {"epoch": 2})])
    beaten = jobs.get(job.id)
    assert (beaten.runtime_s, beaten.progress, beaten.status) == (2.5, {"epoch": 1}, "running")
    assert beaten.lease_until
    assert job.lease_until
    assert beaten.lease_until > job.lease_until
    assert told(jobs, job) == ["queued", "running"]
    assert [(event.kind, event.data) for event in jobs.events(job.id, after=2)] == [
        ("epoch", {"epoch": 1}),
        ("log", {"line": "a\tb"}),
        ("epoch", {"epoch": 2}),
    ]


def test_what_a_beat_or_an_attempt_before_has_told_is_not_told_again(
    jobs: Jobs, one: Claims, two: Claims
) -> None:
    plane = Event("plane", {"x": [0, 1]})
    line = Event("log", {"line": "epoch"})

    def after(epoch: int) -> list[Event]:
        return [Event("epoch", {"epoch": epoch}), Event("boundary", {"epoch": epoch})]

    submit(jobs)
    job = claimed(one)
    one.heartbeat(job, runtime_s=1, events=[plane, line, *after(1), *after(3)[:1]])
    # Its answer was lost, and more has happened since: epochs 1 and 3 are not new.
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
    told(jobs, job)


def test_a_beat_of_a_job_to_be_cancelled_records_and_says_so(jobs: Jobs, one: Claims) -> None:
    submit(jobs)
    job = claimed(one)
    jobs.cancel(job.id)
    with pytest.raises(CancelledError):
        one.heartbeat(job, runtime_s=2, events=[Event("epoch", {"epoch": 1})])
    assert jobs.get(job.id).runtime_s == 2
    assert [event.kind for event in jobs.events(job.id)] == ["status"] * 3 + ["epoch"]
    told(jobs, job)


def test_events_are_numbered_without_gap_while_the_job_is_cancelled(
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
                    canceller.join()  # SQLite does not serve who waits longest
                beaten.release()
                beats += 1
                events = [Event("epoch", {"epoch": 2 * beats + n}) for n in range(2)]
                one.heartbeat(running, runtime_s=beats, events=events)
        assert 3 <= beats <= 31
        canceller.join()

        one.abort(running)
        assert told(jobs, job) == ["queued", "running", "cancelling", "cancelled"], round_
        epochs = [event.data["epoch"] for event in jobs.events(job.id, kind="epoch")]
        assert epochs == list(range(2, 2 * beats + 2))
    elsewhere.dispose()


def beat(claims: Claims, job: Job) -> None:
    claims.heartbeat(job, runtime_s=9, progress={"epoch": 9}, events=[Event("epoch", {"epoch": 9})])


def fail(claims: Claims, job: Job) -> None:
    claims.fail(job, "training_failed", "too late", ["a line"])


def cancelled(claims: Claims, job: Job) -> None:
    claims.abort(job)


def hand_back(claims: Claims, job: Job) -> None:
    claims.hand_back(job, "too late", counts=True)


def succeed(claims: Claims, job: Job) -> None:
    with claims.holding(job) as connection:
        claims.succeed(job, "promoted", "too late", connection, gate=GATE)


WRITES = [beat, fail, cancelled, hand_back, succeed]


def requeue(jobs: Jobs, database: Engine, job: Job) -> None:
    """Nobody has taken the job since its worker was lost."""
    expire(database, job)
    claims = Claims(database, "three", lease_s=60, max_attempts=3)
    claims.hand_back(claimed(claims), "its worker was asked to end", counts=False)


def give_to_another(jobs: Jobs, database: Engine, job: Job) -> None:
    expire(database, job)
    claimed(Claims(database, "two", lease_s=60, max_attempts=3))


def give_to_the_same(jobs: Jobs, database: Engine, job: Job) -> None:
    expire(database, job)
    claimed(Claims(database, "one", lease_s=60, max_attempts=3))


def end_it(jobs: Jobs, database: Engine, job: Job) -> None:
    jobs.cancel(job.id)
    expire(database, job)
    assert Claims(database, "two", lease_s=60, max_attempts=3).claim() is None


@pytest.mark.parametrize("lose", [requeue, give_to_another, give_to_the_same, end_it])
def test_a_worker_that_lost_its_job_is_told_and_writes_nothing(
    jobs: Jobs, one: Claims, database: Engine, lose: Callable[[Jobs, Engine, Job], None]
) -> None:
    submit(jobs)
    job = claimed(one)
    lose(jobs, database, job)
    before, events = jobs.get(job.id), jobs.events(job.id)
    for write in WRITES:
        with pytest.raises(LostJobError, match="job 1 is no longer held by one"):
            write(one, job)
    assert (jobs.get(job.id), jobs.events(job.id)) == (before, events)


def test_a_worker_whose_lease_is_over_still_holds_what_nobody_took(
    jobs: Jobs, one: Claims, database: Engine
) -> None:
    submit(jobs)
    job = claimed(one)
    expire(database, job)
    succeed(one, job)
    assert jobs.get(job.id).status == "succeeded"


def test_success_and_promotion_come_together(
    jobs: Jobs, one: Claims, repository: Repository
) -> None:
    repository.register(DNN)
    submit(jobs)
    job = claimed(one)
    one.heartbeat(job, runtime_s=1, events=[Event("epoch", {"epoch": 1})])
    with one.holding(job) as connection:
        repository.point("dnn", PRODUCTION, 2, within=connection)
        one.succeed(job, "promoted", "better by far", connection, gate=GATE)

    assert repository.production()["dnn"] == 2
    ended = jobs.get(job.id)
    assert (ended.status, ended.promotion, ended.reason) == (
        "succeeded",
        "promoted",
        "better by far",
    )
    assert (ended.gate, ended.lease_until) == (GATE, None)
    assert ended.finished_at
    told(jobs, job)
    *_, gate, last = jobs.events(job.id)
    assert (gate.kind, gate.data) == ("gate", {"promotion": "promoted", **GATE})
    assert last.data == {
        "status": "succeeded",
        "attempts": 1,
        "promotion": "promoted",
        "reason": "better by far",
    }


def test_an_exception_leaves_neither_success_nor_promotion(
    jobs: Jobs, one: Claims, repository: Repository
) -> None:
    repository.register(DNN)
    submit(jobs)
    job = claimed(one)
    events = jobs.events(job.id)
    for promotes_first in (True, False):
        with suppress(Boom), one.holding(job) as connection:
            if promotes_first:
                repository.point("dnn", PRODUCTION, 2, within=connection)
            one.succeed(job, "promoted", "better", connection, gate=GATE)
            repository.point("dnn", PRODUCTION, 2, within=connection)
            raise Boom
    assert repository.production()["dnn"] == 1
    assert repository.version("dnn", 1).aliases == (PRODUCTION,)
    assert (jobs.get(job.id), jobs.events(job.id)) == (job, events)
    with one.holding(job) as connection:
        one.succeed(job, "skipped", "the claim still holds", connection)


def test_an_exception_leaves_neither_version_nor_note_of_it(
    jobs: Jobs, one: Claims, repository: Repository
) -> None:
    submit(jobs)
    job = claimed(one)
    with suppress(Boom), one.holding(job) as connection:
        _, version = repository.register(DNN, "dnn", job=job.id, within=connection)
        one.set_version(job, version, connection)
        raise Boom
    assert [version.version for version in repository.versions("dnn")] == [1]
    assert jobs.get(job.id).version is None

    with one.holding(job) as connection:
        _, version = repository.register(DNN, "dnn", job=job.id, within=connection)
        one.set_version(job, version, connection)
    assert (version, jobs.get(job.id).version) == (2, 2)
    assert repository.version("dnn", 2).job == job.id
    repository.verified_folder("dnn", 2)


def test_a_job_that_registers_a_second_time_has_made_one_version(
    jobs: Jobs, one: Claims, two: Claims, repository: Repository, database: Engine
) -> None:
    submit(jobs)
    job = claimed(one)
    with one.holding(job) as connection:
        first = repository.register(DNN, "dnn", job=job.id, within=connection)
    expire(database, job)
    again = claimed(two)
    with two.holding(again) as connection:
        assert repository.register(DNN, "dnn", job=job.id, within=connection) == first
    assert len(repository.versions("dnn")) == 2


def test_a_job_to_be_cancelled_registers_and_promotes_nothing(
    jobs: Jobs, one: Claims, repository: Repository
) -> None:
    submit(jobs)
    job = claimed(one)
    jobs.cancel(job.id)
    with pytest.raises(CancelledError), one.holding(job):
        pytest.fail("the transaction was given")
    one.abort(job)
    assert jobs.get(job.id).status == "cancelled"


def test_a_cancellation_waits_for_the_transaction_that_ends_the_job(
    jobs: Jobs, one: Claims, repository: Repository, store_settings: Settings
) -> None:
    """It comes too late then, and says so."""
    submit(jobs)
    job = claimed(one)
    elsewhere = db.connect(store_settings)
    with ThreadPoolExecutor(1) as pool:
        with one.holding(job) as connection:
            cancelling = pool.submit(Jobs(elsewhere).cancel, job.id)
            one.succeed(job, "skipped", "no promotion was asked for", connection)
        with pytest.raises(ConflictError, match=r"it has ended \(succeeded\)"):
            cancelling.result()
    assert told(jobs, job) == ["queued", "running", "succeeded"]
    elsewhere.dispose()


@pytest.mark.parametrize(("counts", "attempts"), [(True, 1), (False, 0)])
def test_a_job_handed_back_waits_again(
    jobs: Jobs, one: Claims, two: Claims, counts: bool, attempts: int
) -> None:
    submit(jobs)
    job = claimed(one)
    one.heartbeat(job, runtime_s=3, progress={"epoch": 2})
    one.hand_back(job, "its worker was asked to end", counts=counts)

    waiting = jobs.get(job.id)
    assert (waiting.status, waiting.attempts, waiting.worker) == ("queued", attempts, None)
    assert (waiting.reason, waiting.lease_until) == ("its worker was asked to end", None)
    again = claimed(two)
    assert (again.attempts, again.runtime_s, again.progress) == (attempts + 1, 3, {"epoch": 2})
    assert told(jobs, job) == ["queued", "running", "queued", "running"]


def failing(claims: Claims, job: Job) -> None:
    claims.fail(job, "training_failed", "a signal came")


@pytest.mark.parametrize("write", [hand_back, failing, cancelled])
def test_whatever_ends_the_work_a_job_to_be_cancelled_is_cancelled(
    jobs: Jobs, one: Claims, write: Callable[[Claims, Job], None]
) -> None:
    submit(jobs)
    job = claimed(one)
    jobs.cancel(job.id)
    write(one, job)
    ended = jobs.get(job.id)
    assert (ended.status, ended.reason, ended.code) == ("cancelled", "cancelled while it ran", None)
    assert one.claim() is None


def test_a_failure_keeps_its_kind_its_reason_and_the_last_lines(jobs: Jobs, one: Claims) -> None:
    submit(jobs)
    job = claimed(one)
    one.fail(job, "training_failed", "the loss is no number", ["epoch 1", "Error: ä"])
    failed = jobs.get(job.id)
    assert (failed.status, failed.code) == ("failed", "training_failed")
    assert (failed.reason, failed.log) == ("the loss is no number", ["epoch 1", "Error: ä"])
    assert failed.finished_at
    assert jobs.events(job.id)[-1].data == {
        "status": "failed",
        "attempts": 1,
        "code": "training_failed",
        "reason": "the loss is no number",
    }


@pytest.fixture(autouse=True)
def nothing_left_running(database: Engine) -> Iterator[None]:
    """Whatever a test did, no model has two jobs that run."""
    yield
    running = [job.model for job in Jobs(database).unfinished() if job.status in HELD]
    assert len(running) == len(set(running))
