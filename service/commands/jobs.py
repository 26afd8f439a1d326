"""`perceptd jobs`: submit, list, show, follow, cancel and reproduce jobs of a running server."""

import json
from collections.abc import Iterator
from typing import Any, get_args

import click

from perceptd.models.terminal import SET
from perceptd.service.client import Client
from perceptd.service.commands.asking import (
    AS_JSON,
    DATASET,
    FOLLOW,
    GATE,
    calls_server,
    print_answer,
)
from perceptd.service.commands.following import epoch_of, follow_job, verdict
from perceptd.service.jobs.queue import Status
from perceptd.service.jobs.schemas import JobDetail, JobPublic


def version_or_word(_: click.Context, __: click.Parameter, value: str | None) -> int | str | None:
    return int(value) if value and value.isdecimal() else value


@click.group()
def jobs() -> None:
    """Have a running server retrain a model, and follow its jobs."""


@jobs.command()
@click.argument("model")
@click.option("--recipe", help="reference or fast, or a plug-in's own.  [default: reference]")
@click.option("--epochs", type=int, help="Passes over the data.")
@click.option("--learning-rate", type=float, help="Step size; for one_cycle, the peak.")
@click.option("--batch-size", type=int, help="Rows per step.")
@click.option("--seed", type=int, help="Seed of the initial weights and the order of rows.")
@DATASET
@SET
@click.option(
    "--start-from",
    metavar="scratch|production|VERSION",
    callback=version_or_word,
    help="The weights to start from.  [default: scratch]",
)
@click.option(
    "--include-feedback",
    is_flag=True,
    default=None,
    help="Also train on the corrected labels.",
)
@GATE
@click.option("--max-runtime-s", type=float, help="Seconds that all attempts together may take.")
@click.option("--idempotency-key", help="A repeated key returns the first job, not a new one.")
@FOLLOW
@AS_JSON
@calls_server(changes=True)
def submit(
    client: Client,
    *,
    idempotency_key: str | None,
    follow: bool,
    as_json: bool,
    **request: Any,
) -> None:
    """Queue a retraining of MODEL. Omitted settings come from the recipe and from production."""
    given = {name: value for name, value in request.items() if value is not None}
    job = client.submit(given, idempotency_key)
    show_queued(client, job, follow=follow, as_json=as_json)


@jobs.command("list")
@click.option("--status", type=click.Choice(get_args(Status)), help="Only jobs with this status.")
@click.option("--model", help="Only jobs of this model.")
@click.option("--limit", type=int, help="Maximum number of jobs.  [default: 50]")
@click.option("--after", type=int, metavar="ID", help="Only jobs older than this one.")
@AS_JSON
@calls_server(changes=False)
def list_jobs(client: Client, *, as_json: bool, **filters: Any) -> None:
    """List jobs, newest first."""
    page = client.jobs(**filters)
    if as_json:
        click.echo(page.model_dump_json())
        return
    for job in page.jobs:
        made = "-" if job.version is None else f"version {job.version}"
        click.echo(
            f"{job.id:>5}  {job.kind:<6}  {job.model:<16} {job.status:<10} "
            f"{job.promotion or '-':<8}  {made:<11} {job.created_at:%Y-%m-%d %H:%M}  "
            f"{job.reason or ''}".rstrip()
        )
    if page.after is not None:
        click.echo(f"older jobs: --after {page.after}", err=True)


@jobs.command()
@click.argument("number", metavar="ID", type=int)
@AS_JSON
@calls_server(changes=False)
def show(client: Client, *, number: int, as_json: bool) -> None:
    """Show one job: its request, its progress and its result."""
    job = client.job(number)
    lines = (f"{name:<13} {text}" for name, text in facts(job))
    print_answer(job, "\n".join(lines), as_json=as_json)


@jobs.command()
@click.argument("number", metavar="ID", type=int)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per event.")
@calls_server(changes=False)
def follow(client: Client, *, number: int, as_json: bool) -> None:
    """Print the events of a job from the first to the last.

    Reconnects after a lost connection. Ctrl-C stops following and leaves the job running. The exit
    status is 0 for a job that succeeded, whether its version was promoted or not.
    """
    client.job(number)  # fails at once if no server answers
    follow_job(client, number, as_json=as_json)


@jobs.command()
@click.argument("number", metavar="ID", type=int)
@AS_JSON
@calls_server(changes=True)
def cancel(client: Client, *, number: int, as_json: bool) -> None:
    """Cancel a job: a queued one at once, a running one within seconds."""
    job = client.cancel(number)
    print_answer(job, summary(job), as_json=as_json)


@jobs.command()
@click.argument("number", metavar="ID", type=int)
@FOLLOW
@AS_JSON
@calls_server(changes=True)
def reproduce(client: Client, *, number: int, follow: bool, as_json: bool) -> None:
    """Train a job's version again, and report whether the weights are the same."""
    show_queued(client, client.reproduce(number), follow=follow, as_json=as_json)


def show_queued(client: Client, job: JobPublic, *, follow: bool, as_json: bool) -> None:
    print_answer(job, summary(job), as_json=as_json)
    if follow:
        follow_job(client, job.id, as_json=as_json)


def summary(job: JobPublic) -> str:
    return f"job {job.id}, {job.kind} of {job.model}: {job.status}"


def facts(job: JobDetail) -> Iterator[tuple[str, str]]:
    """The lines of `jobs show`, as labels and texts."""
    yield f"job {job.id}", f"{job.kind} of {job.model}"
    yield "status", f"{job.status}, {job.promotion}" if job.promotion else job.status
    if job.reason:
        yield "reason", job.reason
    if job.version is not None:
        yield "version", str(job.version)
    yield "request", settings_of(job.request)
    yield "plan", settings_of(job.plan)
    yield "created", f"{job.created_at:%Y-%m-%d %H:%M:%S}"
    yield "runtime", f"{job.runtime_s:.1f} s, attempts: {job.attempts}"
    if job.progress:
        yield "progress", epoch_of(job.progress)
    if job.gate:
        yield "gate", verdict(job.gate.model_dump())
    if job.reproduction:
        same = "the same weights as" if job.reproduction.same else "different weights from"
        yield "reproduction", f"{same} job {job.reproduction.of}"
    for line in job.log:
        yield "log", line


def settings_of(values: dict[str, Any]) -> str:
    return " ".join(
        f"{name}={json.dumps(value)}" for name, value in values.items() if value is not None
    )
