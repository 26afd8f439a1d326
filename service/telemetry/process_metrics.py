"""Metrics of the processes of a server: readiness, queues, memory, and what they run."""

import asyncio
import logging
import platform
import threading
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from functools import partial

from prometheus_client import Metric, ProcessCollector
from prometheus_client.registry import Collector

from perceptd import __version__
from perceptd.service.inference.engine import Engine
from perceptd.service.inference.loaded_version import LoadedVersion
from perceptd.service.telemetry import families
from perceptd.service.telemetry.families import Family
from perceptd.service.telemetry.metric_store import MetricStore
from perceptd.service.telemetry.metrics import to_metric

INTERVAL_S = 0.5
Labels = tuple[str, ...]

log = logging.getLogger("perceptd")


class ProcessSampler:
    """Samples twice a second what a process has loaded, and how late its event loop is."""

    def __init__(self, store: MetricStore, engine: Engine, draining: threading.Event) -> None:
        self._store = store
        self._engine = engine
        self._draining = draining
        self._pid = str(store.pid)
        self._lag = store.series(families.LOOP_LAG)
        self._labels: dict[Family, set[Labels]] = defaultdict(set)

    async def run(self) -> None:
        """Sample until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                self.sample()
            except Exception:  # metrics must not stop the server
                log.exception("cannot sample the metrics of this process")
            due = loop.time() + INTERVAL_S
            await asyncio.sleep(INTERVAL_S)
            late = max(0.0, loop.time() - due)
            self._lag[bisect_left(families.SECONDS, late)] += 1
            self._lag[-1] += late

    def sample(self) -> None:
        engine = self._engine
        draining = self._draining.is_set()
        ready = bool(engine.production) and not engine.failures and not draining
        self._set(families.READY, {(self._pid,): ready})
        self._set(families.DRAINING, {(self._pid,): draining})
        waiting, room = Counter[Labels](), Counter[Labels]()
        for one in engine.loaded():
            waiting[(one.model,)] += one.batcher.queued_rows
            room[(one.model,)] += one.batcher.max_queue_size
        self._set(families.QUEUED_ROWS, waiting)
        self._set(families.QUEUE_LIMIT_ROWS, room)
        self._set(families.LOADED, versions(engine.loaded()))
        self._set(families.PRODUCTION, versions(engine.production.values()))

    def _set(self, family: Family, values: dict[Labels, int]) -> None:
        """Set gauges; labels that are no longer among the values become 0."""
        for labels in self._labels[family] - values.keys():
            self._store.series(family, *labels)[0] = 0
        for labels, value in values.items():
            self._store.series(family, *labels)[0] = value
        self._labels[family].update(values)


def versions(loaded: Iterable[LoadedVersion]) -> dict[Labels, int]:
    return {(one.model, str(one.version)): 1 for one in loaded}


class Processes(Collector):
    """What Linux knows of each serving process, under the standard names of Prometheus' clients."""

    def __init__(self, store: MetricStore) -> None:
        self._store = store

    def collect(self) -> Iterator[Metric]:
        merged: dict[str, Metric] = {}
        for pid in sorted(self._store.pids()):
            for metric in ProcessCollector(pid=partial(int, pid), registry=None).collect():
                family = merged.setdefault(
                    metric.name, Metric(metric.name, metric.documentation, metric.type)
                )
                for sample in metric.samples:
                    family.add_sample(sample.name, {"pid": str(pid)}, sample.value)
        yield from merged.values()


class Build(Collector):
    """The release that runs, with its Python, runtime and device."""

    def __init__(self, engine: Engine) -> None:
        labels = (__version__, platform.python_version(), engine.runtime, engine.device)
        self._labels = labels

    def collect(self) -> Iterator[Metric]:
        yield to_metric(families.BUILD, [(self._labels, [1.0])])
