"""One version in memory: load it, check that it answers, and have it answer rows."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from anyio import CapacityLimiter

from perceptd.models.checkpoint import CheckpointError, Meta
from perceptd.models.preprocessing import from_numbers
from perceptd.models.spec import Head, ModelSpec, decide
from perceptd.service import logging as logs
from perceptd.service.inference import runtimes
from perceptd.service.inference.answers import Answer, Rows
from perceptd.service.inference.arrivals import Arrivals
from perceptd.service.inference.batcher import Batcher, Observer
from perceptd.service.inference.pending import NO_CALLER, Caller
from perceptd.service.inference.runtimes import Device, Runtime, RuntimeName
from perceptd.service.schemas.requests import example_of
from perceptd.service.schemas.validation import invalid
from perceptd.service.settings import Settings
from perceptd.service.store.repository import Repository

MakeObservers = Callable[[str, int, Meta, Runtime], Sequence[Observer]]  # for a model's version


def no_observers(model: str, version: int, meta: Meta, runtime: Runtime) -> Sequence[Observer]:
    return ()


@dataclass(frozen=True)
class LoadedVersion:
    """One version, loaded and warm."""

    model: str
    version: int
    meta: Meta
    runtime: Runtime
    batcher: Batcher

    @property
    def spec(self) -> ModelSpec:
        return self.meta.spec

    async def answer(self, rows: Rows, caller: Caller = NO_CALLER) -> Answer:
        """Answer rows, (N, *spec.input.shape), in batches with those of other requests.

        Raises `InvalidInputError` if numbers overflow in the network, `QueueFullError`,
        `DeadlineExceededError`, `CallerGoneError`.
        """
        logs.note(model=self.model, version=self.version)
        return self.checked(await self.batcher.submit(rows, caller))

    def checked(self, answer: Answer) -> Answer:
        """The answer itself. Raises `InvalidInputError` if numbers overflowed in the network."""
        if not answer.finite:
            overflowed = np.flatnonzero(~np.isfinite(answer.probabilities).all(axis=1)).tolist()
            if overflowed:
                expected = f"numbers that {self.model} can compute with"
                example = example_of(self.model, self.spec)
                raise invalid(["inputs", overflowed[0]], expected, "an overflow", example)
        return answer


def compute(runtime: Runtime, head: Head, rows: Rows) -> Answer:
    """Answer one batch."""
    probabilities = runtime.run(rows)
    # Probabilities are at most 1, so their sum is finite exactly if each of them is.
    finite = math.isfinite(np.add.reduce(probabilities, axis=None))
    return Answer(decide(probabilities, head), probabilities, finite)


def load(
    repository: Repository,
    model: str,
    version: int,
    device: Device,
    runtime_name: RuntimeName,
    settings: Settings,
    limiter: CapacityLimiter | None = None,
    make_observers: MakeObservers = no_observers,
    arrivals: Arrivals | None = None,
) -> LoadedVersion:
    """Load a version and check that it answers its own example.

    Raises `CheckpointError` if it does not, `StoreError`, and whatever errors a damaged checkpoint
    causes in a runtime.
    """
    folder, meta = repository.verified_folder(model, version)
    spec = meta.spec
    size = settings.max_batch_size or runtimes.usual_batch_size(device, spec.input)
    runtime = runtimes.load(folder, meta, device, runtime_name, settings.threads, size)
    rows = from_numbers(spec.input, spec.example.inputs, spec.example.dtype)
    answer = compute(runtime, spec.head, rows[:size])
    if not answer.finite:
        raise CheckpointError("it cannot answer its own example: the numbers overflow")
    if answer.probabilities.shape[1] != len(spec.labels):
        answers = answer.probabilities.shape[1]
        raise CheckpointError(f"it answers {answers} classes for {len(spec.labels)} labels")

    batcher = Batcher(
        partial(compute, runtime, spec.head),
        limiter,
        max_batch_size=size,
        max_batch_time_s=settings.max_batch_time_ms / 1000,
        max_queue_size=settings.max_queue_size,
        max_queue_wait_s=settings.max_queue_wait_ms / 1000,
        observers=make_observers(model, version, meta, runtime),
        arrivals=arrivals,
    )
    return LoadedVersion(model, version, meta, runtime, batcher)
