"""Whether what versions are asked is like what they were trained on, over all processes."""

import hashlib
import logging
import os
import threading
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from weakref import WeakValueDictionary

from prometheus_client import Metric
from prometheus_client.registry import Collector
from pydantic import BaseModel

from perceptd.models.checkpoint import Meta
from perceptd.models.drift import Bins, Reference
from perceptd.service.drift.monitor import Key, Monitor, Watched
from perceptd.service.drift.windows import InFile, InProcess, Shelf
from perceptd.service.inference.batcher import Observer
from perceptd.service.settings import Settings
from perceptd.service.telemetry import families
from perceptd.service.telemetry.families import Family
from perceptd.service.telemetry.metrics import FOLDER, to_metric

FRESH_S = 300.0  # in which a version was asked that another process has loaded, and not this one
SUFFIX = ".drift"

log = logging.getLogger("perceptd.drift")

Series = tuple[tuple[str, ...], list[float]]  # labels and numbers


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
        self._changing = threading.Lock()
        self._watched: dict[Key, Watched] = {}
        self._paths: dict[Path, Key] = {}  # of the folder's files, those that are open
        # Of the versions that this process has loaded: each keeps its monitor.
        self._monitors: WeakValueDictionary[Key, Monitor] = WeakValueDictionary()

    def observers(self, model: str, version: int, meta: Meta) -> Sequence[Observer]:
        """What counts the rows of a version; nothing where there is no telling what is usual."""
        reference = usable_reference(meta)
        if not self.is_on or reference is None:
            return ()
        key = (model, version)
        with self._changing:
            try:
                watched = self._watched.get(key) or self._watch(key, reference)
            except OSError:  # the version is to serve all the same
                log.exception("inputs of %s version %d are not watched", model, version)
                return ()
            monitor = self._monitors[key] = Monitor(watched, meta.spec.input, self.window)
        return (monitor,)

    def find(self, model: str, version: int) -> Watched | None:
        return self._watched.get((model, version))

    def _watch(self, key: Key, reference: Reference) -> Watched:
        bins, now = Bins(reference), time.time()
        shelf: Shelf
        if self._folder:
            model, version = key
            stated = Header(model=model, version=version, reference=reference)
            header = stated.model_dump_json().encode()
            name = f"{model}-{version}-{hashlib.sha256(header).hexdigest()[:16]}{SUFFIX}"
            path = self._folder / name
            shelf = InFile.opened(path, header, bins.size, now)
            self._paths[path] = key
        else:
            shelf = InProcess(bins.size, now)
        watched = self._watched[key] = Watched(key, bins, shelf)
        return watched

    def everywhere(self) -> list[Watched]:
        """What this process has loaded, and what any process was asked lately."""
        with self._changing:
            self._look_for_others()
            self._forget()
            return list(self._watched.values())

    def _look_for_others(self) -> None:
        for path in sorted(self._folder.glob(f"*{SUFFIX}")) if self._folder else ():
            if path in self._paths or not is_fresh(path.stat().st_mtime):
                continue
            shelf = InFile(path)
            found = Header.model_validate_json(shelf.header)
            key = (found.model, found.version)
            self._watched.setdefault(key, Watched(key, Bins(found.reference), shelf))
            self._paths[path] = key

    def _forget(self) -> None:
        """Keep nothing open, and nothing in memory, of a version that is of the past."""
        for key, watched in list(self._watched.items()):
            if key not in self._monitors and not is_fresh(watched.shelf.read().latest):
                del self._watched[key]
        self._paths = {path: key for path, key in self._paths.items() if key in self._watched}


def usable_reference(meta: Meta) -> Reference | None:
    """What a version's rows can be held against."""
    return meta.drift if meta.drift and meta.drift.fits(meta.spec) else None


def is_fresh(time_s: float) -> bool:
    return time.time() - time_s <= FRESH_S


class DriftFigures(Collector):
    """What Prometheus is told of versions that were asked something, here or in another process."""

    def __init__(self, drift: Drift) -> None:
        self._drift = drift

    def collect(self) -> Iterable[Metric]:
        found: dict[Family, list[Series]] = {family: [] for family in families.DRIFT}
        for watched in self._drift.everywhere():
            report = watched.report()
            if not report.windows.rows:
                continue
            model, version = watched.key
            labels = (model, str(version))
            found[families.DRIFT_ROWS].append((labels, [report.windows.rows]))
            found[families.DRIFTED].append((labels, [report.verdict == "drifted"]))
            for one in report.measured if report.verdict != "collecting" else ():
                if one.name is None:
                    found[families.PREDICTION_PSI].append((labels, [one.psi]))
                else:
                    found[families.INPUT_PSI].append(((*labels, one.name), [one.psi]))
        return [to_metric(family, series) for family, series in found.items()]
