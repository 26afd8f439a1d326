"""The metrics that Prometheus reads: of all processes of a server, and of its store.

An answer is counted when it is sent, a batch after its answers are delivered. Each takes about a
microsecond, as the numbers are in memory (`perceptd.service.telemetry.metric_store`).
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

FOLDER = "PERCEPTD_METRICS_DIR"  # the parent sets it for its serving processes
MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
OTHER = "other"  # label of unknown methods and paths: label values must stay few
METHODS = frozenset(HTTPMethod)

log = logging.getLogger("perceptd")


class Metrics:
    """The metrics of one application, and of all processes that count in the same folder."""

    def __init__(self, folder: Path | None = None) -> None:
        if folder is None and (given := os.environ.get(FOLDER)):
            folder = Path(given)
        self.store = MetricStore(folder)
        self._registry = CollectorRegistry()
        self.register(Counted(self.store))
        # To look a series up by the text of its labels would take longer than to count.
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
        """Count an answer. `path` is the template of the route, None if no route matches; `model`
        and `version` are those that answered, if any.
        """
        key = (method, path, code, model, version)
        found = self._answers.get(key)
        if found is None:
            found = self._find(*key)
        count, duration = found
        count[0] += 1
        duration[bisect_left(families.SECONDS, seconds)] += 1
        duration[-1] += seconds

    def _find(
        self, method: str, path: str | None, code: int, model: str, version: int
    ) -> tuple[Series, Series]:
        method_label = method if method in METHODS else OTHER
        path_label = path or OTHER
        labels = (method_label, path_label, str(code), model, str(version) if version else "")
        count = self.store.series(families.REQUESTS, *labels)
        duration = self.store.series(families.REQUEST_SECONDS, method_label, path_label, model)
        if method_label == method:  # the keys must stay few, too
            self._answers[method, path, code, model, version] = count, duration
        return count, duration

    def observer(self, model: str, version: int) -> Observer:
        """An observer that counts the batches of a version."""
        return BatchCounter(self.store, model, version)

    def swap(self, model: str) -> None:
        """Count that another version of a model became production."""
        self.store.series(families.SWAPS, model)[0] += 1

    def feedback(self, model: str, rows: int) -> None:
        """Count stored rows of feedback."""
        self.store.series(families.FEEDBACK_ROWS, model)[0] += rows

    def connection_closed(self, reason: str) -> None:
        """Count a connection that was refused or closed. `reason` is one of a few words."""
        self.store.series(families.CLOSED_CONNECTIONS, reason)[0] += 1

    def register(self, collector: Collector) -> None:
        """Add a collector, which computes its metrics for all processes in the one that is asked.
        If it fails, only its own metrics are missing.
        """
        self._registry.register(SafeCollector(collector))

    def render(self) -> bytes:
        """All metrics, as `MEDIA_TYPE`."""
        return generate_latest(self._registry)


class BatchCounter:
    """Counts the batches of one version."""

    def __init__(self, store: MetricStore, model: str, version: int) -> None:
        self._rows = store.series(families.ANSWERED_ROWS, model, str(version))
        self._size = store.series(families.BATCH_ROWS, model)
        self._wait = store.series(families.QUEUE_SECONDS, model)
        self._compute = store.series(families.COMPUTE_SECONDS, model)

    def __call__(self, batch: BatchResult) -> None:
        _, answer, requests, began, ended = batch
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
    """What the processes count, summed over them."""

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
    """A family as an object of Prometheus' client. Each series is its labels and its numbers."""
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
        if number or not family.hides_zero:
            single.add_metric(labels, number)
    return single


class SafeCollector(Collector):
    """A collector whose errors are logged, so that the metrics of the others are still there."""

    def __init__(self, collector: Collector) -> None:
        self._collector = collector

    def collect(self) -> Iterable[Metric]:
        try:
            return list(self._collector.collect())
        except Exception:
            log.exception("a collector of metrics failed")
            return []
