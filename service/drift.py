"""Whether what versions are asked is like what they were trained on, over all processes."""

import hashlib
import logging
import os
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from pydantic import BaseModel

from models.checkpoint import Meta
from models.drift import Bins, Reference
from service.batcher import Observer
from service.metrics import FOLDER
from service.monitor import Key, Monitor, Watched
from service.settings import Settings
from service.windows import InFile, InProcess, Shelf

FRESH_S = 300.0  # in which a version was asked that another process has loaded, and not this one
SUFFIX = ".drift"

log = logging.getLogger("perceptd.drift")


class Header(BaseModel):
    """What the file of a version says of it, so that any process can tell what its counts mean."""

    model: str
    version: int
    reference: Reference


class Drift:
    """The versions of this server whose inputs are watched.

    Where several processes serve, the counts of a version are in a file of the folder that they
    share for their metrics: each adds to it, and each can answer for all.
    """

    def __init__(self, settings: Settings) -> None:
        self.is_on = settings.drift
        self.window = settings.drift_window
        folder = os.environ.get(FOLDER)
        self._folder = Path(folder) if folder else None
        self._watched: dict[Key, Watched] = {}
        self._seen: set[Path] = set()  # of the folder's files

    def observers(self, model: str, version: int, meta: Meta) -> Sequence[Observer]:
        """What counts the rows of a version; nothing where there is no telling what is usual."""
        reference = meta.drift
        if not self.is_on or reference is None or not reference.fits(meta.spec):
            return ()
        watched = self._watched.get((model, version))
        if watched is None:
            try:
                watched = self._watch(model, version, reference)
            except OSError:  # the version is to serve all the same
                log.exception("inputs of %s version %d are not watched", model, version)
                return ()
        return (Monitor(watched, meta.spec.input, self.window),)

    def find(self, model: str, version: int) -> Watched | None:
        return self._watched.get((model, version))

    def _watch(self, model: str, version: int, reference: Reference) -> Watched:
        key, bins, now = (model, version), Bins(reference), time.time()
        shelf: Shelf
        if self._folder:
            told = Header(model=model, version=version, reference=reference)
            header = told.model_dump_json().encode()
            name = f"{model}-{version}-{hashlib.sha256(header).hexdigest()[:16]}{SUFFIX}"
            shelf = InFile.opened(self._folder / name, header, bins.size, now)
        else:
            shelf = InProcess(bins.size, now)
        return self._watched.setdefault(key, Watched(key, bins, shelf))

    def everywhere(self) -> Iterable[Watched]:
        """All that any process of this server has had loaded."""
        for path in sorted(self._folder.glob(f"*{SUFFIX}")) if self._folder else ():
            if path in self._seen:
                continue
            shelf = InFile(path)
            found = Header.model_validate_json(shelf.header)
            key = (found.model, found.version)
            self._watched.setdefault(key, Watched(key, Bins(found.reference), shelf))
            self._seen.add(path)
        return list(self._watched.values())


class DriftFigures(Collector):
    """What Prometheus is told of the versions that are loaded, here or in another process."""

    def __init__(self, drift: Drift, loaded: Callable[[], Iterable[Key]]) -> None:
        self._drift = drift
        self._loaded = loaded

    def collect(self) -> Iterable[Metric]:
        psi = GaugeMetricFamily(
            "perceptd_input_drift_psi",
            "Population stability index of an input's latest rows against the training's.",
            labels=("model", "version", "feature"),
        )
        predictions = GaugeMetricFamily(
            "perceptd_prediction_drift_psi",
            "Population stability index of the latest predicted classes against the training's.",
            labels=("model", "version"),
        )
        detected = GaugeMetricFamily(
            "perceptd_drift_detected",
            "1 where the inputs are not like those of the training.",
            labels=("model", "version"),
        )
        rows = GaugeMetricFamily(
            "perceptd_drift_rows",
            "Latest rows that the drift figures are about.",
            labels=("model", "version"),
        )
        here = frozenset(self._loaded())
        for watched in self._drift.everywhere():
            report = watched.report()
            is_fresh = time.time() - report.windows.latest <= FRESH_S
            if not report.windows.rows or not (watched.key in here or is_fresh):
                continue
            labels = [watched.key[0], str(watched.key[1])]
            rows.add_metric(labels, report.windows.rows)
            detected.add_metric(labels, report.verdict == "drifted")
            for one in report.measured if report.verdict != "collecting" else ():
                if one.name is None:
                    predictions.add_metric(labels, one.psi)
                else:
                    psi.add_metric([*labels, one.name], one.psi)
        return (psi, predictions, detected, rows)
