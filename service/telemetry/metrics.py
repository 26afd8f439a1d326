"""What Prometheus is told: the figures of all processes of a server, and of the store behind them.

An answer is counted where it is sent, a batch once its answers are on their way; each costs about a
microsecond, for the numbers lie in memory (`perceptd.service.telemetry.metric_store`).
"""

import logging
import os
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator
from http import HTTPMethod
from pathlib import Path

from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.registry import Collector

from perceptd.service.inference.batcher import BatchResult, Observer
from perceptd.service.telemetry import families
from perceptd.service.telemetry.families import Family
from perceptd.service.telemetry.metric_store import MetricStore, Series

FOLDER = "PERCEPTD_METRICS_DIR"  # set for the processes that answer together, by their parent
MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
OTHER = "other"  # the label of whatever a caller made up: labels must stay few
METHODS = frozenset(HTTPMethod)

log = logging.getLogger("perceptd")


class Metrics:
    """The figures of one application, and of those that count in the same folder."""

    def __init__(self, folder: Path | None = None) -> None:
        if folder is None and (given := os.environ.get(FOLDER)):
            folder = Path(given)
        self.store = MetricStore(folder)
        self._registry = CollectorRegistry()
        self.collect(Counted(self.store))
        # Looking a figure up by its labels' text would cost more than counting.
        self._answers: dict[tuple[str, str | None, int, str, int], tuple[Series, Series]] = {}

    def request(
        self,
        method: str,
        path: str | None,
        code: int,
        seconds: float,
        model: str = "",
        version: int = 0,
    ) -> None:
        """Count an answer. `path` is its route's template, or None where there is no route; the
        version is the loaded one that answered, if any.
        """
        key = (method, path, code, model, version)
        found = self._answers.get(key)
        if found is None:
            found = self._answer(*key)
        count, duration = found
        count[0] += 1
        duration[bisect_left(families.SECONDS, seconds)] += 1
        duration[-1] += seconds

    def _answer(
        self, method: str, path: str | None, code: int, model: str, version: int
    ) -> tuple[Series, Series]:
        how = method if method in METHODS else OTHER
        where = path or OTHER
        number = str(version) if version else ""
        count = self.store.series(families.REQUESTS, how, where, str(code), model, number)
        duration = self.store.series(families.REQUEST_SECONDS, how, where, model)
        if how == method:  # what callers make up is not to be kept
            self._answers[method, path, code, model, version] = count, duration
        return count, duration

    def observer(self, model: str, version: int) -> Observer:
        """What counts the batches of a version."""
        return Batches(self.store, model, version)

    def swap(self, model: str) -> None:
        """Count that another version of a model serves now."""
        self.store.series(families.SWAPS, model)[0] += 1

    def feedback(self, model: str, rows: int) -> None:
        """Count corrected rows that are kept."""
        self.store.series(families.FEEDBACK_ROWS, model)[0] += rows

    def connection_closed(self, reason: str) -> None:
        """Count a connection that was refused or closed; `reason` is one of a few words."""
        self.store.series(families.CLOSED_CONNECTIONS, reason)[0] += 1

    def collect(self, collector: Collector) -> None:
        """Ask a collector as well whenever the figures are read. What it tells is told as it is:
        by the process that is asked, for all of them. One that fails tells nothing.
        """
        self._registry.register(Guarded(collector))

    def render(self) -> bytes:
        """All figures, as `MEDIA_TYPE` has it."""
        return generate_latest(self._registry)


class Batches:
    """Counts the batches of one version."""

    def __init__(self, store: MetricStore, model: str, version: int) -> None:
        self._rows = store.series(families.ANSWERED_ROWS, model, str(version))
        self._size = store.series(families.BATCH_ROWS, model)
        self._wait = store.series(families.QUEUE_SECONDS, model)
        self._compute = store.series(families.COMPUTE_SECONDS, model)

    def __call__(self, ran: BatchResult) -> None:
        _, answer, requests, began, ended = ran
        rows = len(answer.indices)
        self._rows[0] += rows
        size, compute, wait = self._size, self._compute, self._wait
        size[bisect_left(families.ROWS, rows)] += 1
        size[-1] += rows
        seconds = ended - began
        compute[bisect_left(families.SECONDS, seconds)] += 1
        compute[-1] += seconds
        waited = 0.0
        for request in requests:
            parts = request.parts
            if not parts or len(parts[0].indices) == request.taken:  # its first batch
                seconds = began - request.arrived
                waited += seconds
                wait[bisect_left(families.SECONDS, seconds)] += 1
        wait[-1] += waited


class Counted(Collector):
    """What the processes count: sums over them, or what each says of itself."""

    def __init__(self, store: MetricStore) -> None:
        self._store = store

    def collect(self) -> Iterator[Metric]:
        found: dict[str, dict[tuple[str, ...], list[float]]] = defaultdict(dict)
        for _, name, labels, numbers in self._store.read():
            sums = found[name].get(labels)
            if sums is None:
                found[name][labels] = list(numbers)
            else:
                for index, number in enumerate(numbers):
                    sums[index] += number
        for name, family in families.COUNTED.items():
            yield to_metric(family, found[name].items())


def to_metric(family: Family, series: Iterable[tuple[tuple[str, ...], list[float]]]) -> Metric:
    """A family as Prometheus' client has it."""
    if family.kind == "histogram":
        histogram = HistogramMetricFamily(family.name, family.help, labels=family.labels)
        for labels, numbers in sorted(series):
            below, buckets = 0.0, []
            for bucket, number in zip((*map(str, family.buckets), "+Inf"), numbers, strict=False):
                below += number
                buckets.append((bucket, below))
            histogram.add_metric(labels, buckets, numbers[-1])
        return histogram
    kind = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
    single = kind(family.name, family.help, labels=family.labels)
    for labels, (number,) in sorted(series):
        if number or not family.fades:
            single.add_metric(labels, number)
    return single


class Guarded(Collector):
    """A collector that holds back no other's figures when it fails."""

    def __init__(self, collector: Collector) -> None:
        self._collector = collector

    def collect(self) -> Iterable[Metric]:
        try:
            return list(self._collector.collect())
        except Exception:
            log.exception("figures are missing")
            return []
