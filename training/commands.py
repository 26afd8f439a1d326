"""The commands that train, measure and draw: `perceptd train`, `evaluate`, `import` and so on.

Each imports what it needs when it runs, because torch alone takes seconds.
"""

import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# Set before torch starts its threads: threads that wait for each other then sleep. By default they
# spin, which takes the cores from a server beside the training and from the training itself.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import click

from perceptd.models import checkpoint, registry, tracing, trainable
from perceptd.models.terminal import did_you_mean
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

ALL = "all"
INTERRUPTED = 130  # the shell's exit status for Ctrl-C
DISK_FAILED = os.EX_IOERR  # a full or broken disk, not a fault of the training
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


def known_model(*others: str) -> Callable[[click.Context, click.Parameter, str], str]:
    """A callback that accepts built-in and plug-in models, and `others`."""

    def check(_: click.Context, __: click.Parameter, value: str) -> str:
        known = [*registry.names(), *others]
        if value not in known:
            hint = did_you_mean(value, known)
            raise click.BadParameter(
                f"no model is called {value!r}{hint} (known: {', '.join(known)})"
            )
        return value

    return check


class TrainCommand(click.Command):
    """Lists the models that can be trained beneath its help."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Models"):
            formatter.write_text(", ".join(registry.names()))


@click.command(cls=TrainCommand)
@click.argument("model", callback=known_model(ALL))
@with_options(TRAINING_OPTIONS)
def train(model: str, out: Path | None, **options: Any) -> None:
    """Train MODEL and write a checkpoint folder, which `perceptd models add` gives to a server.

    A killed training continues after its last epoch when the same command runs again.

    "all" trains every built-in model that is not yet in --out/MODEL (runs/all/MODEL by default).
    """
    from perceptd.training.run import train_model

    if model in registry.names():
        with tracing.span("training", architecture=model):
            train_model(model, out=out, **options)
        return
    for name in registry.BUILT_IN:
        target = (out or RUNS / ALL) / name
        if target.exists():
            checkpoint.read(target)
            click.echo(f"{target} exists already")
        else:
            with tracing.span("training", architecture=name):
                train_model(name, out=target, **options)


@click.command
@click.argument("checkpoints", nargs=-1, required=True, type=click.Path(path_type=Path))
@with_options(EVALUATION_OPTIONS)
def evaluate(checkpoints: tuple[Path, ...], **options: Any) -> None:
    """Measure CHECKPOINTS of one architecture on the same held-out rows."""
    from perceptd.training.evaluation.measurement import measure_checkpoints

    with tracing.span("evaluate", checkpoints=len(checkpoints)):
        measure_checkpoints(checkpoints, **options)


@click.command("import")
@click.argument("model", callback=known_model())
@click.argument("file", type=click.Path(path_type=Path))
@with_options(SHARED_OPTIONS)
def import_weights(model: str, file: Path, **options: Any) -> None:
    """Turn the state_dict in FILE (.pt or .safetensors) into a checkpoint folder of MODEL.

    Works on this machine, without a server. `perceptd models import` uploads the file to a running
    server instead.
    """
    from perceptd.training.importing import import_file

    with tracing.span("import", architecture=model):
        import_file(model, file, **options)


@click.command
@click.argument("folder", metavar="CHECKPOINT", type=click.Path(path_type=Path))
@with_options(DRAWING_OPTIONS)
def plot(folder: Path, **options: Any) -> None:
    """Draw the plots of CHECKPOINT again, from its files and the data set that it names."""
    from perceptd.training.plotting.redrawing import draw_checkpoint

    draw_checkpoint(folder, **options)


@click.command("drift-reference")
@click.argument("folder", metavar="CHECKPOINT", type=click.Path(path_type=Path))
@with_options(REFERENCE_OPTIONS)
def drift_reference(folder: Path, **options: Any) -> None:
    """Copy CHECKPOINT, made by an earlier release, and add the reference that drift needs."""
    from perceptd.training.evaluation.referencing import add_reference

    add_reference(folder, **options)


@click.command
def describe() -> None:
    """Print what can be trained here as JSON: settings, recipes, data sets, metrics."""
    from perceptd.training.description import describe_all
    from perceptd.training.evaluation import metrics

    click.echo(trainable.dump(describe_all(registry.names(), metrics.plug_ins())))


COMMANDS: dict[str, click.Command] = {
    str(command.name): command
    for command in (train, evaluate, import_weights, plot, drift_reference, describe)
}


def _signal_behind(error: BaseException | None) -> KeyboardInterrupt | SystemExit | None:
    """What a signal raised, even if the clean-up of `torch.save` raised something else."""
    while error:
        if isinstance(error, KeyboardInterrupt | SystemExit):
            return error
        error = error.__context__
    return None


@contextmanager
def running() -> Iterator[None]:
    """Run a command: trace it, let SIGTERM clean up, end expected errors in one sentence."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    # The last line of a training is not that a collector is unreachable.
    quiet = logging.getLogger("opentelemetry")
    quiet.addHandler(logging.NullHandler())
    quiet.propagate = False
    try:
        tracing.start("training", os.environ.get(tracing.PARENT))
        yield
    except (click.ClickException, click.exceptions.Exit, BrokenPipeError):
        raise  # click knows how to end with these
    except (KeyboardInterrupt, Exception) as error:
        stop = _signal_behind(error)
        if isinstance(stop, SystemExit):
            sys.exit(stop.code)
        if stop or isinstance(error, click.Abort):
            click.echo("Stopped.", err=True)
            sys.exit(INTERRUPTED)
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
