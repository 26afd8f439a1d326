"""What several commands need: settings, the store, standard input."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import click
from pydantic import ValidationError
from sqlalchemy import Engine

from perceptd.models.checkpoint import CheckpointError
from perceptd.models.tracing import TracingError
from perceptd.service.auth.tokens import Tokens
from perceptd.service.errors import (
    DeviceError,
    PerceptdError,
    ServerError,
    StoreError,
)
from perceptd.service.settings import Settings, option_and_variable_of, unknown_variable
from perceptd.service.store import db
from perceptd.service.store.repository import Repository

EXPECTED_ERRORS = (
    CheckpointError,
    DeviceError,
    PerceptdError,
    ServerError,
    TracingError,
    OSError,
)
STDIN = 0
SECRET = ("database_url", "predict_token", "admin_token")  # values that no message repeats

ADDS_MODELS = "`perceptd serve` adds the shipped ones, `perceptd models add` your own"

DATA_DIR = click.option(
    "--data-dir", type=click.Path(path_type=Path), help="Folder of the store.  [default: data]"
)


@contextmanager
def running() -> Iterator[None]:
    """Run a command: keep its files from other users, end expected errors in one sentence."""
    os.umask(os.umask(0o077) | 0o007)
    try:
        yield
    except BrokenPipeError:
        raise  # click ends without a word
    except EXPECTED_ERRORS as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(1)


def read_settings(**overrides: Any) -> Settings:
    """The environment's settings, with those of the command line on top.

    Raises `UsageError` for an invalid one, and for a variable that is not a setting: it is most
    likely misspelt, and would otherwise be ignored.
    """
    if unknown := unknown_variable(os.environ):
        raise click.UsageError(unknown)
    try:
        return Settings(**{key: value for key, value in overrides.items() if value is not None})
    except ValidationError as error:
        first = error.errors()[0]
        name = f"{option_and_variable_of(str(first['loc'][0]))}: " if first["loc"] else ""
        is_public = first["loc"] and first["loc"][0] not in SECRET
        got = f", got {first['input']!r}" if is_public else ""
        raise click.UsageError(f"{name}{first['msg'].removeprefix('Value error, ')}{got}") from None


@contextmanager
def opened_store(settings: Settings) -> Iterator[Repository]:
    """The store of these settings, created or upgraded if necessary.

    Raises `StoreError`.
    """
    with _named_errors(settings):
        database = db.connect(settings)
    try:
        repository = Repository(database, settings.data_dir)
        with _named_errors(settings):
            repository.prepare()
        yield repository
    finally:
        database.dispose()


@contextmanager
def existing_store(settings: Settings) -> Iterator[Engine]:
    """The database of these settings for commands that read: neither created nor upgraded.

    Raises `StoreError` if there is no store, or one of another release.
    """
    name = _setting_of_store(settings)
    place = "this database" if settings.database_url else settings.data_dir
    no_store = StoreError(f"{name}: there is no store at {place}: `perceptd serve` creates one")
    if settings.database_url is None and not (settings.data_dir / db.FILE).exists():
        with _named_errors(settings):
            db.check_folder(settings.data_dir)
        raise no_store
    database = db.connect(settings)
    try:
        with _named_errors(settings):
            revision = db.revision_of(database)
        if revision is None:
            raise no_store
        if revision != db.HEAD:
            raise StoreError(
                f"{name}: the store at {place} has revision {revision}, expected {db.HEAD}: "
                "`perceptd serve` upgrades the store of an earlier release"
            )
        yield database
    finally:
        database.dispose()


@contextmanager
def _named_errors(settings: Settings) -> Iterator[None]:
    """Errors of the store and its folder, each with the setting that says where the store is."""
    place = "" if settings.database_url else f" ({settings.data_dir})"
    try:
        with db.store_errors():
            yield
    except StoreError as error:
        raise type(error)(f"{_setting_of_store(settings)}: {error}{place}") from error


def _setting_of_store(settings: Settings) -> str:
    return option_and_variable_of("database_url" if settings.database_url else "data_dir")


@contextmanager
def issued_tokens(settings: Settings) -> Iterator[Tokens]:
    """The tokens issued in the store of these settings, which is created or upgraded."""
    with _named_errors(settings):
        db.make_folder(settings.data_dir)
    database = db.connect(settings)
    try:
        with _named_errors(settings):
            db.migrate(database, settings.data_dir)
        yield Tokens(database)
    finally:
        database.dispose()


def tell_ready() -> None:
    """Send a byte to the process at the other end of standard input, if it still runs."""
    with suppress(ConnectionError):
        os.write(STDIN, b".")


def wait_for_end_of_input() -> None:
    """Wait until standard input ends, as it does when the process at its other end does."""
    # sys.stdin has a lock that a waiting thread would hold while the interpreter shuts down.
    with suppress(ConnectionResetError):  # it was killed before it read what it was sent
        while os.read(STDIN, 4096):
            pass
