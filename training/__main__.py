"""`python -m training MODEL`: train a model, or import one, into a checkpoint folder."""

import hashlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

# Before torch starts its threads: they sleep while they wait for each other. By default they spin,
# which starves a server beside the training, and the training itself where something else runs.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import click
import torch

from models import checkpoint, registry
from models.export import ExportError
from models.registry import Architecture
from models.spec import ModelConfig
from training import datasets, recipes
from training.evaluate import evaluate
from training.importing import ImportFileError, import_module
from training.options import (
    RUNS,
    SCRATCH,
    SHARED_OPTIONS,
    TRAINING_OPTIONS,
    free_target,
    parse,
    parse_recipe,
    pick_device,
    with_options,
)
from training.progress import Reporter, reporter
from training.recipes import Recipe, UnknownRecipeError
from training.save import save
from training.splits import DataError, Dataset
from training.state import StateFile
from training.train import DivergedError, train

INTERRUPTED = 130  # the shell's exit status for Ctrl-C
EXPECTED_ERRORS = (
    DataError,
    DivergedError,
    ImportFileError,
    checkpoint.CheckpointError,
    registry.BrokenArchitectureError,
    ExportError,
    UnknownRecipeError,
    registry.UnknownArchitectureError,
    OSError,
)


class Trainings(click.Group):
    """One command per known architecture, besides those that are about several or none."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*registry.names(), *super().list_commands(ctx)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in registry.names():
            return super().get_command(ctx, cmd_name)

        @click.command(cmd_name, help=f"Train {cmd_name} and write a checkpoint.")
        @with_options(TRAINING_OPTIONS)
        def one(**options: Any) -> None:
            train_model(cmd_name, **options)

        return one


@click.group(cls=Trainings)
def cli() -> None:
    """Train a model, or import one, into a checkpoint folder that perceptd serves.

    A killed training goes on from its last epoch when the same command is given again.
    """


@cli.command("all")
@with_options(TRAINING_OPTIONS)
def all_models(out: Path | None, **options: Any) -> None:
    """Train every built-in model that is not yet in --out/MODEL (runs/all/MODEL by default)."""
    for name in registry.BUILT_IN:
        target = (out or RUNS / "all") / name
        if target.exists():
            checkpoint.read(target)
            click.echo(f"{target}: there already")
        else:
            train_model(name, out=target, **options)


@cli.command("import")
@click.argument("model")
@click.argument("file", type=click.Path(path_type=Path))
@with_options(SHARED_OPTIONS)
def import_file(
    model: str,
    file: Path,
    dataset: str | None,
    data_dir: Path,
    config: dict[str, Any],
    out: Path | None,
) -> None:
    """Turn the state_dict in FILE (.pt or .safetensors) into a checkpoint of MODEL."""
    architecture = registry.load(model)
    target = free_target(out, model)
    settings = parse(architecture.config, config, "--set")
    module = import_module(architecture, settings, file)
    data = import_data(architecture, dataset, data_dir)
    metrics = {}
    if data:
        head = architecture.spec.head
        for name, split in (("train", data.train), ("test", data.test)):
            rows, targets = torch.from_numpy(split.inputs), torch.from_numpy(split.targets)
            metrics[name] = evaluate(module, rows, targets, head)
    save(target, architecture, settings, module, metrics=metrics, curve=[], recipe=None, data=data)
    network = ", ".join(f"{key} {value}" for key, value in settings.model_dump().items())
    click.echo(f"{target}: {model} ({network or 'nothing to set'}) from {file}{summary(metrics)}")


def import_data(architecture: Architecture, dataset: str | None, data_dir: Path) -> Dataset | None:
    """The data an imported model is judged on: the one asked for, else the reference's if there."""
    if dataset:
        return datasets.load(dataset, architecture.spec, data_dir)
    try:
        reference = recipes.of(architecture.name)["reference"].dataset
        if reference == "mnist" and not datasets.has_mnist(data_dir):
            raise DataError(f"MNIST is not in {data_dir}; --dataset mnist downloads it")
        return datasets.load(reference, architecture.spec, data_dir)
    except (UnknownRecipeError, DataError) as error:
        click.echo(f"Not evaluated: {error}", err=True)
        return None


def train_model(
    name: str,
    *,
    recipe: str,
    dataset: str | None,
    data_dir: Path,
    config: dict[str, Any],
    out: Path | None,
    device: str,
    start_from: str,
    progress: str,
    **hyperparameters: int | float | None,
) -> None:
    """Train one model by a recipe and whatever of it the command line changes."""
    architecture = registry.load(name)
    target = free_target(out, name)
    plan = parse_recipe(name, recipe, dataset, hyperparameters)
    parent = None if start_from == SCRATCH else parent_of(architecture, Path(start_from))
    settings = parse(architecture.config, {**(parent.config if parent else {}), **config}, "--set")
    data = datasets.load(plan.dataset, architecture.spec, data_dir)
    chosen_device = pick_device(device)
    state_file = StateFile.beside(target, fingerprint(architecture, settings, plan, data, parent))

    with reporter(progress, plan.epochs) as report:
        start(report, name, plan, data, chosen_device, state_file)
        try:
            trained = train(
                architecture,
                settings,
                plan,
                data,
                device=chosen_device,
                start_from=checkpoint.read_weights(Path(start_from)) if parent else None,
                state_file=state_file,
                report=report.epoch,
            )
        except KeyboardInterrupt:
            if state_file.read():
                click.echo("\nThe same command goes on from the last saved epoch.", err=True)
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
    report.event(
        "checkpoint",
        f"{target}: {name}{summary(trained.metrics)}, {trained.seconds:.1f} s",
        path=str(target),
        metrics=trained.metrics,
        seconds=trained.seconds,
        sha256=meta.weights_sha256,
    )


def start(
    report: Reporter,
    name: str,
    plan: Recipe,
    data: Dataset,
    device: torch.device,
    state_file: StateFile,
) -> None:
    state = state_file.read()
    report.event(
        "started",
        f"{name} on {device}: {len(data.train):,} rows of {data.name}, {plan.epochs} epochs"
        + (f", resumed after epoch {state['epoch']}" if state else ""),
        model=name,
        device=str(device),
        recipe=plan.model_dump(mode="json"),
        dataset=data.ref.model_dump(),
        epoch=state["epoch"] if state else 0,
    )


def parent_of(architecture: Architecture, folder: Path) -> checkpoint.Meta:
    meta = checkpoint.read(folder)
    if meta.architecture != architecture.name:
        raise checkpoint.CheckpointError(
            f"{folder} is a {meta.architecture}, and {architecture.name} cannot start from it"
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


def summary(metrics: dict[str, dict[str, float]]) -> str:
    return "".join(
        f", {split} loss {values['loss']:.4f} accuracy {values['accuracy']:.4f}"
        for split, values in metrics.items()
    )


def main() -> None:
    # A terminated training cleans up as an interrupted one does.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        cli(prog_name="python -m training", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.Abort:
        click.echo("Stopped.", err=True)
        sys.exit(INTERRUPTED)
    except EXPECTED_ERRORS as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
