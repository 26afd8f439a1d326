"""One claimed job, for what a worker does with it."""

import threading

import pytest
from sqlalchemy import Engine

from perceptd.service.jobs.claims import Claims
from perceptd.service.jobs.queue import Job, Jobs
from tests.service.jobs.playing import claimed, claims_of


@pytest.fixture
def claims(database: Engine) -> Claims:
    return claims_of(database)


@pytest.fixture
def job(jobs: Jobs, claims: Claims) -> Job:
    jobs.submit("train", "dnn", {"model": "dnn"}, {"architecture": "dnn"})
    return claimed(claims)


@pytest.fixture
def stop() -> threading.Event:
    """What stops the worker."""
    return threading.Event()
