"""What overload costs: refusals without a look at the rows, no work for those who have left."""

import asyncio
import json
import socket
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from perceptd.service.errors import QueueFullError
from perceptd.service.inference.engine import Engine
from perceptd.service.inference.loaded_version import LoadedVersion
from perceptd.service.inference.pending import NO_CALLER
from perceptd.service.settings import Settings
from perceptd.service.store import db
from perceptd.service.store.repository import Repository
from perceptd.service.wire.overload import PRESSED_S, Overload, has_left, model_of

ROWS = 8
NOW = 100.0


def rows(count: int = ROWS) -> "np.ndarray[tuple[int, ...], np.dtype[np.float32]]":
    return np.zeros((count, 2), np.float32)


def body(model: str = "xor", count: int = ROWS, **more: int) -> bytes:
    return json.dumps({"model": model, "inputs": rows(count).tolist(), **more}).encode()


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    settings = Settings(data_dir=tmp_path, max_queue_size=2 * ROWS)
    repository = Repository(db.connect(settings), tmp_path)
    repository.prepare()
    engine = Engine(repository, settings)
    engine.refresh()
    return engine


def wait(version: LoadedVersion, count: int) -> None:
    """Have so many rows wait for a batch that never runs."""
    version.batcher._busy = True
    version.batcher.enqueue(rows(count), lambda outcome: None, NO_CALLER)


def refusal(
    overload: Overload, engine: Engine, asked: bytes
) -> tuple[LoadedVersion, QueueFullError] | None:
    return overload.refusal(engine, asked, asked, len(asked))


def test_what_would_not_fit_is_refused_by_its_length_alone(engine: Engine) -> None:
    version = engine.production["xor"]
    overload = Overload()
    wait(version, 2 * ROWS - 1)
    overload.saw_full_queue(version, rows(), body(), NOW)
    refused = refusal(overload, engine, body())
    assert refused
    assert refused[0] is version
    assert "rows may wait" in str(refused[1])
    for other in (body("dnn"), body(version=1), b"[]", b'{"inputs": [[0, 0]], "model": "xor"}'):
        assert refusal(overload, engine, other) is None
    assert refusal(overload, engine, body())
    assert refusal(overload, engine, body(count=1)) is None, "one row has room"
    assert refusal(overload, engine, body()), "and eight still have none"


def test_a_version_that_was_replaced_says_nothing_of_the_next(engine: Engine) -> None:
    version = engine.production["xor"]
    overload = Overload()
    wait(version, 2 * ROWS)
    overload.saw_full_queue(version, rows(), body(), NOW)
    engine.snapshot = replace(engine.snapshot, production={})
    assert refusal(overload, engine, body()) is None


def test_it_is_reckoned_with_for_a_while(engine: Engine) -> None:
    overload = Overload()
    assert not overload.lasts(NOW)
    overload.saw_long_queue(NOW)
    assert overload.lasts(NOW + PRESSED_S / 2)
    assert not overload.lasts(NOW + PRESSED_S)


@pytest.mark.parametrize(
    ("text", "model"),
    [
        (b'{"model":"mnist-cnn","inputs":[]}', "mnist-cnn"),
        (b'{ "model" : "a.b_c" }', "a.b_c"),
        (b'{"inputs":[],"model":"dnn"}', None),
        (b'{"model": 7}', None),
        (b"", None),
    ],
)
def test_the_model_is_read_where_clients_write_it(text: bytes, model: str | None) -> None:
    assert model_of(text) == model


def test_who_has_left_is_noticed_before_all_was_read() -> None:
    async def visit() -> list[bool]:
        here, there = socket.socketpair()
        transport, _ = await asyncio.get_running_loop().create_connection(
            asyncio.Protocol, sock=here
        )
        transport.pause_reading()
        there.sendall(b"a request")
        seen = [has_left(transport)]
        there.close()
        seen.append(has_left(transport))
        transport.abort()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return [*seen, has_left(transport)]

    assert asyncio.run(visit()) == [False, True, True]
