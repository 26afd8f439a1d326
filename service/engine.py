"""The loaded versions: load, warm up, swap, run."""

import logging
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from anyio import CapacityLimiter, to_thread
from numpy.typing import NDArray

from models.checkpoint import CheckpointError, Meta
from models.preprocessing import from_numbers
from models.spec import ModelSpec, decide
from service import runtimes
from service.aliases import Serving
from service.errors import (
    ConflictError,
    FieldError,
    InvalidInputError,
    ModelNotFoundError,
    ModelUnavailableError,
    PerceptdError,
    StoreError,
    unloaded_error,
)
from service.repository import Repository
from service.request_schemas import RequestSchemas, example_of
from service.runtimes import Device, Rows, Runtime, RuntimeName
from service.settings import Settings

RETRY_SECONDS = 10.0  # after which a version that failed to load is tried again

log = logging.getLogger("perceptd.engine")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Answer:
    """What a version says of some rows: class index (N,) and probabilities (N, K)."""

    indices: NDArray[np.intp]
    probabilities: NDArray[np.float32]


@dataclass(frozen=True)
class LoadedVersion:
    """One version, loaded and warm."""

    model: str
    version: int
    meta: Meta
    runtime: Runtime

    @property
    def spec(self) -> ModelSpec:
        return self.meta.spec

    def answer(self, rows: Rows, max_batch_size: int) -> Answer:
        """Answer all rows, or raise `InvalidInputError` where numbers overflow the network."""
        parts = [
            self.runtime.run(rows[first : first + max_batch_size])
            for first in range(0, len(rows), max_batch_size)
        ]
        probabilities = np.concatenate(parts)
        if not np.isfinite(probabilities).all():
            row = int(np.flatnonzero(~np.isfinite(probabilities).all(axis=1))[0])
            expected = f"numbers that {self.model} can compute with"
            error = FieldError(loc=["inputs", row], expected=expected, got="an overflow")
            raise InvalidInputError.of([error], example_of(self.model, self.spec))
        return Answer(decide(probabilities, self.spec.head), probabilities)


class Engine:
    """Every production version, and a few others that requests asked for by number."""

    def __init__(self, repository: Repository, settings: Settings) -> None:
        self.device, self.runtime = runtimes.pick(settings)
        self._repository = repository
        self._settings = settings
        self._production: dict[str, LoadedVersion] = {}
        self.schemas = RequestSchemas({}, {}, settings.max_rows)
        self._pinned: OrderedDict[tuple[str, int], LoadedVersion] = OrderedDict()
        self._failures: dict[str, str] = {}
        self._wanted = Serving({}, frozenset())
        self._retry_at = 0.0
        self._loading = threading.Lock()
        self._refreshing = threading.Lock()
        self._limiter = CapacityLimiter(os.cpu_count() or 1)

    @property
    def production(self) -> dict[str, LoadedVersion]:
        """What serves now, by model."""
        return self._production

    @property
    def failures(self) -> dict[str, str]:
        """Models whose production version could not be loaded, and why."""
        return self._failures

    def refresh(self) -> None:
        """Load what has become production since the last call, then switch to it.

        A version that fails to load leaves the one before it serving.
        """
        with self._refreshing:
            self._refresh()

    def _refresh(self) -> None:
        wanted = self._repository.serving()
        now = time.monotonic()
        if wanted == self._wanted and not (self._failures and now > self._retry_at):
            return
        self._retry_at = now + RETRY_SECONDS
        production, failures = {}, {}
        for model, number in sorted(wanted.versions.items()):
            current = self._production.get(model)
            if current and current.version == number:
                production[model] = current
                continue
            try:
                warm = self._pinned.get((model, number))
                production[model] = warm or self._load(model, number)
                log.info("%s version %d is production", model, number)
            except StoreError:
                raise
            except Exception as error:  # whatever a damaged checkpoint provokes must not spread
                failures[model] = f"version {number} cannot be loaded: {error}"
                log.error("%s %s", model, failures[model])
                if current:
                    production[model] = current
        specs = {model: loaded.spec for model, loaded in production.items()}
        absent = {model: why for model, why in failures.items() if model not in production}
        schemas = RequestSchemas(specs, absent, self._settings.max_rows, wanted.unloaded)
        # What a request is checked by comes last: what it then asks for is there.
        self._production, self._failures, self._wanted = production, failures, wanted
        self.schemas = schemas
        if wanted.unloaded:
            self._let_go(wanted.unloaded)

    async def find(self, model: str, version: int | None = None) -> LoadedVersion:
        """The production version, or the one of that number, loaded if it is not yet.

        Raises `ModelNotFoundError`, `VersionNotFoundError`, `ModelUnavailableError`.
        """
        serving = self._production.get(model)
        if serving and version in (None, serving.version):
            return serving
        if version is None or (serving is None and model not in self._failures):
            raise self._not_serving(model)
        if pinned := self._pinned.get((model, version)):  # no wait for another that is loading
            with suppress(KeyError):  # let go meanwhile
                self._pinned.move_to_end((model, version))
            return pinned
        return await to_thread.run_sync(self._pin, model, version)

    def why_not_loaded(self, model: str, version: int) -> str:
        """Why a version does not answer at once; empty where it does."""
        serving = self._production.get(model)
        if (serving and serving.version == version) or (model, version) in self._pinned:
            return ""
        if model in self._wanted.unloaded:
            return "the model is unloaded"
        if model in self._failures and self._wanted.versions.get(model) == version:
            return self._failures[model]
        if model in self._wanted.versions:
            return "not loaded: it loads when a request asks for it by its number"
        return "not loaded: no version of the model is in production"

    def warm(self, model: str, version: int) -> None:
        """Load a version that is to become production, so that the switch to it is instant.

        Raises `ConflictError` where it cannot be loaded, `ModelNotFoundError`,
        `VersionNotFoundError`.
        """
        serving = self._production.get(model)
        if serving and serving.version == version:
            return
        try:
            self._pin(model, version)
        except ModelUnavailableError as error:
            raise ConflictError(str(error)) from error

    async def answer(self, version: LoadedVersion, rows: Rows) -> Answer:
        """Run rows through a version without holding up the event loop."""
        return await self.off_the_loop(version.answer, rows, self._settings.max_batch_size)

    async def off_the_loop(self, function: Callable[..., Result], *args: Any) -> Result:
        """Run what computes in a thread, as many at once as there are cores."""
        return await to_thread.run_sync(function, *args, limiter=self._limiter)

    def _pin(self, model: str, version: int) -> LoadedVersion:
        with self._loading:
            key = (model, version)
            if key not in self._pinned:
                try:
                    self._pinned[key] = self._load(model, version)
                except PerceptdError:
                    raise
                except Exception as error:
                    raise ModelUnavailableError(
                        f"{model} version {version} cannot be loaded: {error}"
                    ) from error
            self._pinned.move_to_end(key)
            while len(self._pinned) > self._settings.max_pinned_versions:
                self._pinned.popitem(last=False)
            return self._pinned[key]

    def _let_go(self, unloaded: Collection[str]) -> None:
        """Keep no version of a model that is unloaded."""
        with self._loading:
            for key in [key for key in self._pinned if key[0] in unloaded]:
                del self._pinned[key]

    def _load(self, model: str, version: int) -> LoadedVersion:
        return load(self._repository, model, version, self.device, self.runtime, self._settings)

    def _not_serving(self, model: str) -> PerceptdError:
        if reason := self._failures.get(model):
            return ModelUnavailableError(f"{model}: {reason}")
        if model in self._wanted.unloaded:
            return unloaded_error(model)
        serving = ", ".join(self._production) or "none"
        return ModelNotFoundError(f"no model is called {model!r}; serving: {serving}")


def load(
    repository: Repository,
    model: str,
    version: int,
    device: Device,
    runtime: RuntimeName,
    settings: Settings,
) -> LoadedVersion:
    """Load a version and have it answer its own example.

    Raises `CheckpointError` for one that cannot, and whatever a damaged checkpoint provokes.
    """
    folder, meta = repository.verified_folder(model, version)
    loaded = LoadedVersion(
        model, version, meta, runtimes.load(folder, meta, device, runtime, settings.threads)
    )
    example = meta.spec.example
    rows = from_numbers(meta.spec.input, example.inputs, example.dtype)
    try:
        answer = loaded.answer(rows, settings.max_batch_size)
    except InvalidInputError as error:
        raise CheckpointError(f"it cannot answer its own example: {error}") from error
    if answer.probabilities.shape != (len(rows), len(meta.spec.labels)):
        answers = answer.probabilities.shape[1]
        raise CheckpointError(f"it answers {answers} classes for {len(meta.spec.labels)} labels")
    return loaded
