"""Rows of one version, counted in one process."""

import asyncio
import logging
from functools import partial

import numpy as np
import pytest
from numpy.typing import NDArray

from models.drift import Bins, reference
from models.spec import Example, InputSpec, ModelSpec
from service.answers import Answer
from service.batcher import Ran
from service.monitor import BLOCK, Monitor, Watched
from service.windows import InProcess

SPEC = ModelSpec(
    description="Whatever.",
    input=InputSpec(shape=(1,)),
    labels=("0", "1"),
    head="softmax",
    example=Example(inputs=[[0.0]]),
)
TURN = BLOCK // 2  # rows that are all counted
normal = partial(np.random.default_rng(0).normal, scale=1.0)


def zeros(rows: int) -> NDArray[np.intp]:
    return np.zeros(rows, dtype=np.intp)


@pytest.fixture(scope="module")
def bins() -> Bins:
    rows = normal(size=(50_000, 1)).astype(np.float32)
    found = reference(SPEC, rows, zeros(len(rows)))
    assert found
    return Bins(found)


@pytest.fixture
def watched(bins: Bins) -> Watched:
    return Watched(("normal", 1), bins, InProcess(bins.size, 0.0))


def ran(rows: NDArray[np.float64]) -> Ran:
    probabilities = np.full((len(rows), 2), 0.5, dtype=np.float32)
    return Ran(rows.astype(np.float32), Answer(zeros(len(rows)), probabilities), (), 0.0, 0.0)


async def ask(monitor: Monitor, rows: int, mean: float) -> None:
    for _ in range(rows // TURN):
        monitor(ran(normal(mean, size=(TURN, 1))))


@pytest.mark.parametrize("mean", [0.55, 0.63, 0.68])
def test_a_steady_shift_is_told_of_once(
    watched: Watched, mean: float, caplog: pytest.LogCaptureFixture
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
