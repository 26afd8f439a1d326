"""What a heartbeat renews, stores and reports."""

import threading
from contextlib import suppress

import pytest
from sqlalchemy import Engine

from perceptd.service.jobs.claims import CancelledError, Claims
from perceptd.service.jobs.events import Event
from perceptd.service.jobs.queue import Job, Jobs
from perceptd.service.settings import Settings
from perceptd.service.store import db
from tests.service.jobs.claims.conftest import (
    expire,
    heartbeat,
    statuses,
    submit,
)
from tests.service.jobs.playing import claimed

pytestmark = pytest.mark.database


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
