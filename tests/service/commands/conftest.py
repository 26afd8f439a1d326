"""A running server, its jobs, and the worker that tests play."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import pytest
from sqlalchemy import Engine

from perceptd.service.jobs.claims import Claims
from perceptd.service.jobs.events import Event
from perceptd.service.jobs.queue import Job
from perceptd.service.settings import Settings
from perceptd.service.store import db
from tests.command_line import Outcome, perceptd
from tests.server import running
from tests.service.jobs.playing import claimed, claims_of


class Site(NamedTuple):
    """A running server, its store, and a worker's hold on the jobs in it."""

    url: str
    settings: Settings
    database: Engine
    claims: Claims

    def perceptd(self, *args: str, **env: str) -> Outcome:
        env = {"PERCEPTD_URL": self.url, **env}
        return perceptd(*args, data_dir=self.settings.data_dir, **env)

    def submit(self, *options: str) -> int:
        result = self.perceptd("jobs", "submit", "dnn", *options, "--json")
        assert result.exit_code == 0, result.stderr
        number: int = json.loads(result.stdout)["id"]
        return number

    def claim(self, number: int) -> Job:
        job = claimed(self.claims)
        assert job.id == number
        return job


@contextmanager
def site_of(settings: Settings, url: str) -> Iterator[Site]:
    database = db.connect(settings)
    try:
        yield Site(url, settings, database, claims_of(database))
    finally:
        database.dispose()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    settings = Settings(data_dir=tmp_path_factory.mktemp("data"))
    with running(settings) as server, site_of(settings, str(server.base_url)) as site:
        yield site


def epoch(number: int, epochs: int = 4) -> Event:
    facts = {"epoch": number, "epochs": epochs, "loss": 0.5 / number, "test_loss": 0.25}
    times = {"seconds": number, "seconds_left": epochs - number}
    return Event("epoch", {**facts, "test_accuracy": 0.9, **times})


def log(line: str) -> Event:
    return Event("log", {"line": line})


PLANE = Event("plane", {"x": [0, 1], "y": [0, 1], "points": [[0.5, 0.5]], "targets": [1]})


def boundary(number: int) -> Event:
    return Event("boundary", {"epoch": number, "size": 2, "probabilities": [0, 1, 2, 3]})


def beat(claims: Claims, job: Job, *events: Event) -> None:
    progress = next((event.data for event in reversed(events) if event.kind == "epoch"), None)
    claims.heartbeat(job, runtime_s=1.5, progress=progress, events=events)
