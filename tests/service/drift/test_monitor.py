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
    description="Whatever.",
    input=InputSpec(shape=(1,)),
    labels=("0", "1"),
    head="softmax",
    example=Example(inputs=[[0.0]]),
)
TURN = MAX_UNSAMPLED_ROWS  # rows that are all counted
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


def ran(rows: NDArray[np.float64]) -> BatchResult:
    probabilities = np.full((len(rows), 2), 0.5, dtype=np.float32)
    return BatchResult(
        rows.astype(np.float32), Answer(zeros(len(rows)), probabilities), (), 0.0, 0.0
    )


async def ask(monitor: Monitor, rows: int, mean: float) -> None:
    for _ in range(rows // TURN):
        monitor(ran(random.normal(mean, size=(TURN, 1))))


@pytest.mark.parametrize("mean", [0.55, 0.63, 0.68])
def test_a_steady_shift_is_told_of_once(
    watched: WatchedVersion, mean: float, caplog: pytest.LogCaptureFixture
) -> None:
    """Of a normal distribution the PSI is about the square of the shift: 0.3, 0.4, 0.46."""
    caplog.set_level(logging.INFO, "perceptd.drift")
    monitor = Monitor(watched, SPEC.input, 4000)
    asyncio.run(ask(monitor, 60_000, mean))
    assert watched.report().verdict == "drifted"
    assert len(caplog.messages) == 1
    assert watched.report().measured[0].drifted

    asyncio.run(ask(monitor, 4500, 0))
    assert watched.report().verdict == "stable"
    assert len(caplog.messages) == 2


class Busy(MemoryStore):
    """A store that another process is at, all the time."""

    def update(self, change: Callable[[Window], None]) -> bool:
        return False


@pytest.fixture
def uncollected() -> Iterator[None]:
    """What is let go of is gone at once, unless it holds itself."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


async def asked_and_let_go(watched: WatchedVersion, turns: int) -> None:
    monitor = Monitor(watched, SPEC.input, 4000)
    for _ in range(turns):
        monitor(ran(random.normal(size=(5, 1))))
    left = weakref.ref(monitor)
    del monitor
    for _ in range(1000):
        if left() is None:
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it is kept")


@pytest.mark.usefixtures("uncollected")
@pytest.mark.parametrize("turns", [0, 3])
def test_what_a_version_that_is_let_go_of_was_asked_is_still_counted(
    watched: WatchedVersion, turns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("perceptd.service.drift.monitor.FLUSH_S", 0.01)
    asyncio.run(asked_and_let_go(watched, turns))
    assert watched.report().window.rows == 5 * turns


@pytest.mark.usefixtures("uncollected")
def test_counts_that_cannot_be_kept_do_not_keep_a_version(
    bins: Bins, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("perceptd.service.drift.monitor.FLUSH_S", 0.01)
    asyncio.run(asked_and_let_go(WatchedVersion(("normal", 1), bins, Busy(bins.size, 0.0)), 3))


def test_a_version_that_nobody_asks_has_no_memory_for_rows(bins: Bins) -> None:
    pictures = InputSpec(shape=(1, 100, 100))
    watched = WatchedVersion(("pictures", 1), bins, MemoryStore(bins.size, 0.0))
    tracemalloc.start()
    monitors = [Monitor(watched, pictures, 4000) for _ in range(10)]
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert used < 10 * BLOCK_ROWS * pictures.size / 100, monitors
