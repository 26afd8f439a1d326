from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine

from perceptd.service.settings import Settings
from perceptd.service.store import db, tables

pytestmark = pytest.mark.database


def differences(database: Engine) -> list[Any]:
    """How the tables differ from those that the code expects."""
    with database.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        return list(compare_metadata(context, tables.metadata))


@pytest.mark.parametrize("make", ["at once", "by migrations"])
def test_an_empty_database_gets_the_tables_that_the_code_expects(
    store_settings: Settings, make: str
) -> None:
    database = db.connect(store_settings)
    assert db.revision_of(database) is None

    if make == "at once":
        db.migrate(database, store_settings.data_dir)
    else:
        db.upgrade(database)

    assert db.revision_of(database) == db.HEAD
    assert differences(database) == []
    db.upgrade(database)
    db.migrate(database, store_settings.data_dir)
    assert differences(database) == []
    database.dispose()


def test_head_is_the_newest_migration() -> None:
    config = Config()
    config.set_main_option("script_location", str(db.MIGRATIONS))
    config.set_main_option("path_separator", "os")
    assert ScriptDirectory.from_config(config).get_heads() == [db.HEAD]
