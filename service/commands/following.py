"""A job, followed: a live bar for people, lines for whoever reads them later."""

import json
import sys
from contextlib import closing
from typing import Any

import click

from perceptd.models.terminal import EpochBar, epoch_text
from perceptd.service.client import Client
from perceptd.service.jobs.events import Event
from perceptd.service.jobs.schemas import DRAWN, JobProgress

INTERRUPTED = 130  # the exit status of what Ctrl-C ended


def follow_job(client: Client, number: int, *, as_json: bool) -> None:
    """Tell what happens to a job until it ends.

    Raises `click.ClickException` for one that failed or was cancelled.
    """
    ticker = Ticker(number, as_json=as_json)
    try:
        with closing(ticker), closing(client.events(number)) as events:
            for event in events:
                if as_json or not ended_badly(event):
                    ticker.tell(event)
    except KeyboardInterrupt:
        click.echo(
            f"no longer followed, job {number} goes on: perceptd jobs follow {number} returns "
            f"to it, perceptd jobs cancel {number} ends it",
            err=True,
        )
        sys.exit(INTERRUPTED)
    if ended_badly(event):
        raise click.ClickException(f"job {number} {event.data['status']}: {event.data['reason']}")


def ended_badly(event: Event) -> bool:
    return event.kind == "status" and event.data["status"] in ("failed", "cancelled")


class Ticker:
    """Tells events one after the other: as lines, on a terminal epochs as a live bar.

    What is there to be drawn is left to whoever reads JSON.
    """

    def __init__(self, number: int, *, as_json: bool) -> None:
        self._number = number
        self._as_json = as_json
        self._bar: EpochBar | None = None

    def tell(self, event: Event) -> None:
        if self._as_json:
            facts = {"id": event.number, "event": event.kind, "data": event.data}
            click.echo(json.dumps(facts))
        elif event.kind in DRAWN:  # which no line can tell
            return
        elif event.kind == "epoch" and sys.stdout.isatty():
            progress = JobProgress.model_validate(event.data)
            self._bar = self._bar or EpochBar(progress.epochs)
            self._bar.draw(progress.epoch, figures(progress))
        else:
            self.close()
            click.echo(self._line(event))

    def close(self) -> None:
        """Leave the bar as it is; the next epoch begins another beneath."""
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
    """A change of status, in words."""
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
