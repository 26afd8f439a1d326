"""Metrics of the jobs in the database. They are the same on every machine that shares it."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, get_args

from prometheus_client import Metric
from prometheus_client.registry import Collector
from sqlalchemy import Engine, case, func, select

from perceptd.service.errors import StoreError
from perceptd.service.jobs.queue import ENDED, KINDS, Status
from perceptd.service.store import db
from perceptd.service.store.tables import jobs
from perceptd.service.telemetry import families
from perceptd.service.telemetry.metrics import to_metric

CACHE_S = 5.0  # no second query within this time
MAX_AGE_S = 30.0  # older metrics are not shown while the database is slow
WAIT_S = 0.5  # for the database: other metrics must not wait longer
THREAD = "job metrics"
STATUSES: tuple[Status, ...] = get_args(Status)

log = logging.getLogger("perceptd")


class JobMetrics(Collector):
    """Queries the database when Prometheus asks, at most every `CACHE_S`.

    One thread at a time waits for the database. If it does not answer within `WAIT_S`, the metrics
    of the last query are shown until they are `MAX_AGE_S` old, then none.
    """

    def __init__(self, engine: Engine, now: Callable[[], float] = time.monotonic) -> None:
        self._engine = engine
        self._now = now
        self._thread: threading.Thread | None = None
        self._metrics: list[Metric] = []
        self._queried_at = float("-inf")
        self._lock = threading.Lock()

    def collect(self) -> Iterator[Metric]:
        metrics = self._latest()
        yield to_metric(families.DATABASE, [((), [float(bool(metrics))])])
        yield from metrics

    def _latest(self) -> list[Metric]:
        with self._lock:
            if self._now() - self._queried_at < CACHE_S:
                return self._metrics
            thread = self._thread
            if thread is None or not thread.is_alive():
                self._thread = thread = threading.Thread(
                    target=self._query, name=THREAD, daemon=True
                )
                thread.start()
            thread.join(WAIT_S)
            is_old = self._now() - self._queried_at > MAX_AGE_S
            return [] if thread.is_alive() and is_old else self._metrics

    def _query(self) -> None:
        try:
            self._metrics = read_metrics(self._engine)
        except StoreError as error:
            self._metrics = []
            log.warning("cannot read the metrics of jobs: %s", error)
        except Exception:
            self._metrics = []
            log.exception("cannot read the metrics of jobs")
        self._queried_at = self._now()


def read_metrics(engine: Engine) -> list[Metric]:
    """Jobs by kind and status, and how long the ended ones worked. Raises `StoreError`."""
    at_most = [
        func.sum(case((jobs.c.runtime_s <= limit, 1), else_=0)) for limit in families.JOB_SECONDS
    ]
    grouped = select(
        jobs.c.kind, jobs.c.status, func.count(), func.sum(jobs.c.runtime_s), *at_most
    ).group_by(jobs.c.kind, jobs.c.status)
    oldest = select(func.min(jobs.c.created_at)).where(jobs.c.status == "queued")
    with db.reading(engine) as connection:
        rows = {(row[0], row[1]): row[2:] for row in connection.execute(grouped)}
        since = connection.execute(oldest).scalar_one()
        waited = (db.now(connection) - since).total_seconds() if since else 0.0
    counts: list[Any] = []
    durations: list[Any] = []
    for kind in KINDS:
        for status in STATUSES:
            count, seconds, *below = rows.get((kind, status), (0, 0.0, *[0] * len(at_most)))
            counts.append(((kind, status), [float(count)]))
            if status in ENDED:
                steps = [high - low for low, high in zip((0, *below), (*below, count), strict=True)]
                durations.append(((kind, status), [*map(float, steps), float(seconds)]))
    return [
        to_metric(families.JOBS, counts),
        to_metric(families.JOB_DURATION, durations),
        to_metric(families.OLDEST_QUEUED, [((), [max(0.0, waited)])]),
    ]
