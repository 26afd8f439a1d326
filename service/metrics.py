"""What Prometheus counts, over all processes of a server.

Where several processes serve, each writes its figures to files of one folder, and whoever is asked
adds them up: `PROMETHEUS_MULTIPROC_DIR`, which prometheus_client reads when it is imported.
"""

import os
from http import HTTPMethod

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from service.batcher import Ran

FOLDER = "PROMETHEUS_MULTIPROC_DIR"
MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
OTHER = "other"  # the label of whatever a caller made up: labels must stay few
METHODS = frozenset(HTTPMethod)
BATCH_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
EXAMPLE = """\
# HELP perceptd_http_requests_total Requests answered.
# TYPE perceptd_http_requests_total counter
perceptd_http_requests_total{code="200",method="POST",path="/predict"} 1024.0
"""


class Metrics:
    """The figures of one application. Whatever is counted for each request takes a microsecond."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call] # several processes have none
        self._registry = CollectorRegistry()
        own: CollectorRegistry | None = self._registry
        if folder := os.environ.get(FOLDER):
            MultiProcessCollector(self._registry, folder)  # type: ignore[no-untyped-call]
            own = None
        self._requests = Counter(
            "perceptd_http_requests_total",
            "Requests answered.",
            ("method", "path", "code"),
            registry=own,
        )
        self._rows = Counter(
            "perceptd_rows_total", "Rows answered.", ("model", "version"), registry=own
        )
        self._batch_rows = Histogram(
            "perceptd_batch_size_rows",
            "Rows of one forward pass.",
            ("model",),
            registry=own,
            buckets=BATCH_ROWS,
        )
        self._swaps = Counter(
            "perceptd_swaps_total",
            "Changes of the version in production, in each process.",
            ("model",),
            registry=own,
        )
        # Looking a label's figure up by its text would cost more than counting.
        self._request_counters: dict[tuple[str, str, int], Counter] = {}
        self._batch_figures: dict[tuple[str, int], tuple[Counter, Histogram]] = {}

    def request(self, method: str, path: str | None, code: int) -> None:
        """Count an answer; `path` is its route's template, or None where there is no route."""
        key = (method if method in METHODS else OTHER, path or OTHER, code)
        counter = self._request_counters.get(key)
        if counter is None:
            counter = self._request_counters[key] = self._requests.labels(*key)
        counter.inc()

    def batch(self, model: str, version: int, ran: Ran) -> None:
        """Count the rows of one forward pass."""
        rows = len(ran.rows)
        figures = self._batch_figures.get((model, version))
        if figures is None:
            figures = (self._rows.labels(model, version), self._batch_rows.labels(model))
            self._batch_figures[model, version] = figures
        answered, size = figures
        answered.inc(rows)
        size.observe(rows)

    def swap(self, model: str) -> None:
        """Count that another version of a model serves now."""
        self._swaps.labels(model).inc()

    def collect(self, collector: Collector) -> None:
        """Have figures told that are counted elsewhere."""
        self._registry.register(collector)

    def render(self) -> bytes:
        """All figures, as `MEDIA_TYPE` has it."""
        return generate_latest(self._registry)
