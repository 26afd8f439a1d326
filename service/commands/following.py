"""Follows a job: a live bar on a terminal, lines of text elsewhere, or JSON."""

import json
import sys
from contextlib import closing
from typing import Any

import click

from perceptd.models.terminal import EpochBar, epoch_text
from perceptd.service.client import Client
from perceptd.service.jobs.events import Event
from perceptd.service.jobs.schemas import DRAWN, JobProgress

INTERRUPTED = 130  # the shell's exit status for Ctrl-C


def follow_job(client: Client, number: int, *, as_json: bool) -> None:
    """Print the events of a job until it ends.

    Raises `click.ClickException` for a job that failed or was cancelled.
    """
    printer = EventPrinter(number, as_json=as_json)
    try:
        with closing(printer), closing(client.events(number)) as events:
            for event in events:
                if as_json or not ended_badly(event):
                    printer.print(event)
    except KeyboardInterrupt:
        click.echo(
            f"job {number} continues: perceptd jobs follow {number} follows it again, "
            f"perceptd jobs cancel {number} cancels it",
            err=True,
        )
        sys.exit(INTERRUPTED)
    if ended_badly(event):
        raise click.ClickException(f"job {number} {event.data['status']}: {event.data['reason']}")


def ended_badly(event: Event) -> bool:
    return event.kind == "status" and event.data["status"] in ("failed", "cancelled")


class EventPrinter:
    """Prints events as lines, and epochs on a terminal as a live bar.

    Planes and boundaries, which only programs draw, are printed as JSON alone.
    """

    def __init__(self, number: int, *, as_json: bool) -> None:
        self._number = number
        self._as_json = as_json
        self._bar: EpochBar | None = None

    def print(self, event: Event) -> None:
        if self._as_json:
            facts = {"id": event.number, "event": event.kind, "data": event.data}
            click.echo(json.dumps(facts))
        elif event.kind in DRAWN:
            return
        elif event.kind == "epoch" and sys.stdout.isatty():
            progress = JobProgress.model_validate(event.data)
            self._bar = self._bar or EpochBar(progress.epochs)
            self._bar.draw(progress.epoch, figures(progress))
        else:
            self.close()
            click.echo(self._line(event))

    def close(self) -> None:
        """End the bar; the next epoch starts a new one."""
        if self._bar:
            self._bar.finish()
            self._bar = None

    def _line(self, event: Event) -> str:
        if event.kind == "epoch":
            return epoch_of(JobProgress.model_validate(event.data))
        if event.kind == "gate":
            return f"gate: {verdict(event.data)}"
        if event.kind == "log":
            return f"  {event.data['line']}"
        return f"job {self._number}: {status_of(event.data)}"


def status_of(data: dict[str, Any]) -> str:
    words = [data["status"]]
    if data.get("attempts", 1) > 1:
        words.append(f"attempt {data['attempts']}")
    if data.get("version"):
        words.append(f"version {data['version']}")
    if data.get("promotion"):
        words.append(data["promotion"])
    return ", ".join(words) + (f": {data['reason']}" if data.get("reason") else "")


def epoch_of(progress: JobProgress) -> str:
    return f"epoch {progress.epoch} of {progress.epochs}  {figures(progress)}"


def figures(progress: JobProgress) -> str:
    return epoch_text(
        loss=progress.loss,
        test_accuracy=progress.test_accuracy,
        seconds_left=progress.seconds_left,
    )


def verdict(gate: dict[str, Any]) -> str:
    passed = "passed" if gate["passed"] else "not passed"
    return f"{passed}, {gate['reason']} ({gate['rows']} held-out rows of {gate['dataset']})"
