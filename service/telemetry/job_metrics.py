"""What the database knows of jobs, told to Prometheus: the same on every machine of a store."""

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

FRESH_S = 5.0  # for which what the database said is told again
OLD_S = 30.0  # for which it is while the database takes its time
THREAD = "figures of jobs"
PATIENCE_S = 0.5  # for which an answer is waited for: the other figures are not to wait longer
STATUSES: tuple[Status, ...] = get_args(Status)

Found = list[Metric]

log = logging.getLogger("perceptd")


class JobFigures(Collector):
    """Asks the database when it is asked itself, unless it has lately.

    One thread at a time waits for the database. Where that does not answer soon, what it said
    before is told for a while, then no jobs.
    """

    def __init__(self, engine: Engine, now: Callable[[], float] = time.monotonic) -> None:
        self._engine = engine
        self._now = now
        self._asking: threading.Thread | None = None
        self._found: Found = []
        self._asked_at = float("-inf")
        self._turn = threading.Lock()

    def collect(self) -> Iterator[Metric]:
        found = self._fresh()
        yield to_metric(families.DATABASE, [((), [float(bool(found))])])
        yield from found

    def _fresh(self) -> Found:
        with self._turn:
            if self._now() - self._asked_at < FRESH_S:
                return self._found
            asking = self._asking
            if asking is None or not asking.is_alive():
                self._asking = asking = threading.Thread(target=self._ask, name=THREAD, daemon=True)
                asking.start()
            asking.join(PATIENCE_S)
            is_old = self._now() - self._asked_at > OLD_S
            return [] if asking.is_alive() and is_old else self._found

    def _ask(self) -> None:
        try:
            self._found = figures(self._engine)
        except StoreError as error:
            self._found = []
            log.warning("no figures of jobs: %s", error)
        except Exception:
            self._found = []
            log.exception("no figures of jobs")
        self._asked_at = self._now()


def figures(engine: Engine) -> Found:
    """Jobs by kind and state, and how long those took that have ended. Raises `StoreError`."""
    taking = [
        func.sum(case((jobs.c.runtime_s <= limit, 1), else_=0)) for limit in families.JOB_SECONDS
    ]
    grouped = select(
        jobs.c.kind, jobs.c.status, func.count(), func.sum(jobs.c.runtime_s), *taking
    ).group_by(jobs.c.kind, jobs.c.status)
    oldest = select(func.min(jobs.c.created_at)).where(jobs.c.status == "queued")
    with db.reading(engine) as connection:
        rows = {(row[0], row[1]): row[2:] for row in connection.execute(grouped)}
        since = connection.execute(oldest).scalar_one()
        waited = (db.now(connection) - since).total_seconds() if since else 0.0
    counted: list[Any] = []
    taken: list[Any] = []
    for kind in KINDS:
        for status in STATUSES:
            count, seconds, *below = rows.get((kind, status), (0, 0.0, *[0] * len(taking)))
            counted.append(((kind, status), [float(count)]))
            if status in ENDED:
                steps = [high - low for low, high in zip((0, *below), (*below, count), strict=True)]
                taken.append(((kind, status), [*map(float, steps), float(seconds)]))
    return [
        to_metric(families.JOBS, counted),
        to_metric(families.JOB_DURATION, taken),
        to_metric(families.OLDEST_QUEUED, [((), [max(0.0, waited)])]),
    ]
