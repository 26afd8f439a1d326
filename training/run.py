"""One training, from the command line's values to a checkpoint."""

import hashlib
import json
from pathlib import Path
from typing import Any

import click
import torch

from perceptd.models import checkpoint, registry
from perceptd.models.registry import Architecture
from perceptd.models.spec import ModelConfig
from perceptd.training.data import datasets
from perceptd.training.data.feedback import with_feedback
from perceptd.training.data.splits import Dataset
from perceptd.training.options import SCRATCH, free_target, parse, parse_recipe
from perceptd.training.plotting.plane import plane_of
from perceptd.training.progress import Reporter, report_checkpoint, reporter, summary, traced
from perceptd.training.recipes import Recipe
from perceptd.training.save import save
from perceptd.training.state import StateFile
from perceptd.training.train import Progress, saved_boundaries, train


def train_model(
    name: str,
    *,
    recipe: str,
    dataset: str | None,
    data_dir: Path,
    feedback: Path | None,
    config: dict[str, Any] | None,
    out: Path | None,
    device: str,
    start_from: str,
    progress: str,
    **hyperparameters: int | float | None,
) -> None:
    """Train one model by a recipe, with the command line's changes to it."""
    architecture = registry.load(name)
    target = free_target(out, name)
    plan = parse_recipe(name, recipe, dataset, hyperparameters)
    parent = None if start_from == SCRATCH else parent_of(architecture, Path(start_from))
    settings = parse(
        architecture.config, {**(parent.config if parent else {}), **(config or {})}, "--set"
    )
    data = datasets.load(plan.dataset, architecture.spec, data_dir)
    if feedback:
        data = with_feedback(architecture.spec, data, feedback)
    chosen_device = pick_device(device)
    state_file = StateFile.beside(target, fingerprint(architecture, settings, plan, data, parent))

    with reporter(progress, plan.epochs) as report:
        report_start(report, architecture, plan, data, chosen_device, state_file)
        try:
            trained = train(
                architecture,
                settings,
                plan,
                data,
                device=chosen_device,
                start_from=checkpoint.read_weights(Path(start_from)) if parent else None,
                state_file=state_file,
                report=traced(report.epoch),
                report_step=report.step,
            )
        except KeyboardInterrupt:
            if state_file.read():
                click.echo("\nThe same command resumes from the last saved epoch.", err=True)
            raise
    meta = save(
        target,
        architecture,
        settings,
        trained.module,
        metrics=trained.metrics,
        curve=trained.curve,
        recipe=plan,
        data=data,
        parent_sha256=parent.weights_sha256 if parent else None,
    )
    state_file.remove()
    text = f"{target}: {name}{summary(trained.metrics)}, {trained.seconds:.1f} s"
    report_checkpoint(report, target, meta, text, trained.seconds)


def report_start(
    report: Reporter,
    architecture: Architecture,
    plan: Recipe,
    data: Dataset,
    device: torch.device,
    state_file: StateFile,
) -> None:
    """Report what is trained and, if the training resumes, repeat its earlier epochs.

    The interrupted process may not have reported the last of them.
    """
    state = state_file.read()
    report.event(
        "started",
        f"{architecture.name} on {device}: {len(data.train):,} rows of {data.name}, "
        f"{plan.epochs} epochs" + (f", resumed after epoch {state['epoch']}" if state else ""),
        model=architecture.name,
        device=str(device),
        recipe=plan.model_dump(mode="json"),
        dataset=data.ref.model_dump(),
        epoch=state["epoch"] if state else 0,
    )
    if plane := plane_of(architecture.spec, data.train):
        report.plane(plane)
    if state:
        boundaries = saved_boundaries(state)
        for point in map(checkpoint.CurvePoint.model_validate, state["curve"]):
            seconds = state["seconds"] * point.epoch / state["epoch"]
            left = seconds / point.epoch * (plan.epochs - point.epoch)
            boundary = boundaries.get(point.epoch)
            report.epoch(Progress(point, plan.epochs, seconds, left, boundary))


def parent_of(architecture: Architecture, folder: Path) -> checkpoint.Meta:
    """The checkpoint to start from. Raises `CheckpointError`."""
    meta = checkpoint.read(folder)
    if meta.architecture != architecture.name:
        raise checkpoint.CheckpointError(
            f"{architecture.name} cannot start from {folder}, a checkpoint of {meta.architecture}"
        )
    return meta


def fingerprint(
    architecture: Architecture,
    config: ModelConfig,
    recipe: Recipe,
    data: Dataset,
    parent: checkpoint.Meta | None,
) -> str:
    """Equal for two commands that would train the same weights."""
    parts = {
        "architecture": architecture.name,
        "config": config.model_dump(mode="json"),
        "recipe": recipe.model_dump(mode="json"),
        "dataset": data.ref.sha256,
        "parent": parent.weights_sha256 if parent else None,
        "torch": torch.__version__,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def pick_device(name: str) -> torch.device:
    """The device of that name; `auto` is the accelerator, else the CPU. Raises `BadParameter`."""
    if name == "auto":
        return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    try:
        torch.zeros(1, device=name).item()
        return torch.device(name)
    except (RuntimeError, AssertionError) as error:
        first_line = str(error).splitlines()[0]
        raise click.BadParameter(f"{name!r}: {first_line}", param_hint="--device") from error
