"""How a training reports its progress: a bar for people, JSON lines for programs."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import click

from perceptd.models import tracing
from perceptd.models.checkpoint import Meta
from perceptd.models.terminal import EpochBar, epoch_text
from perceptd.training.plotting.plane import Plane

if TYPE_CHECKING:
    from perceptd.training.train import Progress


class Reporter(Protocol):
    """Receives the events `started`, `epoch`, `checkpoint` and `metrics` of a command.

    A long epoch also reports its `step`, so that a worker does not end it as one that hangs. A 2-D
    model reports the `plane` and, in some epochs, the `boundary` in it, which only programs draw.
    """

    def event(self, name: str, text: str, **facts: Any) -> None: ...

    def plane(self, plane: Plane) -> None: ...

    def epoch(self, progress: "Progress") -> None: ...

    def step(self, epoch: int, step: int, steps: int) -> None: ...


class JsonReporter:
    """One JSON object a line on standard output."""

    def event(self, name: str, text: str, **facts: Any) -> None:
        click.echo(json.dumps({"event": name, "message": text, **facts}))

    def plane(self, plane: Plane) -> None:
        click.echo(json.dumps({"event": "plane", **plane.facts()}))

    def epoch(self, progress: "Progress") -> None:
        facts = {
            **progress.point.model_dump(),
            "epochs": progress.epochs,
            "seconds": round(progress.seconds, 3),
            "seconds_left": round(progress.seconds_left, 3),
        }
        click.echo(json.dumps({"event": "epoch", **facts}))
        if boundary := progress.boundary:
            shown = {"event": "boundary", "epoch": progress.point.epoch, **asdict(boundary)}
            click.echo(json.dumps(shown))

    def step(self, epoch: int, step: int, steps: int) -> None:
        click.echo(json.dumps({"event": "step", "epoch": epoch, "step": step, "steps": steps}))


class BarReporter:
    """Lines of text, and on a terminal a live bar with loss, accuracy and time left."""

    def __init__(self, epochs: int) -> None:
        self._bar = EpochBar(epochs)

    def finish(self) -> None:
        self._bar.finish()

    def event(self, name: str, text: str, **facts: Any) -> None:
        click.echo(text)

    def plane(self, plane: Plane) -> None:
        pass

    def epoch(self, progress: "Progress") -> None:
        point = progress.point
        text = epoch_text(
            loss=point.loss,
            test_accuracy=point.test_accuracy,
            seconds_left=progress.seconds_left,
        )
        self._bar.draw(point.epoch, text)

    def step(self, epoch: int, step: int, steps: int) -> None:
        pass


@contextmanager
def reporter(kind: str, epochs: int = 0) -> Iterator[Reporter]:
    """The reporter of a kind, `bar` or `json`, for a command that trains `epochs` epochs."""
    if kind == "json":
        yield JsonReporter()
        return
    bar = BarReporter(epochs)
    try:
        yield bar
    finally:
        bar.finish()


def traced(report: "Callable[[Progress], None]") -> "Callable[[Progress], None]":
    """Wrap `report` so that each epoch also has a span, from the report before it."""
    began = time.time_ns()

    def report_and_trace(progress: "Progress") -> None:
        nonlocal began
        point = progress.point
        facts = {"epoch": point.epoch, "loss": point.loss, "test_accuracy": point.test_accuracy}
        tracing.past_span("epoch", began, **facts)
        began = time.time_ns()
        report(progress)

    return report_and_trace


def report_checkpoint(
    report: Reporter, target: Path, meta: Meta, text: str, seconds: float
) -> None:
    """Report the last event of a command that wrote a checkpoint."""
    report.event(
        "checkpoint",
        text,
        path=str(target),
        metrics=meta.metrics,
        seconds=seconds,
        sha256=meta.weights_sha256,
    )


def summary(metrics: dict[str, dict[str, float]]) -> str:
    """Loss and accuracy of each split, to append to a sentence."""
    return "".join(
        f", {split} loss {values['loss']:.4f} accuracy {values['accuracy']:.4f}"
        for split, values in metrics.items()
    )
