"""Give a checkpoint of an earlier release a drift reference."""

from dataclasses import replace
from pathlib import Path

import click

from perceptd.models import checkpoint, registry
from perceptd.training.evaluation.drift import reference_of
from perceptd.training.options import free_target
from perceptd.training.plotting.redrawing import classifier_of, open_data


def add_reference(folder: Path, *, dataset: str | None, data_dir: Path, out: Path | None) -> None:
    """Copy a checkpoint and give the copy a drift reference, from the data it was made with.

    Weights, graph and plots stay the same, and so do their hashes.

    Raises `CheckpointError`, `DataError`, and `DrawingError` for other data.
    """
    meta = checkpoint.read(folder)
    target = free_target(out, meta.architecture)
    architecture = replace(registry.load(meta.architecture), spec=meta.spec)
    classify = classifier_of(folder, meta, architecture)
    data = open_data(folder, meta, dataset, data_dir)
    found = reference_of(meta.spec, classify, data.train)
    if found is None:
        raise checkpoint.CheckpointError(f"{data.name} has no row of finite numbers")
    checkpoint.copy(folder, target, found)
    click.echo(f"{target}: {folder} with the drift reference of {found.rows:,} rows of {data.name}")
