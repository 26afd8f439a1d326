"""PostgreSQL is killed, and hangs, under load and while a job runs; it comes back."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from perceptd.service.commands.common import opened_store
from perceptd.service.settings import Settings
from perceptd.service.store.postgresql import SILENCE_S
from perceptd.service.store.repository import PRETRAINED
from tests.reliability.faults.cluster import Cluster, cluster
from tests.reliability.load import fault
from tests.service.site import LEASE_S, Site, assert_one_whole_version, opened, site_of
from tests.service.staged import SELF
from tests.waiting import eventually

pytestmark = pytest.mark.faults

BOUND_S = 2 * SILENCE_S + 10  # an old connection, a new one, and a busy machine
FEEDBACK = {"model": "dnn", "inputs": [[0.1, -0.2]], "labels": ["1"]}


@pytest.fixture(scope="module")
def server() -> Iterator[Cluster]:
    with cluster() as server:
        yield server


@pytest.fixture
def site(server: Cluster, tmp_path: Path) -> Iterator[Site]:
    """A store in a database of its own."""
    import psycopg

    name = f"test_{time.monotonic_ns()}"
    with psycopg.connect(server.url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    url = f"{server.url.rpartition('/')[0]}/{name}"
    settings = Settings(data_dir=tmp_path / "data", database_url=url)
    with site_of(settings, tmp_path / "stage") as site:
        yield site


def admin_calls(site: Site) -> list[tuple[httpx.Response, float]]:
    """What those that need the database are answered, all at once, and after how long."""
    answers: list[tuple[httpx.Response, float]] = []

    def ask(method: str, path: str, body: object) -> None:
        began = time.monotonic()
        answer = site.ask(method, path, body)
        answers.append((answer, time.monotonic() - began))

    calls = [
        ("PUT", "/models/dnn/aliases/production", {"version": 2}),
        ("PUT", "/models/dnn/aliases/production", {"version": 2}),
        ("PUT", "/models/dnn/aliases/production", {"version": 2}),
        ("POST", "/jobs", {"model": "dnn"}),
        ("POST", "/feedback", FEEDBACK),
        ("GET", "/jobs", None),
        ("GET", "/models/dnn/versions", None),
        ("GET", "/jobs/1/events", None),
    ]
    threads = [threading.Thread(target=ask, args=call) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == len(calls)
    return answers


def assert_refused_in_time(answers: list[tuple[httpx.Response, float]]) -> None:
    for answer, seconds in answers:
        assert answer.status_code == 503, answer.text
        assert answer.json()["code"] == "store_unavailable"
        assert answer.headers["Retry-After"] == "5"
        assert seconds < BOUND_S


def serves(site: Site, version: int) -> bool:
    return bool(site.ask("GET", "/models/dnn").json()["version"] == version)


@pytest.mark.parametrize("how", ["killed", "stopped"])
def test_predictions_continue_without_the_database_and_writes_after_it_returns(
    site: Site, server: Cluster, how: str
) -> None:
    site.serve()
    with opened_store(site.settings) as repository:
        repository.register(PRETRAINED / "dnn", "dnn")

    with fault(site.url) as load:
        (server.kill if how == "killed" else server.stop)()
        answers = admin_calls(site)
        ready = site.ask("GET", "/health/ready")
        asked = load.requests
        eventually(lambda: load.requests > asked + 10, "predictions continue", log=site.log)
        (server.start if how == "killed" else server.go_on)()
        eventually(
            lambda: site.ask("GET", "/jobs").status_code == 200, "jobs are listed", log=site.log
        )
        with opened_store(site.settings) as repository:
            repository.point("dnn", "production", 2)
        eventually(lambda: serves(site, 2), "version 2 serves", log=site.log)
        assert site.ask("POST", "/feedback", FEEDBACK).json()["total"] == 1

    assert_refused_in_time(answers)
    assert ready.status_code == 200


@pytest.mark.parametrize("how", ["killed", "stopped"])
def test_an_event_stream_ends_without_the_database_and_can_be_resumed(
    site: Site, server: Cluster, how: str
) -> None:
    site.serve()
    number = site.post()
    began, ended = threading.Event(), threading.Event()

    def follow() -> None:
        url = f"{site.url}/jobs/{number}/events"
        with httpx.stream("GET", url, trust_env=False, timeout=None) as stream:
            for _ in stream.raise_for_status().iter_lines():
                began.set()
        ended.set()

    with fault(site.url):
        thread = threading.Thread(target=follow)
        thread.start()
        assert began.wait(BOUND_S)
        (server.kill if how == "killed" else server.stop)()
        assert ended.wait(BOUND_S)
        (server.start if how == "killed" else server.go_on)()
        thread.join()
        eventually(
            lambda: site.ask("GET", f"/jobs/{number}").status_code == 200,
            "the job is readable",
            log=site.log,
        )
        assert site.ask("POST", f"/jobs/{number}/cancel").status_code == 202
        assert "event: status" in site.ask("GET", f"/jobs/{number}/events").text


@pytest.mark.parametrize(("lease_s", "attempts"), [(60.0, 1), (LEASE_S, 2)])
def test_a_job_survives_the_loss_of_the_database(
    site: Site, server: Cluster, lease_s: float, attempts: int, undisturbed: str
) -> None:
    """Within its lease the training continues. After its lease it is resumed by another attempt."""
    site.serve()
    site.start(*SELF, "worker", stage="mid-epoch", PERCEPTD_LEASE_S=str(lease_s))
    number = site.post()
    site.reached()

    with fault(site.url):
        server.kill()
        away = (
            "still serving what is loaded" if attempts == 1 else "no jobs while the store is away"
        )
        eventually(lambda: site.said(away) > 0, f"the log says {away}", log=site.log)
        server.start()
        site.go_on()
        assert_one_whole_version(site, number, undisturbed)

    with opened(site.settings) as (jobs, _):
        assert jobs.get(number).attempts == attempts
