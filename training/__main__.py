"""`python -m perceptd.training MODEL`: train a model, or import one, into a checkpoint folder.

Each command imports what it needs when it runs: torch alone takes three seconds.
"""

import logging
import os
import signal
import sys
from pathlib import Path
from typing import Any

# Before torch starts its threads: they sleep while they wait for each other. By default they spin,
# which starves a server beside the training, and the training itself where something else runs.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import click

from perceptd.models import checkpoint, registry, tracing, trainable
from perceptd.training import lifeline
from perceptd.training.errors import (
    DataError,
    DivergedError,
    DrawingError,
    ImportFileError,
    MeasurementError,
    UnknownRecipeError,
    disk_failure,
    memory_shortage,
)
from perceptd.training.options import (
    DRAWING_OPTIONS,
    EVALUATION_OPTIONS,
    REFERENCE_OPTIONS,
    RUNS,
    SHARED_OPTIONS,
    TRAINING_OPTIONS,
    with_options,
)

INTERRUPTED = 130  # the shell's exit status for Ctrl-C
DISK_FAILED = os.EX_IOERR  # a full or broken disk, which is no fault of the training
EXPECTED_ERRORS = (
    DataError,
    DivergedError,
    DrawingError,
    ImportFileError,
    MeasurementError,
    UnknownRecipeError,
    checkpoint.CheckpointError,
    registry.BrokenArchitectureError,
    registry.UnknownArchitectureError,
    tracing.TracingError,
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
            from perceptd.training.run import train_model

            with tracing.span("training", architecture=cmd_name):
                train_model(cmd_name, **options)

        return one


@click.group(cls=Trainings)
@click.option("--stop-on-eof", is_flag=True, help="Stop when standard input ends.")
def cli(stop_on_eof: bool) -> None:
    """Train a model, or import one, into a checkpoint folder that perceptd serves.

    A killed training goes on from its last epoch when the same command is given again.
    """
    if stop_on_eof:
        lifeline.hold()


@cli.command("all")
@with_options(TRAINING_OPTIONS)
def all_models(out: Path | None, **options: Any) -> None:
    """Train every built-in model that is not yet in --out/MODEL (runs/all/MODEL by default)."""
    from perceptd.training.run import train_model

    for name in registry.BUILT_IN:
        target = (out or RUNS / "all") / name
        if target.exists():
            checkpoint.read(target)
            click.echo(f"{target}: there already")
        else:
            with tracing.span("training", architecture=name):
                train_model(name, out=target, **options)


@cli.command("import")
@click.argument("model")
@click.argument("file", type=click.Path(path_type=Path))
@with_options(SHARED_OPTIONS)
def import_one(model: str, file: Path, **options: Any) -> None:
    """Turn the state_dict in FILE (.pt or .safetensors) into a checkpoint of MODEL."""
    from perceptd.training.importing import import_file

    with tracing.span("import", architecture=model):
        import_file(model, file, **options)


@cli.command
@click.argument("checkpoints", nargs=-1, required=True, type=click.Path(path_type=Path))
@with_options(EVALUATION_OPTIONS)
def evaluate(checkpoints: tuple[Path, ...], **options: Any) -> None:
    """Measure CHECKPOINTS of one architecture, all on the same held-out rows."""
    from perceptd.training.evaluation.measurement import measure_checkpoints

    with tracing.span("evaluate", checkpoints=len(checkpoints)):
        measure_checkpoints(checkpoints, **options)


@cli.command
@click.argument("folder", metavar="CHECKPOINT", type=click.Path(path_type=Path))
@with_options(DRAWING_OPTIONS)
def plot(folder: Path, **options: Any) -> None:
    """Draw the pictures of CHECKPOINT once more, from what it holds and the data that it names."""
    from perceptd.training.plotting.redrawing import draw_checkpoint

    draw_checkpoint(folder, **options)


@cli.command("drift-reference")
@click.argument("folder", metavar="CHECKPOINT", type=click.Path(path_type=Path))
@with_options(REFERENCE_OPTIONS)
def drift_reference(folder: Path, **options: Any) -> None:
    """Copy CHECKPOINT, made by an earlier release, with what its inputs are held against."""
    from perceptd.training.evaluation.referencing import add_reference

    add_reference(folder, **options)


@cli.command
def describe() -> None:
    """Print what can be trained here as JSON: settings, recipes, data sets, metrics."""
    from perceptd.training.description import describe_all
    from perceptd.training.evaluation import metrics

    click.echo(trainable.dump(describe_all(registry.names(), metrics.plug_ins())))


def main() -> None:
    # A terminated training cleans up as an interrupted one does.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    # Whoever waits for the last word of a training is not told that a collector was away.
    quiet = logging.getLogger("opentelemetry")
    quiet.addHandler(logging.NullHandler())
    quiet.propagate = False
    try:
        tracing.start("training", os.environ.get(tracing.PARENT))
        cli(prog_name="python -m perceptd.training", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.Abort:
        click.echo("Stopped.", err=True)
        sys.exit(INTERRUPTED)
    except Exception as error:
        if words := disk_failure(error):
            click.echo(f"Error: {words}", err=True)
            sys.exit(DISK_FAILED)
        if (shortage := memory_shortage(error)) is not None:
            error = MemoryError(": ".join(filter(None, ["not enough memory", shortage])))
        elif not isinstance(error, EXPECTED_ERRORS):
            raise
        click.echo(f"Error: {error}", err=True)
        sys.exit(1)
    finally:
        tracing.stop()


if __name__ == "__main__":
    main()
