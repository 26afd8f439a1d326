"""Tables, and the connection to SQLite or PostgreSQL.

Written with SQLAlchemy's Core: three tables need no object mapper, whose import would be a tenth of
a server's start.
"""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import (
    JSON,
    URL,
    Column,
    Connection,
    DateTime,
    Engine,
    ForeignKey,
    ForeignKeyConstraint,
    Integer,
    MetaData,
    String,
    Table,
    create_engine,
    event,
    inspect,
    text,
)

from service.errors import StoreError
from service.settings import Settings

MIGRATIONS = Path(__file__).parent / "migrations"
HEAD = "0001"  # the newest revision in `migrations/`
FILE = "perceptd.db"
BUSY_TIMEOUT_MS = 5000
TIMEOUT_S = 5  # an absent database holds nobody up for longer
STARTUP_LOCK, WRITER_LOCK = 0x7065_7263, 0x7065_7264  # any numbers, the same in every process

metadata = MetaData()

# A name that serves.
models = Table(
    "models",
    metadata,
    Column("name", String, primary_key=True),
    Column("architecture", String, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
)

# One immutable version of a model; its files lie in `checkpoints/MODEL/VERSION/`.
versions = Table(
    "versions",
    metadata,
    Column("model", String, ForeignKey("models.name"), primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("sha256", String, nullable=False),
    Column("parent", Integer),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("meta", JSON, nullable=False),
)

# A name that points to a version: `production`, `previous`, or the user's own.
aliases = Table(
    "aliases",
    metadata,
    Column("model", String, primary_key=True),
    Column("alias", String, primary_key=True),
    Column("version", Integer, nullable=False),
    Column("updated_at", DateTime(timezone=True), nullable=False),
    ForeignKeyConstraint(["model", "version"], ["versions.model", "versions.version"]),
)


def connect(settings: Settings) -> Engine:
    """An engine for the configured database; SQLite in WAL mode, its folder made if absent."""
    if settings.database_url is None:
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        engine = create_engine(URL.create("sqlite", database=str(settings.data_dir / FILE)))
        event.listen(engine, "connect", _configure_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    # Text is UTF-8 whatever encoding the database was made with.
    options = {"client_encoding": "utf8", "connect_timeout": TIMEOUT_S}
    return create_engine(
        settings.database_url, connect_args=options, pool_timeout=TIMEOUT_S, pool_pre_ping=True
    )


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """A transaction that changes the store: one at a time, over all processes."""
    with engine.execution_options(perceptd_writes=True).begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": WRITER_LOCK})
        yield connection


def migrate(engine: Engine, data_dir: Path) -> None:
    """Bring the tables up to date, one process at a time.

    Raises `StoreError` for tables of a newer release.
    """
    with startup_lock(engine, data_dir):
        revision = revision_of(engine)
        if revision is None:
            _create(engine)
        elif revision > HEAD:
            raise StoreError(f"the database is of a newer release: its revision is {revision}")
        elif revision < HEAD:
            upgrade(engine)


def upgrade(engine: Engine) -> None:
    """Run the migrations that the tables have not seen."""
    from alembic import command  # a third of a second that most starts need not spend
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def revision_of(engine: Engine) -> str | None:
    """The revision that the tables are at; None for an empty database."""
    with engine.connect() as connection:
        if not inspect(connection).has_table("alembic_version"):
            return None
        revision: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
        return revision


@contextmanager
def startup_lock(engine: Engine, data_dir: Path) -> Iterator[None]:
    """Held by one process at a time while it migrates and seeds a store."""
    if engine.dialect.name == "postgresql":
        with engine.connect() as connection:
            connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": STARTUP_LOCK})
            try:
                yield
            finally:
                connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": STARTUP_LOCK})
    else:
        with (data_dir / ".startup.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _create(engine: Engine) -> None:
    """The newest tables in an empty database, marked as Alembic marks them."""
    with engine.begin() as connection:
        metadata.create_all(connection)
        connection.execute(
            text("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)")
        )
        connection.execute(text("INSERT INTO alembic_version VALUES (:head)"), {"head": HEAD})


def _configure_sqlite(connection: Any, _: Any) -> None:
    connection.isolation_level = None  # transactions begin where _begin_sqlite says so
    for pragma in (
        f"busy_timeout = {BUSY_TIMEOUT_MS}",
        "journal_mode = WAL",
        "synchronous = FULL",
        "foreign_keys = ON",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get("perceptd_writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
