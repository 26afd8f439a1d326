"""A server without workers, its jobs, and a worker that tests play."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from sqlalchemy import Engine

from perceptd.service.jobs.claims import Claims
from perceptd.service.jobs.queue import Jobs
from perceptd.service.settings import Settings
from perceptd.service.store import db
from tests.server import running
from tests.service.admin import as_admin, guarded
from tests.service.jobs.playing import claims_of


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return guarded(tmp_path_factory.mktemp("data"), max_body_bytes=200_000)


@pytest.fixture(scope="module")
def admin(settings: Settings) -> Iterator[httpx.Client]:
    """A client with the admin's token, of a server without workers."""
    with running(settings) as client:
        yield as_admin(client)


@pytest.fixture(scope="module")
def database(settings: Settings, admin: httpx.Client) -> Iterator[Engine]:
    engine = db.connect(settings)
    yield engine
    engine.dispose()


@pytest.fixture
def jobs(database: Engine) -> Iterator[Jobs]:
    """The jobs of that server; those unfinished are cancelled after each test."""
    jobs = Jobs(database)
    yield jobs
    for job in jobs.unfinished():
        if jobs.cancel(job.id).status == "cancelling":
            claims_of(database, job.worker or "").abort(job)


@pytest.fixture
def claims(database: Engine) -> Claims:
    return claims_of(database)


def submit(admin: httpx.Client, **asked: Any) -> int:
    response = admin.post("/jobs", json={"model": "dnn", **asked})
    assert response.status_code == 202, response.text
    number: int = response.json()["id"]
    return number


def newest(jobs: Jobs) -> int:
    return next((job.id for job in jobs.page(limit=1)), 0)
