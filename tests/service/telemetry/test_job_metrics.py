"""Jobs as Prometheus is told of them, from a real database or from one that is away."""

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
from tests.service.telemetry.test_metrics import Counted, figures, of
from tests.waiting import eventually


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A database that answers is waited for, on a busy machine too."""
    monkeypatch.setattr(job_metrics, "WAIT_S", 60.0)


def told(collector: JobMetrics) -> Counted:
    metrics = Metrics()
    metrics.register(collector)
    return figures(metrics.render().decode())


def ended(database: Engine, number: int, status: str, runtime_s: float) -> None:
    with database.begin() as connection:
        connection.execute(
            update(tables.jobs)
            .where(tables.jobs.c.id == number)
            .values(status=status, runtime_s=runtime_s)
        )


@pytest.mark.database
@pytest.mark.usefixtures("patience")
def test_jobs_are_told_by_state_with_how_long_they_took(database: Engine, jobs: Jobs) -> None:
    for status, runtime_s in (
        ("succeeded", 0.5),
        ("succeeded", 1.0),
        ("succeeded", 30.0),
        ("failed", 100_000.0),
        ("running", 7.0),
    ):
        ended(database, jobs.submit("train", f"model-{runtime_s}", {}, {}).id, status, runtime_s)
    jobs.submit("import", "made-up", {}, {})

    counted = told(JobMetrics(database))

    assert counted[("perceptd_database_up",)] == 1
    states = of("perceptd_jobs", counted)
    assert {key: count for key, count in states.items() if count} == {
        ("train", "succeeded"): 3,
        ("train", "failed"): 1,
        ("train", "running"): 1,
        ("import", "queued"): 1,
    }
    assert len(states) == 2 * 6  # each kind in each state, also where there is none
    name = "perceptd_job_duration_seconds"
    assert of(f"{name}_count", counted)["train", "succeeded"] == 3
    assert of(f"{name}_sum", counted)["train", "succeeded"] == 31.5
    buckets = of(f"{name}_bucket", counted)
    below = [buckets["train", limit, "succeeded"] for limit in ("1.0", "5.0", "15.0", "60.0")]
    assert below == [2, 2, 2, 3]
    assert buckets["train", "86400.0", "failed"] == 0
    assert buckets["train", "+Inf", "failed"] == 1
    assert ("train", "running") not in of(f"{name}_count", counted)
    assert of("perceptd_job_oldest_queued_seconds", counted)[()] >= 0
    assert "made-up" not in str(counted)


@pytest.mark.usefixtures("patience")
def test_the_database_is_asked_again_after_a_few_seconds(database: Engine, jobs: Jobs) -> None:
    now = 1000.0
    collector = JobMetrics(database, lambda: now)

    def queued() -> float:
        return of("perceptd_jobs", told(collector))["train", "queued"]

    assert queued() == 0
    jobs.submit("train", "xor", {}, {})
    now += CACHE_S / 2
    assert queued() == 0
    now += CACHE_S
    assert queued() == 1


def test_what_a_slow_database_said_is_told_for_a_while(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    now = 1000.0
    says = threading.Event()

    def slowly(_: Engine) -> list[Metric]:
        says.wait()
        return [metrics.to_metric(families.OLDEST_QUEUED, [((), [0.0])])]

    monkeypatch.setattr(job_metrics, "WAIT_S", 0.01)
    monkeypatch.setattr(job_metrics, "read_metrics", slowly)
    collector = JobMetrics(db.connect(Settings(data_dir=tmp_path)), lambda: now)

    def is_up() -> bool:
        return told(collector)[("perceptd_database_up",)] == 1

    assert not is_up(), "it has never answered"
    says.set()
    eventually(is_up)
    says.clear()
    now += MAX_AGE_S
    assert is_up()
    now += 1
    assert not is_up(), "it has not answered for long"
    says.set()


def test_a_database_that_does_not_answer_holds_back_no_other_figure(tmp_path: Path) -> None:
    metrics = Metrics()
    metrics.connection_closed("slow")
    with socket.create_server(("127.0.0.1", 0)) as silent:  # it never says a word
        url = f"postgresql+psycopg://nobody:secret@127.0.0.1:{silent.getsockname()[1]}/perceptd"
        database = db.connect(Settings(data_dir=tmp_path, database_url=url))
        metrics.register(JobMetrics(database))
        for _ in range(3):
            assert figures(metrics.render().decode()) == {
                ("perceptd_connections_closed_total", "slow"): 1,
                ("perceptd_database_up",): 0,
            }
            waiting = [one for one in threading.enumerate() if one.name == THREAD]
            assert len(waiting) == 1  # it is still being asked, once
    waiting[0].join()
    database.dispose()


@pytest.mark.usefixtures("patience")
def test_figures_are_told_without_the_database_and_whole_once_it_is_back(
    serve: Callable[[Settings], httpx.Client], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_metrics, "CACHE_S", 0.0)
    client = serve(Settings(data_dir=tmp_path))
    client.post("/predict", json={"model": "xor", "inputs": [[1, 1]]}).raise_for_status()

    def asked() -> Counted:
        return figures(client.get("/metrics").raise_for_status().text)

    assert asked()[("perceptd_database_up",)] == 1
    database = db.connect(Settings(data_dir=tmp_path))
    try:
        with database.begin() as connection:
            connection.execute(text("ALTER TABLE jobs RENAME TO gone"))
        counted = asked()
        assert counted[("perceptd_database_up",)] == 0
        assert of("perceptd_jobs", counted) == {}
        assert of("perceptd_rows_total", counted)["xor", "1"] == 1
        with database.begin() as connection:
            connection.execute(text("ALTER TABLE gone RENAME TO jobs"))
        counted = asked()
        assert counted[("perceptd_database_up",)] == 1
        assert len(of("perceptd_jobs", counted)) == 12
    finally:
        database.dispose()
