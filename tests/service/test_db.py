import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from service import db
from service.settings import Settings

pytestmark = pytest.mark.database


def test_migrations_make_the_tables_that_the_code_expects(store_settings: Settings) -> None:
    database = db.connect(store_settings)
    assert db.revision_of(database) is None

    db.migrate(database, store_settings.data_dir)

    assert db.revision_of(database) == db.HEAD
    with database.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, db.Base.metadata) == []
    database.dispose()


def test_head_is_the_newest_migration() -> None:
    config = Config()
    config.set_main_option("script_location", str(db.MIGRATIONS))
    config.set_main_option("path_separator", "os")
    assert ScriptDirectory.from_config(config).get_heads() == [db.HEAD]
