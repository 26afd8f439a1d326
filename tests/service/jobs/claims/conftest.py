"""Two workers that tests play, the job that one of them holds, and its lease."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine, update

from perceptd.service.jobs.claims import Claims
from perceptd.service.jobs.events import Event
from perceptd.service.jobs.queue import HELD, Job, Jobs
from perceptd.service.settings import Settings
from perceptd.service.store import db, tables
from perceptd.service.store.repository import PRETRAINED, Repository
from tests.service.jobs.playing import claimed, claims_of

DNN = PRETRAINED / "dnn"


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
