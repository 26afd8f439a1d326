"""A store of an earlier release is brought up to date and loses nothing."""

import json
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Engine, MetaData, insert, select

from perceptd.models.checkpoint import META
from perceptd.service.jobs.queue import Jobs
from perceptd.service.settings import Settings
from perceptd.service.store import db
from perceptd.service.store.repository import PRETRAINED, Repository, shipped
from tests.service.jobs.playing import claimed, claims_of
from tests.service.store.test_db import differences

pytestmark = pytest.mark.database

THEN = datetime(2026, 1, 31, 12, 0, 0, 123456, tzinfo=UTC)
VERSIONS = {("dnn", 1): "dnn", ("dnn", 2): "dnn", ("rings", 1): "dnn", ("xor", 1): "xor"}
ALIASES = {
    ("dnn", "production"): 2,
    ("dnn", "previous"): 1,
    ("dnn", "canary"): 1,
    ("rings", "production"): 1,
    ("xor", "production"): 1,
}
TABLES = ("models", "versions", "aliases")


@pytest.fixture
def old(store_settings: Settings) -> Iterator[Engine]:
    """The database of a store at revision 0001, with models, versions and aliases."""
    engine = db.connect(store_settings)
    config = Config()
    config.set_main_option("script_location", str(db.MIGRATIONS))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        tables = MetaData()
        tables.reflect(connection)
        for name, architecture in {model: made for (model, _), made in VERSIONS.items()}.items():
            row: dict[str, Any] = {"name": name, "architecture": architecture, "created_at": THEN}
            connection.execute(insert(tables.tables["models"]).values(row))
        for (model, number), shipped_as in VERSIONS.items():
            folder = PRETRAINED / shipped_as
            meta = json.loads((folder / META).read_text())
            row = {
                "model": model,
                "version": number,
                "sha256": meta["files"]["model.safetensors"],
                "parent": 1 if number == 2 else None,
                "created_at": THEN,
                "meta": meta,
            }
            connection.execute(insert(tables.tables["versions"]).values(row))
            target = store_settings.data_dir / "checkpoints" / model / str(number)
            shutil.copytree(folder, target)
        for (model, alias), number in ALIASES.items():
            row = {"model": model, "alias": alias, "version": number, "updated_at": THEN}
            connection.execute(insert(tables.tables["aliases"]).values(row))
    yield engine
    engine.dispose()


def content(database: Engine) -> dict[str, list[dict[str, Any]]]:
    """Every row of the tables that revision 0001 has, in its columns."""
    tables = MetaData()
    tables.reflect(database, only=TABLES)
    with database.connect() as connection:
        return {
            name: [
                {key: value for key, value in row.items() if key != "job"}
                for row in connection.execute(
                    select(table).order_by(*table.primary_key.columns)
                ).mappings()
            ]
            for name, table in tables.tables.items()
        }


def test_an_older_database_is_upgraded_and_keeps_its_rows(
    old: Engine, store_settings: Settings
) -> None:
    assert db.revision_of(old) == "0001"
    before = content(old)
    assert {name: len(before[name]) for name in TABLES} == {
        "models": 3,
        "versions": 4,
        "aliases": 5,
    }

    db.migrate(old, store_settings.data_dir)

    assert db.revision_of(old) == db.HEAD
    assert differences(old) == []
    assert content(old) == before


def test_an_upgraded_store_serves_what_it_had_and_takes_jobs(
    old: Engine, store_settings: Settings
) -> None:
    repository, jobs = Repository(old, store_settings.data_dir), Jobs(old)
    repository.prepare()

    production = repository.production()
    assert (production["dnn"], production["rings"], production["xor"]) == (2, 1, 1)
    assert set(production) == {folder.name for folder in shipped()} | {"rings"}
    newest, oldest = repository.versions("dnn")
    assert (newest.version, newest.parent, newest.aliases) == (2, 1, ("production",))
    assert oldest.aliases == ("canary", "previous")
    assert {newest.created_at, oldest.created_at} == {THEN}
    assert {version.job for version in (newest, oldest)} == {None}
    for model, number in VERSIONS:
        repository.verified_folder(model, number)

    job = jobs.submit("train", "dnn", {"model": "dnn"}, {})
    claims = claims_of(old)
    assert claimed(claims) == jobs.get(job.id)
    with claims.holding(jobs.get(job.id)) as connection:
        made = repository.register(PRETRAINED / "dnn", job=job.id, within=connection)
    assert made == ("dnn", 3)
    assert repository.version("dnn", 3).job == job.id


def test_processes_that_upgrade_together_upgrade_once(
    old: Engine, store_settings: Settings
) -> None:
    before = content(old)

    def migrate(_: int) -> None:
        engine = db.connect(store_settings)
        db.migrate(engine, store_settings.data_dir)
        engine.dispose()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(migrate, range(4)))
    assert db.revision_of(old) == db.HEAD
    assert content(old) == before
