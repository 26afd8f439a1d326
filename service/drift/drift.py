"""Whether the inputs of versions are like their training data, over all processes."""

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
from perceptd.service.drift.monitor import Key, Monitor, WatchedVersion
from perceptd.service.drift.window import FileStore, MemoryStore, WindowStore
from perceptd.service.inference.batcher import Observer
from perceptd.service.settings import Settings
from perceptd.service.telemetry import families
from perceptd.service.telemetry.families import Family
from perceptd.service.telemetry.metrics import FOLDER, to_metric

RECENT_S = 300.0  # since its last request, a version of another process is shown here
SUFFIX = ".drift"

log = logging.getLogger("perceptd.drift")

Series = tuple[tuple[str, ...], list[float]]  # labels and numbers


class Header(BaseModel):
    """Header of a version's file, by which every process can interpret its counts."""

    model: str
    version: int
    reference: Reference


class Drift:
    """The versions of this server whose inputs are counted.

    If several processes serve, the counts of a version are in a file of their shared folder for
    metrics. Each process adds to it, and each can read the sum.
    """

    def __init__(self, settings: Settings) -> None:
        self.is_on = settings.drift
        self.window = settings.drift_window
        folder = os.environ.get(FOLDER)
        self._folder = Path(folder) if folder else None
        self._changing = threading.Lock()
        self._watched: dict[Key, WatchedVersion] = {}
        self._paths: dict[Path, Key] = {}  # the files that are open
        # Only loaded versions keep their monitors alive.
        self._monitors: WeakValueDictionary[Key, Monitor] = WeakValueDictionary()

    def observers(self, model: str, version: int, meta: Meta) -> Sequence[Observer]:
        """An observer that counts the rows of a version; none without a usable reference."""
        reference = usable_reference(meta)
        if not self.is_on or reference is None:
            return ()
        key = (model, version)
        with self._changing:
            try:
                watched = self._watched.get(key) or self._watch(key, reference)
            except OSError:  # the version can serve without
                log.exception("cannot measure the drift of %s version %d", model, version)
                return ()
            monitor = self._monitors[key] = Monitor(watched, meta.spec.input, self.window)
        return (monitor,)

    def find(self, model: str, version: int) -> WatchedVersion | None:
        return self._watched.get((model, version))

    def _watch(self, key: Key, reference: Reference) -> WatchedVersion:
        bins, now = Bins(reference), time.time()
        store: WindowStore
        if self._folder:
            model, version = key
            header = Header(model=model, version=version, reference=reference)
            content = header.model_dump_json().encode()
            name = f"{model}-{version}-{hashlib.sha256(content).hexdigest()[:16]}{SUFFIX}"
            path = self._folder / name
            store = FileStore.opened(path, content, bins.size, now)
            self._paths[path] = key
        else:
            store = MemoryStore(bins.size, now)
        watched = self._watched[key] = WatchedVersion(key, bins, store)
        return watched

    def all_versions(self) -> list[WatchedVersion]:
        """Versions that this process has loaded, or that any process had requests for recently."""
        with self._changing:
            self._open_new_files()
            self._drop_old()
            return list(self._watched.values())

    def _open_new_files(self) -> None:
        for path in sorted(self._folder.glob(f"*{SUFFIX}")) if self._folder else ():
            if path in self._paths or not is_recent(path.stat().st_mtime):
                continue
            store = FileStore(path)
            found = Header.model_validate_json(store.header)
            key = (found.model, found.version)
            self._watched.setdefault(key, WatchedVersion(key, Bins(found.reference), store))
            self._paths[path] = key

    def _drop_old(self) -> None:
        """Close the files of versions that are not loaded and had no requests recently."""
        for key, watched in list(self._watched.items()):
            if key not in self._monitors and not is_recent(watched.store.read().latest):
                del self._watched[key]
        self._paths = {path: key for path, key in self._paths.items() if key in self._watched}


def usable_reference(meta: Meta) -> Reference | None:
    """The reference of a checkpoint, if it fits the model's inputs and labels."""
    return meta.drift if meta.drift and meta.drift.fits(meta.spec) else None


def is_recent(time_s: float) -> bool:
    return time.time() - time_s <= RECENT_S


class DriftMetrics(Collector):
    """Metrics of the versions that had requests, in any process."""

    def __init__(self, drift: Drift) -> None:
        self._drift = drift

    def collect(self) -> Iterable[Metric]:
        found: dict[Family, list[Series]] = {family: [] for family in families.DRIFT}
        for watched in self._drift.all_versions():
            report = watched.report()
            if not report.window.rows:
                continue
            model, version = watched.key
            labels = (model, str(version))
            found[families.DRIFT_ROWS].append((labels, [report.window.rows]))
            found[families.DRIFTED].append((labels, [report.verdict == "drifted"]))
            for one in report.measured if report.verdict != "collecting" else ():
                if one.name is None:
                    found[families.PREDICTION_PSI].append((labels, [one.psi]))
                else:
                    found[families.INPUT_PSI].append(((*labels, one.name), [one.psi]))
        return [to_metric(family, series) for family, series in found.items()]
