"""Tables, and the connection to SQLite or PostgreSQL."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import (
    JSON,
    Connection,
    DateTime,
    Engine,
    ForeignKey,
    ForeignKeyConstraint,
    create_engine,
    event,
    inspect,
    make_url,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from service.settings import Settings

MIGRATIONS = Path(__file__).parent / "migrations"
HEAD = "0001"  # the newest revision in `migrations/`
BUSY_TIMEOUT_MS = 5000
STARTUP_LOCK = 0x7065_7263  # any number, the same in every process


class Base(DeclarativeBase):
    type_annotation_map = {datetime: DateTime(timezone=True), dict[str, Any]: JSON}  # noqa: RUF012


class ModelRow(Base):
    """A name that serves."""

    __tablename__ = "models"

    name: Mapped[str] = mapped_column(primary_key=True)
    architecture: Mapped[str]
    created_at: Mapped[datetime]


class VersionRow(Base):
    """One immutable version of a model; its files lie in `checkpoints/MODEL/VERSION/`."""

    __tablename__ = "versions"

    model: Mapped[str] = mapped_column(ForeignKey("models.name"), primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    sha256: Mapped[str]
    parent: Mapped[int | None]
    created_at: Mapped[datetime]
    meta: Mapped[dict[str, Any]]


class AliasRow(Base):
    """A name that points to a version: `production`, `previous`, or the user's own."""

    __tablename__ = "aliases"
    __table_args__ = (
        ForeignKeyConstraint(["model", "version"], ["versions.model", "versions.version"]),
    )

    model: Mapped[str] = mapped_column(primary_key=True)
    alias: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[int]
    updated_at: Mapped[datetime]


def connect(settings: Settings) -> Engine:
    """An engine for the configured database; SQLite in WAL mode, its folder made if absent."""
    url = make_url(settings.sqlalchemy_url)
    if url.get_backend_name() == "postgresql":  # whatever encoding the database was made with
        url = url.update_query_dict({"client_encoding": "utf8"})
    engine = create_engine(url, pool_pre_ping=True)
    if engine.dialect.name == "sqlite":
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        event.listen(engine, "connect", _configure_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    return engine


def writing(engine: Engine) -> Engine:
    """The same engine, for transactions that write: SQLite then locks at their beginning."""
    return engine.execution_options(perceptd_writes=True)


def migrate(engine: Engine, data_dir: Path) -> None:
    """Bring the tables up to date, one process at a time."""
    if revision_of(engine) == HEAD:
        return
    from alembic import command  # a third of a second that most starts need not spend
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with startup_lock(engine, data_dir), engine.begin() as connection:
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
