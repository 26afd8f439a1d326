import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import Engine

from perceptd.service.errors import ConflictError, JobNotFoundError
from perceptd.service.jobs.claims import Claims
from perceptd.service.jobs.events import Event
from perceptd.service.jobs.queue import Job, Jobs
from perceptd.service.settings import Settings
from perceptd.service.store import db
from tests.service.jobs.playing import claimed, claims_of, succeed

pytestmark = pytest.mark.database

REQUEST = {"model": "dnn", "epochs": 3}
PLAN = {"architecture": "dnn", "epochs": 3, "batch_size": None}


@pytest.fixture
def claims(database: Engine) -> Claims:
    return claims_of(database, "worker")


def test_a_submitted_job_is_queued_with_its_request_and_plan(jobs: Jobs) -> None:
    request = {**REQUEST, "config": {"note": "é, 数, \0 and \ud800", "rate": 0.1 + 0.2}}
    job = jobs.submit("train", "dnn", request, PLAN)
    assert job == jobs.get(job.id)
    assert (job.kind, job.model, job.status, job.attempts) == ("train", "dnn", "queued", 0)
    assert (job.request, job.plan, job.log, job.runtime_s) == (request, PLAN, [], 0)
    assert job.created_at.utcoffset() is not None
    assert not job.ended
    assert {job.started_at, job.finished_at, job.worker, job.progress, job.gate} == {None}
    assert jobs.events(job.id) == [Event("status", {"status": "queued"}, 1)]


@pytest.mark.parametrize("number", [0, -1, 2, 2**31 - 1, 2**31, 2**63, 10**30])
def test_an_unknown_job_is_not_found(jobs: Jobs, number: int) -> None:
    jobs.submit("train", "dnn", REQUEST, PLAN)
    for ask in (jobs.get, jobs.cancel):
        with pytest.raises(JobNotFoundError, match=f"no job {number}$"):
            ask(number)


def test_pages_are_newest_first_and_filtered(jobs: Jobs, claims: Claims) -> None:
    for model in ("dnn", "xor", "dnn"):
        jobs.submit("train", model, REQUEST, PLAN)
    first = claimed(claims)

    def numbers(found: list[Job]) -> list[int]:
        return [job.id for job in found]

    assert numbers(jobs.page()) == [3, 2, 1]
    assert numbers(jobs.page(limit=2)) == [3, 2]
    assert numbers(jobs.page(after=3, limit=1)) == [2]
    assert numbers(jobs.page(after=10**30)) == [3, 2, 1]
    assert numbers(jobs.page(after=1)) == []
    assert numbers(jobs.page(model="dnn")) == [3, 1]
    assert numbers(jobs.page(model="no\0pe")) == []
    assert numbers(jobs.page(status="running")) == [first.id]
    assert numbers(jobs.page(model="dnn", status="queued", after=3)) == []


def test_pages_have_no_gap_and_no_repeat_while_jobs_are_added(jobs: Jobs) -> None:
    for _ in range(7):
        jobs.submit("train", "dnn", REQUEST, PLAN)
    expected = [job.id for job in jobs.page()]

    seen: list[int] = []
    after = None
    while page := jobs.page(after=after, limit=2):
        seen += [job.id for job in page]
        after = seen[-1]
        jobs.submit("train", "dnn", REQUEST, PLAN)

    assert seen == expected


def test_unfinished_jobs_are_those_that_have_not_ended(jobs: Jobs, claims: Claims) -> None:
    for model in ("dnn", "dnn", "xor", "dnn"):
        jobs.submit("train", model, REQUEST, PLAN)
    succeed(claims, claimed(claims))
    running = claimed(claims)
    jobs.cancel(running.id)
    jobs.cancel(4)
    assert running.model == "xor"
    assert [job.status for job in jobs.unfinished()] == ["queued", "cancelling"]


def test_a_queued_job_is_cancelled_at_once(jobs: Jobs) -> None:
    job = jobs.cancel(jobs.submit("train", "dnn", REQUEST, PLAN).id)
    assert (job.status, job.reason) == ("cancelled", "cancelled before it ran")
    assert job.ended
    assert job.finished_at
    assert job.finished_at >= job.created_at
    assert [event.data["status"] for event in jobs.events(job.id)] == ["queued", "cancelled"]


def test_a_running_job_is_cancelling_until_its_worker_has_stopped_it(
    jobs: Jobs, claims: Claims
) -> None:
    jobs.submit("train", "dnn", REQUEST, PLAN)
    running = claimed(claims)
    for _ in range(2):  # the second request changes nothing
        job = jobs.cancel(running.id)
        assert (job.status, job.finished_at, job.worker) == ("cancelling", None, "worker")
    assert [event.data["status"] for event in jobs.events(job.id)] == [
        "queued",
        "running",
        "cancelling",
    ]


def cancel(jobs: Jobs, claims: Claims) -> None:
    jobs.cancel(1)


def fail(jobs: Jobs, claims: Claims) -> None:
    claims.fail(claimed(claims), "training_failed", "it gave up")


def succeed_next(jobs: Jobs, claims: Claims) -> None:
    succeed(claims, claimed(claims))


@pytest.mark.parametrize("end", [cancel, fail, succeed_next])
def test_a_job_that_has_ended_cannot_be_cancelled(
    jobs: Jobs, claims: Claims, end: Callable[[Jobs, Claims], None]
) -> None:
    jobs.submit("train", "dnn", REQUEST, PLAN)
    end(jobs, claims)
    before, events = jobs.get(1), jobs.events(1)
    with pytest.raises(ConflictError, match=rf"it has ended \({before.status}\)"):
        jobs.cancel(1)
    assert (jobs.get(1), jobs.events(1)) == (before, events)


def test_events_are_those_of_one_job_after_a_number(jobs: Jobs, claims: Claims) -> None:
    jobs.submit("train", "dnn", REQUEST, PLAN)
    jobs.submit("train", "xor", REQUEST, PLAN)
    job = claimed(claims)
    claims.heartbeat(
        job, runtime_s=1, events=[Event("epoch", {"epoch": 1}), Event("log", {"line": ""})]
    )

    kinds = ["status", "status", "epoch", "log"]
    events = jobs.events(job.id)
    assert [(event.number, event.kind) for event in events] == list(enumerate(kinds, 1))
    for after in range(5):
        assert jobs.events(job.id, after) == events[after:]
    assert jobs.events(job.id, after=10**30) == []
    assert jobs.events(job.id, kind="epoch") == [events[2]]
    assert len(jobs.events(2)) == 1


def test_the_same_key_and_request_return_the_same_job(jobs: Jobs, claims: Claims) -> None:
    first = jobs.submit("train", "dnn", REQUEST, PLAN, key="k", fingerprint="f")
    assert jobs.submit("train", "dnn", REQUEST, PLAN, key="k", fingerprint="f") == first
    succeed(claims, claimed(claims))
    assert jobs.submit("train", "dnn", REQUEST, PLAN, key="k", fingerprint="f").id == first.id
    assert jobs.find_by_key("k", "f") == jobs.get(first.id)
    assert len(jobs.page()) == 1


def test_the_same_key_with_another_request_is_refused(jobs: Jobs) -> None:
    jobs.submit("train", "dnn", REQUEST, PLAN, key="k", fingerprint="f")
    with pytest.raises(ConflictError, match="'k' was used for another request, job 1"):
        jobs.submit("train", "dnn", REQUEST, PLAN, key="k", fingerprint="g")
    with pytest.raises(ConflictError):
        jobs.find_by_key("k", "g")
    assert len(jobs.page()) == 1
    assert len(jobs.events(1)) == 1


def test_each_request_without_a_key_is_a_job_of_its_own(jobs: Jobs) -> None:
    submitted = {jobs.submit("train", "dnn", REQUEST, PLAN).id for _ in range(3)}
    submitted.add(jobs.submit("train", "dnn", REQUEST, PLAN, key="k").id)
    assert len(submitted) == 4
    assert jobs.find_by_key(None, "") is None
    assert jobs.find_by_key("another", "") is None


def test_connections_that_submit_one_key_at_once_get_one_job(
    jobs: Jobs, store_settings: Settings
) -> None:
    threads, rounds = 6, 5
    together = threading.Barrier(threads, timeout=30)

    def submit(number: int) -> list[int]:
        database = db.connect(store_settings)
        found = []
        for round_ in range(rounds):
            together.wait()
            job = Jobs(database).submit(
                "train", "dnn", REQUEST, PLAN, key=f"k{round_}", fingerprint="f"
            )
            found.append(job.id)
        database.dispose()
        return found

    with ThreadPoolExecutor(threads) as pool:
        found = list(pool.map(submit, range(threads)))
    assert found == [found[0]] * threads
    assert len(set(found[0])) == len(jobs.page()) == rounds
    assert all(len(jobs.events(job.id)) == 1 for job in jobs.page())
