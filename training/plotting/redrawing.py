"""The pictures of a checkpoint, drawn anew from its weights, its curve and its data."""

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import numpy as np
from pydantic import ValidationError
from torch import nn

from perceptd.models import checkpoint, registry
from perceptd.models.checkpoint import FILES, META, WEIGHTS, CheckpointError, Meta
from perceptd.models.registry import Architecture
from perceptd.training import recipes
from perceptd.training.data import datasets, feedback, files
from perceptd.training.data.datasets import Maker
from perceptd.training.data.splits import Dataset
from perceptd.training.errors import DataError, DrawingError, UnknownRecipeError
from perceptd.training.evaluation.evaluate import classifier
from perceptd.training.importing import import_module
from perceptd.training.options import next_free
from perceptd.training.plotting import plots
from perceptd.training.plotting.plane import Classifier

PICTURES = Path("plots")


def draw_checkpoint(folder: Path, *, dataset: str | None, data_dir: Path, out: Path | None) -> None:
    """Draw what was drawn when a checkpoint was made; what its data are not there for is told.

    Whatever fails on the way leaves no picture behind.

    Raises `CheckpointError`, `DataError`, `DrawingError`.
    """
    meta = checkpoint.read(folder)
    target = free_place(out or next_free(PICTURES / meta.architecture))
    architecture = replace(registry.load(meta.architecture), spec=meta.spec)
    classify = classifier_of(folder, meta, architecture)
    picture = plots.picture_of_data(meta.spec)
    data, missing = None, "other picture of such a model"
    if picture or dataset:
        try:
            data = open_data(folder, meta, dataset, data_dir)
        except DataError as error:
            if dataset:
                raise
            missing = f"{picture} ({error})"
    if not (data or meta.curve):
        raise DrawingError(f"nothing to draw of {folder}: no loss curve, no {missing}")
    place = next(path for path in (target, *target.resolve().parents) if path.is_dir())
    with TemporaryDirectory(prefix=".unfinished-", dir=place) as unfinished:
        plots.draw(Path(unfinished), architecture, classify, data, meta.curve)
        target.mkdir(parents=True, exist_ok=True)
        for drawn in _pictures_in(Path(unfinished)):
            drawn.rename(target / drawn.name)
    click.echo(f"{target}: {', '.join(path.name for path in _pictures_in(target))}")
    if picture and not data:
        click.echo(f"Not drawn: {missing}", err=True)


def free_place(folder: Path) -> Path:
    """Where pictures go; refused before any work where some are, or a checkpoint would change."""
    if folder.exists() and not folder.is_dir():
        raise DrawingError(f"{folder} is no folder")
    for path in (place := folder.resolve(), *place.parents):
        if (path / META).is_file() and (path / WEIGHTS).is_file():
            raise DrawingError(f"{folder} is in a checkpoint, and those are never changed")
    if taken := _pictures_in(folder):
        raise DrawingError(f"{taken[0]} exists, and a picture is never overwritten")
    return folder


def classifier_of(folder: Path, meta: Meta, architecture: Architecture) -> Classifier:
    """What a verified checkpoint answers. Raises `CheckpointError`, `ImportFileError`."""
    spec = meta.spec
    classify = classifier(module_of(folder, meta, architecture), spec.head)
    try:
        answered = classify(np.zeros((1, *spec.input.shape), dtype=np.float32)).shape
    except RuntimeError:
        answered = None
    if answered != (1, len(spec.labels)):
        raise CheckpointError(
            f"{folder}: {META} does not fit {architecture.name}, which cannot have rows of shape "
            f"{spec.input.shape}, a {spec.head} head and {len(spec.labels)} labels"
        )
    return classify


def module_of(folder: Path, meta: Meta, architecture: Architecture) -> nn.Module:
    """The module of a verified checkpoint. Raises `CheckpointError`, `ImportFileError`."""
    try:
        config = architecture.config.model_validate(meta.config)
    except ValidationError as error:
        raise CheckpointError(
            f"{folder}: {architecture.name} has no such settings as {meta.config}"
        ) from error
    return import_module(architecture, config, folder / WEIGHTS)


def open_data(folder: Path, meta: Meta, dataset: str | None, data_dir: Path) -> Dataset:
    """The data that a checkpoint was made with: those named here, else those that it names.

    Raises `DataError` where they are not there, `DrawingError` for others.
    """
    data = (
        datasets.load(dataset, meta.spec, data_dir)
        if dataset
        else datasets.load_present(_recorded(folder, meta, data_dir), meta.spec, data_dir)
    )
    if meta.dataset and data.ref.sha256 != meta.dataset.sha256:
        raise DrawingError(
            f"{folder} was made with {meta.dataset.name} of SHA-256 {meta.dataset.sha256}, and "
            f"{data.name} has {data.ref.sha256}: name the right file with --dataset"
        )
    return data


def _recorded(folder: Path, meta: Meta, data_dir: Path) -> str | Maker:
    """The data set that a checkpoint names. Raises `DataError` where that leads nowhere.

    A file is looked for from here, from `data_dir`, and from the store that `folder` is in as
    `checkpoints/MODEL/VERSION`: a job names it as the store has it.
    """
    if meta.dataset is None:
        raise DataError("it was made without data; name some with --dataset")
    if meta.dataset.name.endswith(feedback.SUFFIX):
        raise DataError(f"{meta.dataset.name} holds corrections, which are in the store alone")
    recorded = str((meta.recipe or {}).get("dataset", meta.dataset.name))
    try:
        made = [recipe.dataset for recipe in recipes.of(meta.architecture).values()]
    except UnknownRecipeError:
        made = []
    for maker in made:  # of a plug-in
        if callable(maker) and maker.__name__ == recorded:
            return maker
    if Path(recorded).suffix not in files.SUFFIXES:
        return recorded
    for place in (Path(), data_dir, *folder.resolve().parents[2:3]):
        if (place / recorded).is_file():
            return str(place / recorded)
    raise DataError(f"{recorded} is not there; name it with --dataset")


def _pictures_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*") if FILES.fullmatch(f"plots/{path.name}"))
