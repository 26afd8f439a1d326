"""The lease under which a worker holds one job."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from perceptd.service.errors import DiskError, StoreError
from perceptd.service.jobs.claims import Claims, LostJobError
from perceptd.service.jobs.events import Event
from perceptd.service.jobs.queue import Job
from perceptd.service.settings import TIMEOUT_S
from perceptd.service.store import db
from perceptd.service.worker.process import GRACE_S

HEARTBEAT_S = 0.5  # between heartbeats; a cancellation is seen with the next one
RETRY_S = 0.5  # before the first retry of a failed write; doubled with each retry
MAX_RETRY_S = 30.0

log = logging.getLogger("perceptd.worker")
Result = TypeVar("Result")


class Lease:
    """Renews the claim on one job, and writes to the store while it is held.

    `claimed_at` is a time of `time.monotonic`, taken before the job was claimed.
    """

    def __init__(self, job: Job, claims: Claims, stop: threading.Event, claimed_at: float) -> None:
        self._job = job
        self._claims = claims
        self._stop = stop
        self._started_at = self._renewed_at = claimed_at

    @property
    def runtime_s(self) -> float:
        """Seconds of work on the job, over all attempts."""
        return self._job.runtime_s + time.monotonic() - self._started_at

    @property
    def is_due(self) -> bool:
        """Whether it is time for the next heartbeat."""
        pause = min(HEARTBEAT_S, self._claims.lease_s / 5)
        return time.monotonic() - self._renewed_at > pause

    def renew(self, progress: dict[str, Any] | None, events: Sequence[Event]) -> None:
        """Send a heartbeat with the events since the last one.

        Raises `LostJobError`, `StoreError`, and `CancelledError` after the events are stored.
        """
        asked_at = time.monotonic()
        self._claims.heartbeat(
            self._job, runtime_s=self.runtime_s, progress=progress, events=events
        )
        self._renewed_at = asked_at

    def try_renew(self, progress: dict[str, Any] | None, events: Sequence[Event]) -> bool:
        """Renew, and return False while the database is unreachable but the lease still runs.

        Raises `CancelledError`, and `LostJobError` once too little of the lease is left to retry
        and to stop the training.
        """
        try:
            self.renew(progress, events)
        except StoreError as error:
            left_s = self._claims.lease_s - (time.monotonic() - self._renewed_at)
            if left_s < TIMEOUT_S + GRACE_S:
                raise LostJobError(f"its lease ran out: {error}") from error
            return False
        return True

    def persist(self, write: Callable[[], Result]) -> Result:
        """Write to the store, and retry until the database is reachable again.

        The wait may outlast the lease: no training runs meanwhile, and each write checks the claim.
        A full disk and the tables of another release are raised at once. Raises `LostJobError` if
        the worker is asked to stop while it waits.
        """
        pause = RETRY_S
        while True:
            try:
                return write()
            except StoreError as error:
                if isinstance(error, DiskError) or db.has_other_tables(error):
                    raise
                if pause == RETRY_S:
                    log.warning("job %d waits for the database: %s", self._job.id, error)
                if self._stop.wait(pause):
                    raise LostJobError(
                        "its worker stopped while the database was unreachable"
                    ) from error
                pause = min(2 * pause, MAX_RETRY_S)
