"""The queue of jobs: submit, look up, cancel. `claims` has what workers do with them.

A job is a row whose status changes: `queued -> running -> succeeded | failed | cancelled`, with
`cancelling` in between. It is never deleted.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, get_args

from sqlalchemy import Connection, Engine, Row, insert, select, update

from perceptd.models import tracing
from perceptd.service.errors import ConflictError, JobNotFoundError
from perceptd.service.jobs.events import Event, append
from perceptd.service.store import db, tables

Kind = Literal["train", "import"]
Status = Literal["queued", "running", "cancelling", "succeeded", "failed", "cancelled"]
Promotion = Literal["promoted", "refused", "skipped"]
ENDED: tuple[Status, ...] = ("succeeded", "failed", "cancelled")
HELD: tuple[Status, ...] = ("running", "cancelling")
KINDS: tuple[Kind, ...] = get_args(Kind)
STATUS_FIELDS = ("attempts", "version", "promotion", "code", "reason")  # of a `status` event


@dataclass(frozen=True)
class Job:
    """One row of the table `jobs`; `service/store/tables.py` explains its columns."""

    id: int
    kind: Kind
    model: str
    status: Status
    request: dict[str, Any]
    plan: dict[str, Any]
    idempotency_key: str | None
    fingerprint: str
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    attempts: int
    worker: str | None
    lease_until: datetime | None
    runtime_s: float
    progress: dict[str, Any] | None
    version: int | None
    promotion: Promotion | None
    reason: str | None
    code: str | None
    gate: dict[str, Any] | None
    reproduction: dict[str, Any] | None
    log: list[str]
    events: int
    traceparent: str | None

    @property
    def ended(self) -> bool:
        return self.status in ENDED


class Jobs:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def submit(
        self,
        kind: Kind,
        model: str,
        request: dict[str, Any],
        plan: dict[str, Any],
        *,
        key: str | None = None,
        fingerprint: str = "",
    ) -> Job:
        """Queue a job, or return the one that was submitted with the same idempotency key.

        Raises `ConflictError` if the key was used for another request.
        """
        with db.writing(self._engine) as connection:
            if earlier := _find_by_key(connection, key, fingerprint):
                return earlier
            made = connection.execute(
                insert(tables.jobs).values(
                    kind=kind,
                    model=model,
                    status="queued",
                    request=request,
                    plan=plan,
                    idempotency_key=key,
                    fingerprint=fingerprint,
                    created_at=db.now(connection),
                    attempts=0,
                    runtime_s=0.0,
                    log=[],
                    events=0,
                    traceparent=tracing.traceparent(),
                )
            )
            assert made.inserted_primary_key is not None  # noqa: S101 - of an insert of one row
            job = get_job(connection, made.inserted_primary_key[0])
            change(connection, job, "queued")
            return get_job(connection, job.id)

    def find_by_key(self, key: str | None, fingerprint: str) -> Job | None:
        """The job that was submitted with an idempotency key.

        Raises `ConflictError` if the key was used for another request.
        """
        with db.reading(self._engine) as connection:
            return _find_by_key(connection, key, fingerprint)

    def get(self, number: int) -> Job:
        """One job. Raises `JobNotFoundError`."""
        with db.reading(self._engine) as connection:
            return get_job(connection, number)

    def page(
        self,
        *,
        after: int | None = None,
        limit: int = 50,
        status: Status | None = None,
        model: str | None = None,
    ) -> list[Job]:
        """Jobs older than the job `after`, newest first."""
        query = select(tables.jobs).order_by(tables.jobs.c.id.desc()).limit(limit)
        if after is not None:
            query = query.where(tables.jobs.c.id < min(after, tables.MAX_INTEGER))
        if status is not None:
            query = query.where(tables.jobs.c.status == status)
        if model is not None:
            query = query.where(tables.jobs.c.model == model.replace("\0", ""))
        with db.reading(self._engine) as connection:
            return [job_of(row) for row in connection.execute(query)]

    def unfinished(self) -> list[Job]:
        """Every job that has not ended."""
        query = select(tables.jobs).where(tables.jobs.c.status.not_in(ENDED))
        with db.reading(self._engine) as connection:
            return [job_of(row) for row in connection.execute(query)]

    def events(self, number: int, after: int = 0, kind: str | None = None) -> Sequence[Event]:
        """The events of a job that follow its event `after`, in order."""
        query = (
            select(tables.job_events)
            .where(
                tables.job_events.c.job == number,
                tables.job_events.c.number > min(after, tables.MAX_INTEGER),
            )
            .order_by(tables.job_events.c.number)
        )
        if kind is not None:
            query = query.where(tables.job_events.c.kind == kind)
        with db.reading(self._engine) as connection:
            return [Event(row.kind, row.data, row.number) for row in connection.execute(query)]

    def cancel(self, number: int) -> Job:
        """Cancel a queued job at once; have the worker of a running job stop it.

        Raises `JobNotFoundError`, and `ConflictError` for a job that has ended.
        """
        with db.updating(self._engine) as connection:
            job = get_job(connection, number, lock=True)
            if job.ended:
                raise ConflictError(
                    f"job {number} cannot be cancelled: it has ended ({job.status})"
                )
            if job.status == "queued":
                end(connection, job, "cancelled", reason="cancelled before it ran")
            elif job.lease_until and job.lease_until < db.now(connection):
                end(connection, job, "cancelled", reason="cancelled while its worker was lost")
            elif job.status == "running":
                change(connection, job, "cancelling")
            return get_job(connection, number)


def job_of(row: Row[Any]) -> Job:
    return Job(**row._mapping)


def get_job(connection: Connection, number: int, *, lock: bool = False) -> Job:
    query = select(tables.jobs).where(tables.jobs.c.id == number)
    if lock:
        query = query.with_for_update()
    row = connection.execute(query).one_or_none() if 0 < number <= tables.MAX_INTEGER else None
    if row is None:
        raise JobNotFoundError(f"there is no job {number}")
    return job_of(row)


def _find_by_key(connection: Connection, key: str | None, fingerprint: str) -> Job | None:
    if key is None:
        return None
    query = select(tables.jobs).where(tables.jobs.c.idempotency_key == key)
    row = connection.execute(query).one_or_none()
    if row is not None and row.fingerprint != fingerprint:
        raise ConflictError(
            f"Idempotency-Key {key!r} was used for another request, job {row.id}: "
            "use a new key for a new request"
        )
    return job_of(row) if row else None


def change(connection: Connection, job: Job, status: Status, **values: Any) -> None:
    """Change the status of a locked job, and append an event about it."""
    facts = {"attempts": job.attempts, "version": job.version, **values}
    public = {key: facts[key] for key in STATUS_FIELDS if facts.get(key)}
    event = Event("status", {"status": status, **public})
    put(connection, job, status=status, events=job.events + 1, **values)
    append(connection, job.id, job.events, [event])


def end(connection: Connection, job: Job, status: Status, **values: Any) -> None:
    change(connection, job, status, finished_at=db.now(connection), lease_until=None, **values)


def put(connection: Connection, job: Job, **values: Any) -> None:
    connection.execute(update(tables.jobs).where(tables.jobs.c.id == job.id).values(values))
