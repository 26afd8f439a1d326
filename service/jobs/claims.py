"""What a worker does with jobs: claim, send heartbeats, finish, hand back.

A worker holds a job by a lease that its heartbeats renew. A write to a job that its worker has lost
raises `LostJobError` and changes nothing.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Engine, or_, select
from sqlalchemy.exc import IntegrityError

from perceptd.service.jobs.events import Event, append, unseen
from perceptd.service.jobs.queue import (
    HELD,
    Job,
    Promotion,
    change,
    end,
    get_job,
    job_of,
    put,
)
from perceptd.service.store import db, tables

MAX_LEASE_S = 2 * 3600  # twice the maximum of the setting


class LostJobError(Exception):
    """The job has ended or is held by another worker."""


class CancelledError(Exception):
    """The job is to be cancelled."""


class Claims:
    """The jobs of one worker."""

    def __init__(self, engine: Engine, worker: str, lease_s: float, max_attempts: int) -> None:
        self._engine = engine
        self.worker = worker
        self.lease_s = lease_s
        self.max_attempts = max_attempts

    def claim(self) -> Job | None:
        """Claim the next job, or return None. Models take turns, and run one job at a time each.

        First, stalled jobs are queued again, or failed after `max_attempts`.
        """
        with db.updating(self._engine) as connection:
            now = db.now(connection)
            self._release_stalled(connection, now)
            job = _next(connection)
            if job is None:
                return None
            try:
                with connection.begin_nested():
                    change(
                        connection,
                        job,
                        "running",
                        attempts=job.attempts + 1,
                        worker=self.worker,
                        lease_until=now + timedelta(seconds=self.lease_s),
                        started_at=job.started_at or now,
                        reason=None,
                    )
            except IntegrityError:  # another worker just started a job of this model
                return None
            return get_job(connection, job.id)

    def heartbeat(
        self,
        job: Job,
        *,
        runtime_s: float,
        progress: dict[str, Any] | None = None,
        events: Sequence[Event] = (),
    ) -> None:
        """Renew the lease, and store what happened since the last heartbeat.

        Raises `LostJobError`, and `CancelledError` after the events are stored.
        """
        with self._held(job) as (connection, current):
            events = unseen(connection, job.id, events)
            values: dict[str, Any] = {
                "lease_until": db.now(connection) + timedelta(seconds=self.lease_s),
                "runtime_s": runtime_s,
                "events": current.events + len(events),
            }
            if progress is not None:
                values["progress"] = progress
            put(connection, job, **values)
            append(connection, job.id, current.events, events)
        if current.status == "cancelling":
            raise CancelledError

    @contextmanager
    def holding(self, job: Job) -> Iterator[Connection]:
        """A transaction that changes the store for a job, if the worker still holds it.

        Raises `LostJobError`, `CancelledError`.
        """
        with db.writing(self._engine) as connection:
            if _held(connection, job).status == "cancelling":
                raise CancelledError
            yield connection

    def set_version(self, job: Job, version: int, within: Connection) -> None:
        """Store the version that a job made, in the transaction that registers it."""
        put(within, job, version=version)

    def succeed(
        self,
        job: Job,
        promotion: Promotion,
        reason: str,
        within: Connection,
        *,
        gate: dict[str, Any] | None = None,
        reproduction: dict[str, Any] | None = None,
    ) -> None:
        """End a job as succeeded, in the transaction of `holding` that promotes its version."""
        if gate is not None:
            current = _held(within, job)
            append(
                within, job.id, current.events, [Event("gate", {"promotion": promotion, **gate})]
            )
            put(within, job, events=current.events + 1)
        end(
            within,
            _held(within, job),
            "succeeded",
            promotion=promotion,
            reason=reason,
            gate=gate,
            reproduction=reproduction,
        )

    def fail(self, job: Job, code: str, reason: str, log: Sequence[str] = ()) -> None:
        """End a job as failed, with its last log lines. Raises `LostJobError`."""
        with self._held(job) as (connection, current):
            if current.status == "cancelling":
                end(connection, current, "cancelled", reason="cancelled while it ran")
            else:
                end(connection, current, "failed", code=code, reason=reason, log=[*log])

    def abort(self, job: Job) -> None:
        """End a job that is to be cancelled. Raises `LostJobError`."""
        with self._held(job) as (connection, current):
            end(connection, current, "cancelled", reason="cancelled while it ran")

    def hand_back(self, job: Job, reason: str, *, counts: bool) -> None:
        """Queue a job again, to be resumed. Raises `LostJobError`.

        `counts` says whether this was one of its `max_attempts`.
        """
        with self._held(job) as (connection, current):
            if current.status == "cancelling":
                end(connection, current, "cancelled", reason="cancelled while it ran")
            else:
                attempts = current.attempts if counts else current.attempts - 1
                _requeue(connection, current, reason, attempts=attempts)

    @contextmanager
    def _held(self, job: Job) -> Iterator[tuple[Connection, Job]]:
        with db.updating(self._engine) as connection:
            yield connection, _held(connection, job)

    def _release_stalled(self, connection: Connection, now: datetime) -> None:
        """Queue or end the jobs whose lease is over, because their worker was lost."""
        lease = tables.jobs.c.lease_until
        # A lease that ends too far ahead was set before the clock was set back.
        over = or_(lease < now, lease > now + timedelta(seconds=MAX_LEASE_S))
        query = (
            select(tables.jobs)
            .where(tables.jobs.c.status.in_(HELD), over)
            .with_for_update(skip_locked=True)
        )
        for job in map(job_of, connection.execute(query).all()):
            if job.status == "cancelling":
                end(connection, job, "cancelled", reason="cancelled while its worker was lost")
            elif job.attempts >= self.max_attempts:
                reason = f"its worker was lost, in each of {job.attempts} attempts"
                end(connection, job, "failed", code="worker_lost", reason=reason)
            else:
                _requeue(connection, job, "its worker was lost")


def _held(connection: Connection, job: Job) -> Job:
    """The current row of the job, locked. Raises `LostJobError` if its worker lost it."""
    current = get_job(connection, job.id, lock=True)
    if (current.worker, current.attempts) != (job.worker, job.attempts) or (
        current.status not in HELD
    ):
        raise LostJobError(f"job {job.id} is no longer held by {job.worker}")
    return current


def _next(connection: Connection) -> Job | None:
    """The oldest queued job of the model that has not started a job for longest."""
    other = tables.jobs.alias()
    busy = select(other.c.id).where(other.c.model == tables.jobs.c.model, other.c.status.in_(HELD))
    last_start = (
        select(other.c.started_at)
        .where(other.c.model == tables.jobs.c.model, other.c.started_at.is_not(None))
        .order_by(other.c.started_at.desc())
        .limit(1)
        .scalar_subquery()
    )
    query = (
        select(tables.jobs)
        .where(tables.jobs.c.status == "queued", ~busy.exists())
        .order_by(last_start.asc().nulls_first(), tables.jobs.c.id)
        .limit(1)
        .with_for_update(skip_locked=True, of=tables.jobs)
    )
    row = connection.execute(query).one_or_none()
    return job_of(row) if row else None


def _requeue(connection: Connection, job: Job, reason: str, **values: Any) -> None:
    change(connection, job, "queued", worker=None, lease_until=None, reason=reason, **values)
