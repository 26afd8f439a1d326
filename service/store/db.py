"""The database, SQLite or PostgreSQL: connection, transactions, migration."""

import errno
import fcntl
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, inspect, text
from sqlalchemy.exc import DataError, IntegrityError, ProgrammingError, SQLAlchemyError

from perceptd.service.errors import DiskError, StoreError
from perceptd.service.settings import TIMEOUT_S, Settings
from perceptd.service.store.tables import metadata

MIGRATIONS = Path(__file__).parent / "migrations"
HEAD = "0003"  # the newest revision in `migrations/`
FILE = "perceptd.db"
BUSY_TIMEOUT_MS = 5000
STARTUP_S = 60  # for another process to prepare the store
POLL_S = 0.05  # between attempts to take the startup lock
STARTUP_LOCK, WRITER_LOCK = 0x7065_7263, 0x7065_7264  # arbitrary, the same in all processes


def connect(settings: Settings) -> Engine:
    """An engine for the configured database; SQLite is in WAL mode, in a folder that is created."""
    if settings.database_url is None:
        make_folder(settings.data_dir)
        engine = create_engine(URL.create("sqlite", database=str(settings.data_dir / FILE)))
        event.listen(engine, "connect", _configure_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    from perceptd.service.store import (
        postgresql,  # takes 0.1 s, which a store on SQLite saves
    )

    return postgresql.connect(settings.database_url)


def check_folder(data_dir: Path) -> None:
    """Raises `NotADirectoryError` if something else has the place of the store's folder."""
    if data_dir.exists() and not data_dir.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, "it is not a folder")


def make_folder(data_dir: Path) -> None:
    """Create the folder of the store, accessible to its owner only, unless it exists."""
    check_folder(data_dir)
    data_dir.parent.mkdir(parents=True, exist_ok=True)
    data_dir.mkdir(mode=0o700, exist_ok=True)


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """A transaction that only reads."""
    with store_errors(), engine.connect() as connection:
        yield connection


@contextmanager
def updating(engine: Engine) -> Iterator[Connection]:
    """A transaction that changes rows, which it locks itself."""
    with store_errors(), engine.execution_options(perceptd_writes=True).begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(text(f"SET LOCAL lock_timeout = '{TIMEOUT_S}s'"))
        yield connection


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """A transaction that changes the store, one at a time over all processes."""
    with updating(engine) as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": WRITER_LOCK})
        yield connection


def now(connection: Connection) -> datetime:
    """The time of the database, which all machines share; of this machine for SQLite."""
    if connection.dialect.name == "postgresql":
        instant: datetime = connection.execute(text("SELECT clock_timestamp()")).scalar_one()
        return instant
    return datetime.now(UTC)


@contextmanager
def store_errors() -> Iterator[None]:
    """Turn errors of database and disk into `StoreError`, without statement and parameters."""
    try:
        yield
    except (DataError, IntegrityError):  # the values are wrong, not the store
        raise
    except SQLAlchemyError as error:
        cause = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
        raise StoreError(f"the database cannot be used: {cause}") from error
    except OSError as error:
        reason = error.strerror or error
        raise DiskError(f"the data folder cannot be used: {reason}") from error


def has_other_tables(error: StoreError) -> bool:
    """Whether a table or column is missing, as in another release; a retry cannot help."""
    cause = error.__cause__
    if isinstance(cause, ProgrammingError):
        return True
    code = getattr(getattr(cause, "orig", None), "sqlite_errorcode", None)
    return code == sqlite3.SQLITE_ERROR  # a wrong statement; locks and disks have other codes


def migrate(engine: Engine, data_dir: Path) -> None:
    """Create or upgrade the tables, one process at a time.

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
    """Run the pending migrations."""
    from alembic import command  # takes 0.3 s, which most starts save
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            from perceptd.service.store.postgresql import disable_silence_limit

            disable_silence_limit(connection)
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def revision_of(engine: Engine) -> str | None:
    """The revision of the tables; None for an empty database."""
    with engine.connect() as connection:
        if not inspect(connection).has_table("alembic_version"):
            return None
        revision: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
        return revision


@contextmanager
def startup_lock(engine: Engine, data_dir: Path) -> Iterator[None]:
    """A lock that one process at a time holds while it migrates and fills a store.

    Raises `StoreError` if another process holds it for too long.
    """
    if engine.dialect.name == "postgresql":
        with engine.connect() as connection:

            def taken() -> bool:
                asked = text("SELECT pg_try_advisory_lock(:key)")
                is_taken = bool(connection.scalar(asked, {"key": STARTUP_LOCK}))
                connection.commit()  # the session keeps the lock; the transaction must not idle
                return is_taken

            _wait_until(taken)
            try:
                yield
            finally:
                connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": STARTUP_LOCK})
    else:
        with (data_dir / ".startup.lock").open("w") as file:
            _wait_until(lambda: _locked(file.fileno()))
            yield


def _wait_until(taken: Callable[[], bool]) -> None:
    deadline = time.monotonic() + STARTUP_S
    while not taken():
        if time.monotonic() > deadline:
            raise StoreError(f"another process has been preparing the store for over {STARTUP_S} s")
        time.sleep(POLL_S)


def _locked(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _create(engine: Engine) -> None:
    """Create the newest tables in an empty database, with Alembic's mark."""
    with engine.begin() as connection:
        metadata.create_all(connection)
        connection.execute(
            text("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)")
        )
        connection.execute(text("INSERT INTO alembic_version VALUES (:head)"), {"head": HEAD})


def _configure_sqlite(connection: Any, _: Any) -> None:
    connection.isolation_level = None  # _begin_sqlite begins transactions
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
