"""The versions that serve: load them, swap them, find the one that answers."""

import logging
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from anyio import CapacityLimiter, to_thread

from perceptd.models.checkpoint import CheckpointError
from perceptd.service.errors import (
    ConflictError,
    ModelNotFoundError,
    ModelUnavailableError,
    PerceptdError,
    StoreError,
    unloaded_error,
)
from perceptd.service.inference import runtimes
from perceptd.service.inference.arrivals import Arrivals
from perceptd.service.inference.decoder import Decoder
from perceptd.service.inference.loaded_version import (
    LoadedVersion,
    MakeObservers,
    load,
    no_observers,
)
from perceptd.service.schemas.requests import RequestSchemas
from perceptd.service.settings import Settings
from perceptd.service.store.aliases import Serving
from perceptd.service.store.repository import Repository

MAX_READERS = 2  # threads that read large bodies; each takes ten times its body in memory
RETRY_S = 10.0  # until a version that failed to load is tried again

log = logging.getLogger("perceptd.engine")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What serves between two refreshes. It is replaced as a whole: readers never see a mixture."""

    wanted: Serving
    production: dict[str, LoadedVersion]  # by model
    failures: dict[str, str]  # by model: why its production version cannot be loaded
    schemas: RequestSchemas
    decoder: Decoder
    tried_at: float  # when loading was last tried, by `time.monotonic`


class Engine:
    """Every production version, and the last few that requests asked for by number."""

    def __init__(
        self,
        repository: Repository,
        settings: Settings,
        make_observers: MakeObservers = no_observers,
        on_swap: Callable[[str], None] = lambda model: None,
        arrivals: Arrivals | None = None,
    ) -> None:
        self.device, self.runtime = runtimes.pick(settings)
        self._repository = repository
        self._settings = settings
        self._make_observers = make_observers
        self._on_swap = on_swap
        self._arrivals = arrivals
        self._pinned: OrderedDict[tuple[str, int], LoadedVersion] = OrderedDict()
        schemas = RequestSchemas({}, {}, settings.max_rows)
        decoder = Decoder({}, settings.max_rows)
        self.snapshot = Snapshot(Serving({}, frozenset()), {}, {}, schemas, decoder, 0.0)
        self._loading = threading.Lock()
        self._refreshing = threading.Lock()
        self._limiter = CapacityLimiter(os.cpu_count() or 1)
        self._readers = CapacityLimiter(MAX_READERS)

    @property
    def production(self) -> dict[str, LoadedVersion]:
        """The version of each model that answers requests without a version."""
        return self.snapshot.production

    @property
    def failures(self) -> dict[str, str]:
        """Why the production version of a model cannot be loaded, by model."""
        return self.snapshot.failures

    @property
    def schemas(self) -> RequestSchemas:
        """Validates bodies for the production versions."""
        return self.snapshot.schemas

    @property
    def decoder(self) -> Decoder:
        """Reads most bodies for the production versions faster than `schemas`."""
        return self.snapshot.decoder

    def loaded(self) -> list[LoadedVersion]:
        """Every version in memory, once."""
        every = [*self.production.values(), *self._pinned.copy().values()]
        return list({(one.model, one.version): one for one in every}.values())

    def refresh(self) -> None:
        """Load the versions that became production since the last call, then swap all at once.

        If a version fails to load, the previous one continues to serve. Raises `StoreError`.
        """
        with self._refreshing:
            self._refresh()

    def _refresh(self) -> None:
        wanted, before, now = self._repository.serving(), self.snapshot, time.monotonic()
        is_retry = before.failures and now - before.tried_at > RETRY_S
        if wanted == before.wanted and not is_retry:
            return
        production, failures, swapped = {}, {}, []
        for model, number in sorted(wanted.versions.items()):
            current = before.production.get(model)
            if current and current.version == number:
                production[model] = current
                continue
            try:
                warm = self._pinned.get((model, number))
                production[model] = warm or self._load(model, number)
                swapped.append(model)
            except StoreError:
                self.snapshot = replace(before, tried_at=now)
                raise
            except Exception as error:  # a damaged checkpoint must not stop the other models
                failures[model] = unloadable(number, error)
                log.error("%s version %d cannot be loaded: %s", model, number, error)
                if current:
                    production[model] = current
        specs = {model: loaded.spec for model, loaded in production.items()}
        absent = {model: why for model, why in failures.items() if model not in production}
        schemas = RequestSchemas(specs, absent, self._settings.max_rows, wanted.unloaded)
        decoder = Decoder(specs, self._settings.max_rows)
        self.snapshot = Snapshot(wanted, production, failures, schemas, decoder, now)
        for model in swapped:
            log.info("%s version %d is production", model, production[model].version)
            if model in before.production:
                self._on_swap(model)
        if wanted.unloaded:
            self._unpin(wanted.unloaded)

    def serving(self, model: str, version: int | None = None) -> LoadedVersion | None:
        """The production version, or the one with that number; None if it is not loaded."""
        serving = self.snapshot.production.get(model)
        if serving and version in (None, serving.version):
            return serving
        if pinned := self._pinned.get((model, version)) if version else None:
            with suppress(KeyError):  # another thread unpinned it
                self._pinned.move_to_end((pinned.model, pinned.version))
        return pinned

    async def find(self, model: str, version: int | None = None) -> LoadedVersion:
        """The production version, or the one with that number, which is loaded if necessary.

        Raises `ModelNotFoundError`, `VersionNotFoundError`, `ModelUnavailableError`.
        """
        if loaded := self.serving(model, version):
            return loaded
        snapshot = self.snapshot
        is_known = model in snapshot.production or model in snapshot.failures
        if version is None or not is_known:
            raise self._not_serving(model)
        return await to_thread.run_sync(self._pin, model, version)

    def why_not_loaded(self, model: str, version: int) -> str:
        """Why a version is not loaded; empty if it is."""
        snapshot = self.snapshot
        serving = snapshot.production.get(model)
        if (serving and serving.version == version) or (model, version) in self._pinned:
            return ""
        if model in snapshot.wanted.unloaded:
            return "the model is unloaded"
        if model in snapshot.failures and snapshot.wanted.versions.get(model) == version:
            return snapshot.failures[model]
        if model in snapshot.wanted.versions:
            return "not loaded: it loads when a request asks for it by its number"
        return "not loaded: no version of the model is in production"

    def warm(self, model: str, version: int) -> None:
        """Load a version that is to become production, so that the swap takes no time.

        Raises `ConflictError` if it cannot be loaded, `ModelNotFoundError`, `VersionNotFoundError`.
        """
        serving = self.production.get(model)
        if serving and serving.version == version:
            return
        try:
            self._pin(model, version)
        except ModelUnavailableError as error:
            raise ConflictError(str(error)) from error

    async def run_in_thread(self, function: Callable[..., Result], *args: Any) -> Result:
        """Run a computation in a thread, at most as many at once as there are cores."""
        return await to_thread.run_sync(function, *args, limiter=self._limiter)

    async def read_in_thread(self, read: Callable[..., Result], *args: Any) -> Result:
        """Read a large body in a thread, never in one that a batch would wait for."""
        return await to_thread.run_sync(read, *args, limiter=self._readers)

    def _pin(self, model: str, version: int) -> LoadedVersion:
        if (model, version) not in self._pinned:
            # Without the lock, which a database that hangs would block for other versions.
            self._repository.version(model, version)
        with self._loading:
            key = (model, version)
            if key not in self._pinned:
                try:
                    self._pinned[key] = self._load(model, version)
                except PerceptdError:
                    raise
                except Exception as error:
                    log.error("%s version %d cannot be loaded: %s", model, version, error)
                    raise ModelUnavailableError(f"{model} {unloadable(version, error)}") from error
            self._pinned.move_to_end(key)
            while len(self._pinned) > self._settings.max_pinned_versions:
                self._pinned.popitem(last=False)
            return self._pinned[key]

    def _unpin(self, unloaded: Collection[str]) -> None:
        with self._loading:
            for key in [key for key in self._pinned if key[0] in unloaded]:
                del self._pinned[key]

    def _load(self, model: str, version: int) -> LoadedVersion:
        return load(
            self._repository,
            model,
            version,
            self.device,
            self.runtime,
            self._settings,
            self._limiter,
            self._make_observers,
            self._arrivals,
        )

    def _not_serving(self, model: str) -> PerceptdError:
        snapshot = self.snapshot
        if reason := snapshot.failures.get(model):
            return ModelUnavailableError(f"{model}: {reason}")
        if model in snapshot.wanted.unloaded:
            return unloaded_error(model)
        serving = ", ".join(snapshot.production) or "none"
        return ModelNotFoundError(f"no model is called {model!r}; serving: {serving}")


def unloadable(version: int, error: Exception) -> str:
    """An error sentence for callers. Paths are only in the log."""
    is_known = isinstance(error, CheckpointError | ModelUnavailableError)
    reason = str(error) if is_known else f"{type(error).__name__}, see the server's log"
    return f"version {version} cannot be loaded: {reason}"
