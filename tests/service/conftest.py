"""A database with today's tables, on both kinds, and the jobs in it."""

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine

from perceptd.service.jobs.queue import Jobs
from perceptd.service.settings import Settings
from perceptd.service.store import db


@pytest.fixture
def database(store_settings: Settings) -> Iterator[Engine]:
    engine = db.connect(store_settings)
    db.migrate(engine, store_settings.data_dir)
    yield engine
    engine.dispose()


@pytest.fixture
def jobs(database: Engine) -> Jobs:
    return Jobs(database)
