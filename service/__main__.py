"""The command `perceptd`."""

import copy
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any

import anyio
import click
import uvicorn
from pydantic import ValidationError

from models import preprocessing
from models.checkpoint import CheckpointError
from models.picture import PictureError
from service import db
from service.app import create_app
from service.engine import Engine, LoadedVersion
from service.errors import InvalidInputError, PerceptdError
from service.repository import PRODUCTION, Repository
from service.request_schemas import RequestSchemas
from service.runtimes import DeviceError, Rows
from service.settings import Settings

SECRET = ("database_url", "predict_token")  # settings whose value is never repeated
BAR = 30  # characters of a bar that stands for certainty
EXPECTED_ERRORS = (CheckpointError, DeviceError, PerceptdError, PictureError, OSError)


DATA_DIR = click.option(
    "--data-dir", type=click.Path(path_type=Path), help="Folder of the store.  [default: data]"
)


@click.group()
@click.version_option(installed_version("perceptd"), prog_name="perceptd")
def cli() -> None:
    """Serve PyTorch classifiers over REST.

    Each setting can also be given as an environment variable, --data-dir as PERCEPTD_DATA_DIR;
    the README lists them all.
    """


@cli.command()
@click.option("--host", help="Address to listen on.  [default: 127.0.0.1]")
@click.option("--port", type=int, help="Port to listen on.  [default: 8000]")
@DATA_DIR
@click.option("--device", help="auto, cpu, cuda or mps.  [default: auto]")
@click.option("--runtime", help="auto, onnx or torch.  [default: auto]")
def serve(**overrides: Any) -> None:
    """Serve the models of the store; a new store is given the shipped ones."""
    settings = read_settings(**overrides)
    with opened_store(settings):
        pass  # a store that cannot be used ends in a sentence here, not in the server's traceback
    app = create_app(settings)
    uvicorn.run(
        app,
        host=settings.host,
        port=settings.port,
        log_config=log_config(settings.log_level),
        access_log=settings.access_log,
    )


@cli.group(invoke_without_command=True)
@DATA_DIR
@click.pass_context
def models(context: click.Context, /, data_dir: Path | None) -> None:
    """List the models of the store, with versions, aliases and held-out accuracy."""
    context.obj = data_dir
    if context.invoked_subcommand:
        return
    with opened_store(read_settings(data_dir=data_dir)) as repository:
        for model in repository.production():
            for version in repository.versions(model):
                accuracy = version.meta.metrics.get("test", {}).get("accuracy")
                click.echo(
                    f"{model:<16} {version.version:>3}  {', '.join(version.aliases) or '-':<22} "
                    f"{'-' if accuracy is None else f'{accuracy:.4f}':>6}  "
                    f"{version.meta.architecture}, {version.created_at:%Y-%m-%d %H:%M}"
                )


@models.command()
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option("--name", help="The model's name.  [default: its architecture's]")
@click.option("--promote", is_flag=True, help="Make it production, as a model's first version is.")
@DATA_DIR
@click.pass_obj
def add(
    above: Path | None, checkpoint: Path, name: str | None, promote: bool, data_dir: Path | None
) -> None:
    """Add the folder CHECKPOINT to the store as a model's next version.

    A running server that uses the same store serves it within a second once it is production.
    """
    settings = read_settings(data_dir=data_dir or above)
    with opened_store(settings) as repository:
        model, version = repository.register(checkpoint, name, promote=promote)
        aliases = repository.version(model, version).aliases
    state = ", production" if PRODUCTION in aliases else ""
    click.echo(f"{model} version {version}{state}, in {settings.data_dir}")


@models.command()
@click.argument("model")
@click.argument("version", type=int)
@DATA_DIR
@click.pass_obj
def promote(above: Path | None, model: str, version: int, data_dir: Path | None) -> None:
    """Make VERSION of MODEL production: forward, or back to where `previous` points."""
    with opened_store(read_settings(data_dir=data_dir or above)) as repository:
        repository.promote(model, version)
    click.echo(f"{model} version {version}, production")


@cli.command(context_settings={"ignore_unknown_options": True})
@click.argument("model")
@click.argument("input", metavar="PICTURE|NUMBERS")
@click.option("--version", type=int, help="A version by number.  [default: production]")
@click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON.")
@DATA_DIR
def predict(model: str, input: str, version: int | None, as_json: bool, **overrides: Any) -> None:
    """Ask MODEL about a picture file, or about numbers: perceptd predict dnn 0.1,-0.2

    Prints the answer, and a bar per class with its probability. No server needs to run.
    """
    settings = read_settings(**overrides)
    with opened_store(settings) as repository:
        engine = Engine(repository, settings)
        engine.refresh()
        loaded = anyio.run(engine.find, model, version)
        answer = loaded.answer(rows_of(loaded, input, settings), settings.max_batch_size)
    labels, index = loaded.spec.labels, int(answer.indices[0])
    probabilities = dict(zip(labels, answer.probabilities[0].tolist(), strict=True))
    if as_json:
        facts = {"model": model, "version": loaded.version, "label": labels[index]}
        click.echo(json.dumps({**facts, "index": index, "probabilities": probabilities}))
        return
    click.secho(f"{labels[index]}", bold=True, nl=False)
    click.echo(f"  ({model} version {loaded.version})")
    width = max(map(len, labels))
    for label, probability in probabilities.items():
        bar = "█" * round(probability * BAR)
        click.echo(f"{label:>{width}}  {bar:<{BAR}} {probability:7.2%}")


def log_config(level: str) -> dict[str, Any]:
    """uvicorn's logging, which the service's own loggers share."""
    config = copy.deepcopy(uvicorn.config.LOGGING_CONFIG)
    for logger in config["loggers"].values():
        logger["level"] = level.upper()
    config["loggers"]["perceptd"] = config["loggers"]["uvicorn"]
    return config


def rows_of(loaded: LoadedVersion, text: str, settings: Settings) -> Rows:
    """One row from what stands on the command line."""
    spec = loaded.spec.input
    try:
        numbers = [float(number) for number in text.strip("[]").split(",")]
    except ValueError:
        return row_of_picture(loaded, Path(text), settings)
    schemas = RequestSchemas({loaded.model: loaded.spec}, {}, settings.max_rows)
    request = schemas.parse(json.dumps({"model": loaded.model, "inputs": [numbers]}).encode())
    return preprocessing.from_numbers(spec, request.inputs, request.dtype)


def row_of_picture(loaded: LoadedVersion, path: Path, settings: Settings) -> Rows:
    if not path.is_file():
        raise InvalidInputError(f"'{path}' is neither a file nor numbers such as 0.1,-0.2")
    if loaded.spec.input.picture is None:
        raise InvalidInputError(f"{loaded.model} takes numbers, not pictures")
    return preprocessing.from_picture(
        loaded.spec.input, path.read_bytes(), max_pixels=settings.max_picture_pixels
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


def main() -> None:
    try:
        cli()
    except EXPECTED_ERRORS as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
