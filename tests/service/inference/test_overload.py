"""In overload, bodies are refused unparsed."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from perceptd.service.commands.common import opened_store
from perceptd.service.errors import QueueFullError
from perceptd.service.inference.engine import Engine
from perceptd.service.inference.loaded_version import LoadedVersion
from perceptd.service.inference.overload import OVERLOAD_S, Overload
from perceptd.service.inference.pending import NO_CALLER
from perceptd.service.settings import Settings

ROWS = 8
NOW = 100.0


def rows(count: int = ROWS) -> "np.ndarray[tuple[int, ...], np.dtype[np.float32]]":
    return np.zeros((count, 2), np.float32)


def body(model: str = "xor", count: int = ROWS, **more: int) -> bytes:
    return json.dumps({"model": model, "inputs": rows(count).tolist(), **more}).encode()


pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """An engine whose queue has room for twice `ROWS`, and whose batches wait for more rows."""
    settings = Settings(data_dir=tmp_path, max_queue_size=2 * ROWS, max_batch_time_ms=1000)
    with opened_store(settings) as repository:
        engine = Engine(repository, settings)
        engine.refresh()
        yield engine


def enqueue(version: LoadedVersion, count: int) -> None:
    version.batcher.submit(rows(count), NO_CALLER)


def refusal(
    overload: Overload, engine: Engine, body: bytes
) -> tuple[LoadedVersion, QueueFullError] | None:
    """What `check` says, and which version it says the body asks for."""
    asked: list[LoadedVersion] = []
    try:
        overload.check(engine, body, asked.append)
    except QueueFullError as error:
        return asked[-1], error
    return None


async def test_a_body_that_would_not_fit_is_refused_by_its_length(engine: Engine) -> None:
    version = engine.production["xor"]
    overload = Overload()
    enqueue(version, 2 * ROWS - 1)
    overload.saw_full_queue(version, rows(), body(), NOW)
    refused = refusal(overload, engine, body())
    assert refused
    assert refused[0] is version
    assert "rows may wait" in str(refused[1])
    for other in (body("dnn"), body(version=1), b"[]", b'{"inputs": [[0, 0]], "model": "xor"}'):
        assert refusal(overload, engine, other) is None
    assert refusal(overload, engine, body(count=1)) is None, "one row has room"
    assert refusal(overload, engine, body()), "and eight still have none"


async def test_the_queue_of_a_replaced_version_refuses_nothing(engine: Engine) -> None:
    version = engine.production["xor"]
    overload = Overload()
    enqueue(version, 2 * ROWS)
    overload.saw_full_queue(replace(version, version=2), rows(), body(), NOW)
    assert refusal(overload, engine, body()) is None


def test_overload_lasts_for_a_while() -> None:
    overload = Overload()
    assert not overload.lasts(NOW)
    overload.saw_long_queue(NOW)
    assert overload.lasts(NOW + OVERLOAD_S / 2)
    assert not overload.lasts(NOW + OVERLOAD_S)
