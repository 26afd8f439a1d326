"""Rows of one version, counted in one process."""

import asyncio
import gc
import logging
import tracemalloc
import weakref
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from perceptd.models.drift import Bins, reference
from perceptd.models.spec import Example, InputSpec, ModelSpec
from perceptd.service.drift.monitor import BLOCK_ROWS, MAX_UNSAMPLED_ROWS, Monitor, WatchedVersion
from perceptd.service.drift.window import MemoryStore, Window
from perceptd.service.inference.answers import Answer
from perceptd.service.inference.batcher import BatchResult

SPEC = ModelSpec(
    description="A test.",
    input=InputSpec(shape=(1,)),
    labels=("0", "1"),
    head="softmax",
    example=Example(inputs=[[0.0]]),
)
ROWS = MAX_UNSAMPLED_ROWS  # of a batch: all are counted
random = np.random.default_rng(0)


def zeros(rows: int) -> NDArray[np.intp]:
    return np.zeros(rows, dtype=np.intp)


@pytest.fixture(scope="module")
def bins() -> Bins:
    rows = random.normal(size=(50_000, 1)).astype(np.float32)
    found = reference(SPEC, rows, zeros(len(rows)))
    assert found
    return Bins(found)


@pytest.fixture
def watched(bins: Bins) -> WatchedVersion:
    return WatchedVersion(("normal", 1), bins, MemoryStore(bins.size, 0.0))


def batch_of(rows: NDArray[np.float64]) -> BatchResult:
    probabilities = np.full((len(rows), 2), 0.5, dtype=np.float32)
    return BatchResult(
        rows.astype(np.float32), Answer(zeros(len(rows)), probabilities), (), 0.0, 0.0
    )


async def count(monitor: Monitor, rows: int, mean: float) -> None:
    for _ in range(rows // ROWS):
        monitor(batch_of(random.normal(mean, size=(ROWS, 1))))


@pytest.mark.parametrize("mean", [0.55, 0.63, 0.68])
def test_a_steady_shift_is_logged_once(
    watched: WatchedVersion, mean: float, caplog: pytest.LogCaptureFixture
) -> None:
    """The PSI of a normal distribution is about the square of the shift: 0.3, 0.4, 0.46."""
    caplog.set_level(logging.INFO, "perceptd.drift")
    monitor = Monitor(watched, SPEC.input, 4000)
    asyncio.run(count(monitor, 60_000, mean))
    assert watched.report().verdict == "drifted"
    assert len(caplog.messages) == 1
    assert watched.report().measured[0].drifted

    asyncio.run(count(monitor, 4500, 0))
    assert watched.report().verdict == "stable"
    assert len(caplog.messages) == 2


class BusyStore(MemoryStore):
    """A store that another process is always updating."""

    def update(self, change: Callable[[Window], None]) -> bool:
        return False


@pytest.fixture
def no_garbage_collector() -> Iterator[None]:
    """Without the garbage collector only objects without cycles are freed."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


async def count_and_drop(watched: WatchedVersion, batches: int) -> None:
    monitor = Monitor(watched, SPEC.input, 4000)
    for _ in range(batches):
        monitor(batch_of(random.normal(size=(5, 1))))
    left = weakref.ref(monitor)
    del monitor
    for _ in range(1000):
        if left() is None:
            return
        await asyncio.sleep(0.01)
    raise AssertionError("the monitor is still in memory")


@pytest.mark.usefixtures("no_garbage_collector")
@pytest.mark.parametrize("batches", [0, 3])
def test_the_last_rows_of_a_dropped_version_are_counted(
    watched: WatchedVersion, batches: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("perceptd.service.drift.monitor.FLUSH_S", 0.01)
    asyncio.run(count_and_drop(watched, batches))
    assert watched.report().window.rows == 5 * batches


@pytest.mark.usefixtures("no_garbage_collector")
def test_a_dropped_version_is_freed_while_its_counts_cannot_be_stored(
    bins: Bins, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("perceptd.service.drift.monitor.FLUSH_S", 0.01)
    asyncio.run(count_and_drop(WatchedVersion(("normal", 1), bins, BusyStore(bins.size, 0.0)), 3))


def test_a_version_without_requests_takes_no_memory_for_rows(bins: Bins) -> None:
    pictures = InputSpec(shape=(1, 100, 100))
    watched = WatchedVersion(("pictures", 1), bins, MemoryStore(bins.size, 0.0))
    tracemalloc.start()
    monitors = [Monitor(watched, pictures, 4000) for _ in range(10)]
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert used < 10 * BLOCK_ROWS * pictures.size / 100, monitors
