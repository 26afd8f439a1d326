"""`perceptd predict`: ask a model of the store without a server."""

import json
from pathlib import Path
from typing import Any

import anyio
import click

from perceptd.models import preprocessing
from perceptd.models.pictures.picture import PictureError
from perceptd.models.terminal import did_you_mean
from perceptd.service.commands.common import ADDS_MODELS, DATA_DIR, existing_store, read_settings
from perceptd.service.errors import InvalidInputError, ModelNotFoundError
from perceptd.service.inference.answers import Rows
from perceptd.service.inference.engine import Engine
from perceptd.service.inference.loaded_version import LoadedVersion
from perceptd.service.schemas.requests import PredictRequest, RequestSchemas
from perceptd.service.settings import Settings
from perceptd.service.store.repository import Repository

BAR = 30  # characters of a bar that stands for a probability of 1


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("model")
@click.argument("input", metavar="PICTURE|NUMBERS")
@click.option("--version", type=int, help="A version by number.  [default: production]")
@click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON.")
@DATA_DIR
def predict(model: str, input: str, version: int | None, as_json: bool, **overrides: Any) -> None:
    """Ask MODEL about a picture file, or about numbers: perceptd predict dnn 0.1,-0.2

    Prints the answer and a bar per class with its probability. No server is needed.
    """
    settings = read_settings(**overrides)
    with existing_store(settings) as database:
        repository = Repository(database, settings.data_dir)
        engine = Engine(repository, settings)
        engine.refresh()
        try:
            loaded = anyio.run(engine.find, model, version)
        except ModelNotFoundError as error:
            known = repository.production()
            hint = did_you_mean(model, known) if known else f"; {ADDS_MODELS}"
            raise ModelNotFoundError(f"{error}{hint}") from error
        try:
            rows = rows_of(loaded, input, settings)
        except InvalidInputError as error:
            works = f"perceptd predict {model} {example_of(loaded)}"
            raise InvalidInputError(f"{error}; this works: {works}") from error
        answer = anyio.run(loaded.answer, rows)
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


def example_of(loaded: LoadedVersion) -> str:
    """An input that the model takes."""
    spec = loaded.spec
    return "PICTURE.png" if spec.input.picture else ",".join(map(str, spec.example.inputs[0]))


def rows_of(loaded: LoadedVersion, text: str, settings: Settings) -> Rows:
    """One row from the numbers or the picture file that the command line names."""
    spec = loaded.spec.input
    try:
        numbers = [float(number) for number in text.strip("[]").split(",")]
    except ValueError:
        return row_of_picture(loaded, Path(text), settings)
    schemas = RequestSchemas({loaded.model: loaded.spec}, {}, settings.max_rows)
    body = json.dumps({"model": loaded.model, "inputs": [numbers]}).encode()
    request = schemas.parse(body, PredictRequest)
    return preprocessing.from_numbers(spec, request.inputs, request.dtype)


def row_of_picture(loaded: LoadedVersion, path: Path, settings: Settings) -> Rows:
    if not path.is_file():
        raise InvalidInputError(f"'{path}' is neither a file nor numbers")
    if loaded.spec.input.picture is None:
        raise InvalidInputError(f"{loaded.model} takes numbers, not pictures")
    try:
        return preprocessing.from_picture(
            loaded.spec.input, path.read_bytes(), max_pixels=settings.max_picture_pixels
        )
    except PictureError as error:
        raise InvalidInputError(str(error)) from error
