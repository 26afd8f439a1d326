"""What more than one command needs: settings, the store, logging."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import uvicorn
from pydantic import ValidationError

from service import db
from service.repository import Repository
from service.settings import Settings

SECRET = ("database_url", "predict_token", "admin_token")  # whose value is never repeated

DATA_DIR = click.option(
    "--data-dir", type=click.Path(path_type=Path), help="Folder of the store.  [default: data]"
)


def read_settings(**overrides: Any) -> Settings:
    """The environment's settings with the command line's on top; a wrong one ends in a sentence."""
    try:
        return Settings(**{key: value for key, value in overrides.items() if value is not None})
    except ValidationError as error:
        first = error.errors()[0]
        name = f"PERCEPTD_{'_'.join(map(str, first['loc'])).upper()}: " if first["loc"] else ""
        told = first["loc"] and first["loc"][0] not in SECRET
        got = f", got {first['input']!r}" if told else ""
        raise click.UsageError(f"{name}{first['msg'].removeprefix('Value error, ')}{got}") from None


@contextmanager
def opened_store(settings: Settings) -> Iterator[Repository]:
    """The store of these settings, made or brought up to date."""
    database = db.connect(settings)
    try:
        repository = Repository(database, settings.data_dir)
        repository.prepare()
        yield repository
    finally:
        database.dispose()


def log_config(level: str) -> dict[str, Any]:
    """uvicorn's logging, which the service's own loggers share."""
    config = copy.deepcopy(uvicorn.config.LOGGING_CONFIG)
    for logger in config["loggers"].values():
        logger["level"] = level.upper()
    config["loggers"]["perceptd"] = config["loggers"]["uvicorn"]
    return config
