"""One claimed job, for what a worker does with it."""

import pytest
from sqlalchemy import Engine

from perceptd.service.jobs.claims import Claims
from perceptd.service.jobs.queue import Job, Jobs


@pytest.fixture
def claims(database: Engine) -> Claims:
    return Claims(database, "a worker", lease_s=600, max_attempts=3)


@pytest.fixture
def job(jobs: Jobs, claims: Claims) -> Job:
    jobs.submit("train", "dnn", {"model": "dnn"}, {"architecture": "dnn"})
    claimed = claims.claim()
    assert claimed
    return claimed
