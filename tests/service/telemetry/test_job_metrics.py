"""The metrics of jobs, from a real database or without one."""

import socket
import threading
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from prometheus_client import Metric
from sqlalchemy import Engine, text, update

from perceptd.service.jobs.queue import Jobs
from perceptd.service.settings import Settings
from perceptd.service.store import db, tables
from perceptd.service.telemetry import families, job_metrics, metrics
from perceptd.service.telemetry.job_metrics import CACHE_S, MAX_AGE_S, THREAD, JobMetrics
from perceptd.service.telemetry.metrics import Metrics
from tests.service.telemetry.test_metrics import Samples, samples, scrape, series
from tests.waiting import eventually


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The database is waited for, even on a busy machine."""
    monkeypatch.setattr(job_metrics, "WAIT_S", 60.0)


def collect(collector: JobMetrics) -> Samples:
    metrics = Metrics()
    metrics.register(collector)
    return samples(metrics.render().decode())


def end_job(database: Engine, number: int, status: str, runtime_s: float) -> None:
    with database.begin() as connection:
        connection.execute(
            update(tables.jobs)
            .where(tables.jobs.c.id == number)
            .values(status=status, runtime_s=runtime_s)
        )


@pytest.mark.database
@pytest.mark.usefixtures("patient")
def test_jobs_are_counted_with_their_working_time(database: Engine, jobs: Jobs) -> None:
    for status, runtime_s in (
        ("succeeded", 0.5),
        ("succeeded", 1.0),
        ("succeeded", 30.0),
        ("failed", 100_000.0),
        ("running", 7.0),
    ):
        end_job(database, jobs.submit("train", f"model-{runtime_s}", {}, {}).id, status, runtime_s)
    jobs.submit("import", "made-up", {}, {})

    counted = collect(JobMetrics(database))

    assert counted[("perceptd_database_up",)] == 1
    states = series("perceptd_jobs", counted)
    assert {key: count for key, count in states.items() if count} == {
        ("train", "succeeded"): 3,
        ("train", "failed"): 1,
        ("train", "running"): 1,
        ("import", "queued"): 1,
    }
    assert len(states) == 2 * 6  # every kind in every status, also without jobs
    name = "perceptd_job_duration_seconds"
    assert series(f"{name}_count", counted)["train", "succeeded"] == 3
    assert series(f"{name}_sum", counted)["train", "succeeded"] == 31.5
    buckets = series(f"{name}_bucket", counted)
    below = [buckets["train", limit, "succeeded"] for limit in ("1.0", "5.0", "15.0", "60.0")]
    assert below == [2, 2, 2, 3]
    assert buckets["train", "86400.0", "failed"] == 0
    assert buckets["train", "+Inf", "failed"] == 1
    assert ("train", "running") not in series(f"{name}_count", counted)
    assert series("perceptd_job_oldest_queued_seconds", counted)[()] >= 0
    assert "made-up" not in str(counted)


@pytest.mark.usefixtures("patient")
def test_the_database_is_queried_again_after_a_few_seconds(database: Engine, jobs: Jobs) -> None:
    now = 1000.0
    collector = JobMetrics(database, lambda: now)

    def queued() -> float:
        return series("perceptd_jobs", collect(collector))["train", "queued"]

    assert queued() == 0
    jobs.submit("train", "xor", {}, {})
    now += CACHE_S / 2
    assert queued() == 0
    now += CACHE_S
    assert queued() == 1


def test_the_last_metrics_are_shown_for_a_while_if_the_database_is_slow(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    now = 1000.0
    answers = threading.Event()

    def slowly(_: Engine) -> list[Metric]:
        answers.wait()
        return [metrics.to_metric(families.OLDEST_QUEUED, [((), [0.0])])]

    monkeypatch.setattr(job_metrics, "WAIT_S", 0.01)
    monkeypatch.setattr(job_metrics, "read_metrics", slowly)
    collector = JobMetrics(db.connect(Settings(data_dir=tmp_path)), lambda: now)

    def is_up() -> bool:
        return collect(collector)[("perceptd_database_up",)] == 1

    assert not is_up(), "it has never answered"
    answers.set()
    eventually(is_up, "the database answers")
    answers.clear()
    now += MAX_AGE_S
    assert is_up()
    now += 1
    assert not is_up(), "it has not answered for long"
    answers.set()


def test_other_metrics_are_shown_while_the_database_does_not_answer(tmp_path: Path) -> None:
    metrics = Metrics()
    metrics.connection_closed("slow")
    with socket.create_server(("127.0.0.1", 0)) as silent:  # it never answers
        url = f"postgresql+psycopg://nobody:secret@127.0.0.1:{silent.getsockname()[1]}/perceptd"
        database = db.connect(Settings(data_dir=tmp_path, database_url=url))
        metrics.register(JobMetrics(database))
        for _ in range(3):
            assert samples(metrics.render().decode()) == {
                ("perceptd_connections_closed_total", "slow"): 1,
                ("perceptd_database_up",): 0,
            }
            waiting = [one for one in threading.enumerate() if one.name == THREAD]
            assert len(waiting) == 1  # still the first one
    waiting[0].join()
    database.dispose()


@pytest.mark.usefixtures("patient")
def test_metrics_are_complete_again_when_the_database_is_back(
    serve: Callable[[Settings], httpx.Client], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_metrics, "CACHE_S", 0.0)
    client = serve(Settings(data_dir=tmp_path))
    client.post("/predict", json={"model": "xor", "inputs": [[1, 1]]}).raise_for_status()

    assert scrape(client)[("perceptd_database_up",)] == 1
    database = db.connect(Settings(data_dir=tmp_path))
    try:
        with database.begin() as connection:
            connection.execute(text("ALTER TABLE jobs RENAME TO gone"))
        counted = scrape(client)
        assert counted[("perceptd_database_up",)] == 0
        assert series("perceptd_jobs", counted) == {}
        assert series("perceptd_rows_total", counted)["xor", "1"] == 1
        with database.begin() as connection:
            connection.execute(text("ALTER TABLE gone RENAME TO jobs"))
        counted = scrape(client)
        assert counted[("perceptd_database_up",)] == 1
        assert len(series("perceptd_jobs", counted)) == 12
    finally:
        database.dispose()
