"""Redraw the plots of a checkpoint from its weights, its curve and its data."""

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

PLOTS = Path("plots")


def draw_checkpoint(folder: Path, *, dataset: str | None, data_dir: Path, out: Path | None) -> None:
    """Draw the plots that were drawn when a checkpoint was made.

    If its data is missing, the plot that needs it is left out, as stderr says. A failure leaves no
    plot behind. Raises `CheckpointError`, `DataError`, `DrawingError`.
    """
    meta = checkpoint.read(folder)
    target = free_place(out or next_free(PLOTS / meta.architecture))
    architecture = replace(registry.load(meta.architecture), spec=meta.spec)
    classify = classifier_of(folder, meta, architecture)
    plot = plots.data_plot(meta.spec)
    data, missing = None, "other plot for such a model"
    if plot or dataset:
        try:
            data = open_data(folder, meta, dataset, data_dir)
        except DataError as error:
            if dataset:
                raise
            missing = f"{plot} ({error})"
    if not (data or meta.curve):
        raise DrawingError(f"{folder} has nothing to draw: no loss curve and no {missing}")
    place = next(path for path in (target, *target.resolve().parents) if path.is_dir())
    with TemporaryDirectory(prefix=".unfinished-", dir=place) as unfinished:
        plots.draw(Path(unfinished), architecture, classify, data, meta.curve)
        target.mkdir(parents=True, exist_ok=True)
        for drawn in _plots_in(Path(unfinished)):
            drawn.rename(target / drawn.name)
    click.echo(f"{target}: {', '.join(path.name for path in _plots_in(target))}")
    if plot and not data:
        click.echo(f"Not drawn: {missing}", err=True)


def free_place(folder: Path) -> Path:
    """The folder for the plots. Raises `DrawingError` if it has plots or is in a checkpoint."""
    if folder.exists() and not folder.is_dir():
        raise DrawingError(f"{folder} is not a folder")
    for path in (place := folder.resolve(), *place.parents):
        if (path / META).is_file() and (path / WEIGHTS).is_file():
            raise DrawingError(f"{folder} is in a checkpoint, and a checkpoint is never changed")
    if taken := _plots_in(folder):
        raise DrawingError(f"{taken[0]} exists, and a plot is never overwritten")
    return folder


def classifier_of(folder: Path, meta: Meta, architecture: Architecture) -> Classifier:
    """The classifier of a verified checkpoint. Raises `CheckpointError`, `ImportFileError`."""
    spec = meta.spec
    classify = classifier(module_of(folder, meta, architecture), spec.head)
    try:
        shape = classify(np.zeros((1, *spec.input.shape), dtype=np.float32)).shape
    except RuntimeError:
        shape = None
    if shape != (1, len(spec.labels)):
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
            f"{folder}: {architecture.name} does not accept the settings {meta.config}"
        ) from error
    return import_module(architecture, config, folder / WEIGHTS)


def open_data(folder: Path, meta: Meta, dataset: str | None, data_dir: Path) -> Dataset:
    """The data that a checkpoint was made with: `dataset`, or else the data set it records.

    Raises `DataError` if it is missing, `DrawingError` if it is other data.
    """
    data = (
        datasets.load(dataset, meta.spec, data_dir)
        if dataset
        else datasets.load_present(_recorded(folder, meta, data_dir), meta.spec, data_dir)
    )
    if meta.dataset and data.ref.sha256 != meta.dataset.sha256:
        raise DrawingError(
            f"{folder} was made with {meta.dataset.name} of SHA-256 {meta.dataset.sha256}, but "
            f"{data.name} has {data.ref.sha256}: name the right file with --dataset"
        )
    return data


def _recorded(folder: Path, meta: Meta, data_dir: Path) -> str | Maker:
    """The data set that a checkpoint records. Raises `DataError` if it is not found.

    A file's path is tried relative to the current folder, to `data_dir`, and to the store if
    `folder` is its `checkpoints/MODEL/VERSION`: jobs record paths relative to the store.
    """
    if meta.dataset is None:
        raise DataError("it was made without data; name some with --dataset")
    if meta.dataset.name.endswith(feedback.SUFFIX):
        raise DataError(f"{meta.dataset.name} holds corrections, which only the store has")
    recorded = str((meta.recipe or {}).get("dataset", meta.dataset.name))
    try:
        makers = [recipe.dataset for recipe in recipes.of(meta.architecture).values()]
    except UnknownRecipeError:
        makers = []
    for maker in makers:  # a plug-in's recipe may name a function
        if callable(maker) and maker.__name__ == recorded:
            return maker
    if Path(recorded).suffix not in files.SUFFIXES:
        return recorded
    for place in (Path(), data_dir, *folder.resolve().parents[2:3]):
        if (place / recorded).is_file():
            return str(place / recorded)
    raise DataError(f"{recorded} is not found; name it with --dataset")


def _plots_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*") if FILES.fullmatch(f"plots/{path.name}"))
