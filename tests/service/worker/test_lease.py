import itertools
import threading
import time

import pytest
from sqlalchemy import Engine, text

from perceptd.service.errors import StoreError
from perceptd.service.jobs.claims import CancelledError, Claims, LostJobError
from perceptd.service.jobs.events import Event
from perceptd.service.jobs.queue import Job, Jobs
from perceptd.service.worker import lease as leases
from perceptd.service.worker.lease import Lease

pytestmark = pytest.mark.database


@pytest.fixture
def lease(job: Job, claims: Claims, stop: threading.Event) -> Lease:
    return Lease(job, claims, stop, time.monotonic())


def make_unreachable(database: Engine) -> None:
    """Every heartbeat fails from here on."""
    with database.begin() as connection:
        connection.execute(text("ALTER TABLE job_events RENAME TO renamed"))


def test_a_heartbeat_stores_run_time_progress_and_events(
    job: Job, jobs: Jobs, claims: Claims, stop: threading.Event
) -> None:
    lease = Lease(job, claims, stop, time.monotonic() - 100)
    assert lease.is_due
    lease.renew({"epoch": 1}, [Event("epoch", {"epoch": 1})])
    assert not lease.is_due
    stored = jobs.get(job.id)
    assert 100 <= stored.runtime_s <= lease.runtime_s
    assert stored.progress == {"epoch": 1}
    assert jobs.events(job.id)[-1].kind == "epoch"


def test_a_heartbeat_reports_a_cancellation(lease: Lease, job: Job, jobs: Jobs) -> None:
    jobs.cancel(job.id)
    with pytest.raises(CancelledError):
        lease.try_renew(None, [])


def test_failed_heartbeats_are_tolerated_until_the_lease_is_about_to_end(
    lease: Lease, job: Job, claims: Claims, stop: threading.Event, database: Engine
) -> None:
    make_unreachable(database)
    events = [Event("log", {"line": ""})]
    assert lease.try_renew(None, events) is False
    about_to_end = Lease(job, claims, stop, time.monotonic() - claims.lease_s + 5)
    with pytest.raises(LostJobError, match="its lease ran out"):
        about_to_end.try_renew(None, events)


def test_writes_are_retried_with_growing_pauses_and_logged_once(
    lease: Lease, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(leases, "RETRY_S", 0.02)
    monkeypatch.setattr(leases, "MAX_RETRY_S", 0.08)
    tried: list[float] = []

    def write() -> str:
        tried.append(time.monotonic())
        if len(tried) < 6:
            raise StoreError("away")
        return "written"

    assert lease.persist(write) == "written"
    pauses = [after - before for before, after in itertools.pairwise(tried)]
    for pause, shortest in zip(pauses, (0.02, 0.04, 0.08, 0.08, 0.08), strict=True):
        assert pause >= shortest
    assert caplog.messages == ["job 1 waits for the database: away"]


def test_a_stopped_worker_gives_up_its_write(lease: Lease, stop: threading.Event) -> None:
    def write() -> None:
        raise StoreError("away")

    stop.set()
    with pytest.raises(LostJobError, match="stopped while the database was unreachable"):
        lease.persist(write)


def test_writes_to_tables_of_another_release_are_not_retried(
    lease: Lease, job: Job, jobs: Jobs, database: Engine
) -> None:
    make_unreachable(database)
    with pytest.raises(StoreError, match="job_events"):
        lease.persist(lambda: jobs.events(job.id))
