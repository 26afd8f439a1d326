"""What more than one command needs: settings, the store, standard input."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import click
from pydantic import ValidationError

from perceptd.service.auth.tokens import Tokens
from perceptd.service.errors import DiskError, StoreError
from perceptd.service.settings import Settings, option_and_variable_of, unknown_variable
from perceptd.service.store import db
from perceptd.service.store.repository import Repository

STDIN = 0
SECRET = ("database_url", "predict_token", "admin_token")  # whose value is never repeated

DATA_DIR = click.option(
    "--data-dir", type=click.Path(path_type=Path), help="Folder of the store.  [default: data]"
)


def read_settings(**overrides: Any) -> Settings:
    """The environment's settings with the command line's on top; a wrong one ends in a sentence.

    A variable that nobody reads is most likely misspelt, and what it was to say is not heard: that
    is a wrong one too.
    """
    if unknown := unknown_variable(os.environ):
        raise click.UsageError(unknown)
    try:
        return Settings(**{key: value for key, value in overrides.items() if value is not None})
    except ValidationError as error:
        first = error.errors()[0]
        name = f"{option_and_variable_of(str(first['loc'][0]))}: " if first["loc"] else ""
        told = first["loc"] and first["loc"][0] not in SECRET
        got = f", got {first['input']!r}" if told else ""
        raise click.UsageError(f"{name}{first['msg'].removeprefix('Value error, ')}{got}") from None


@contextmanager
def opened_store(settings: Settings) -> Iterator[Repository]:
    """The store of these settings, made or brought up to date.

    Raises `StoreError`, which names the setting that leads there.
    """
    name = option_and_variable_of("database_url" if settings.database_url else "data_dir")
    try:
        database = db.connect(settings)
    except OSError as error:
        raise DiskError(f"{name}: {error.strerror}: {settings.data_dir}") from error
    try:
        repository = Repository(database, settings.data_dir)
        try:
            repository.prepare()
        except StoreError as error:
            place = "" if settings.database_url else f" ({settings.data_dir})"
            raise type(error)(f"{name}: {error}{place}") from error
        yield repository
    finally:
        database.dispose()


@contextmanager
def issued_tokens(settings: Settings) -> Iterator[Tokens]:
    """The tokens issued in the store of these settings, which is made or brought up to date."""
    with db.store_errors():
        db.make_folder(settings.data_dir)
    database = db.connect(settings)
    try:
        with db.store_errors():
            db.migrate(database, settings.data_dir)
        yield Tokens(database)
    finally:
        database.dispose()


def tell_ready() -> None:
    """Tell the process that holds the other end of standard input, if it is still there."""
    with suppress(ConnectionError):
        os.write(STDIN, b".")


def wait_for_end_of_input() -> None:
    """Wait until standard input ends, as it does with the process that holds its other end."""
    # Not through sys.stdin, whose lock a waiting thread would hold when the interpreter shuts down.
    while os.read(STDIN, 4096):
        pass
