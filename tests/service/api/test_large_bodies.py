"""Bodies over a mebibyte are read beside other work."""

import gzip
import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from perceptd.service.api.compression import Inflater
from perceptd.service.api.oip import codec
from perceptd.service.inference.decoder import LARGE_BYTES, Decoder
from perceptd.service.schemas.requests import RequestSchemas
from tests.server import running
from tests.service.admin import as_admin, guarded

ROWS = 2_000
MAX_PIECES = 200_000
SMALL = b'{"model": "xor", "inputs": [[0, 1]]}'
Numbers = list[list[float]]
Reader = Callable[..., object]


@pytest.fixture
def client(tmp_path: Path) -> Iterator[httpx.Client]:
    with running(guarded(tmp_path, max_rows=ROWS, max_body_bytes=32 * LARGE_BYTES)) as client:
        yield as_admin(client)


@pytest.fixture
def readers(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the threads that read bodies."""
    names: list[str] = []

    def noted(read: Reader) -> Reader:
        def reading(*args: object) -> object:
            names.append(threading.current_thread().name)
            return read(*args)

        return reading

    replace_readers(monkeypatch, noted)
    return names


def replace_readers(monkeypatch: pytest.MonkeyPatch, wrapped: Callable[[Reader], Reader]) -> None:
    monkeypatch.setattr(Decoder, "decode", wrapped(Decoder.decode))
    monkeypatch.setattr(RequestSchemas, "parse", wrapped(RequestSchemas.parse))
    monkeypatch.setattr(codec, "read", wrapped(codec.read))


def pictures(count: int) -> Numbers:
    return [[0.1234] * 784] * count


def bodies(count: int) -> Iterator[tuple[str, bytes]]:
    """The same rows for each route that takes them."""
    rows = pictures(count)
    yield "/predict", json.dumps({"model": "mnist-cnn", "inputs": rows}).encode()
    labelled = {"model": "mnist-cnn", "inputs": rows, "labels": ["1"] * count}
    yield "/feedback", json.dumps(labelled).encode()
    tensor = {"name": "x", "shape": [count, 784], "datatype": "FP32", "data": rows}
    yield "/v2/models/mnist-cnn/infer", json.dumps({"inputs": [tensor]}).encode()


def send(client: httpx.Client, path: str, body: bytes, **headers: str) -> httpx.Response:
    headers = {"Content-Type": "application/json", **headers}
    return client.post(path, content=body, headers=headers, timeout=60)


def test_a_large_body_is_read_in_a_thread_and_a_small_one_is_not(
    client: httpx.Client, readers: list[str]
) -> None:
    for path, body in bodies(300):
        assert len(body) > LARGE_BYTES
        readers.clear()
        assert send(client, path, body).is_success
        assert readers
        assert all("worker thread" in name for name in readers), path
    for path, body in bodies(3):
        readers.clear()
        assert send(client, path, body).is_success
        assert readers
        assert not any("worker thread" in name for name in readers), path


def test_what_is_wrong_in_a_large_body_is_said_as_in_a_small_one(client: httpx.Client) -> None:
    for count in (3, 300):
        rows = pictures(count)
        rows[-1] = [*rows[-1][:-1], 7.0]
        answer = send(
            client, "/predict", json.dumps({"model": "mnist-cnn", "inputs": rows}).encode()
        )
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["loc"] == ["inputs", count - 1, 783]


@pytest.mark.parametrize("path", ["/predict", "/feedback", "/v2/models/mnist-cnn/infer"])
def test_small_requests_are_answered_while_a_large_body_is_read(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """The reader waits for their answers: on the event loop, it would wait in vain."""
    has_begun, may_go_on = threading.Event(), threading.Event()

    def waiting(read: Reader) -> Reader:
        def reading(*args: object) -> object:
            if any(isinstance(one, bytes) and len(one) > LARGE_BYTES for one in args):
                has_begun.set()
                assert may_go_on.wait(60)
            return read(*args)

        return reading

    replace_readers(monkeypatch, waiting)
    body = dict(bodies(ROWS))[path]
    with ThreadPoolExecutor(1) as other:
        large = other.submit(send, client, path, body)
        try:
            assert has_begun.wait(60)
            answers = [client.post("/predict", content=SMALL, timeout=10) for _ in range(10)]
        finally:
            may_go_on.set()
        assert large.result().is_success
    assert [answer.status_code for answer in answers] == [200] * 10


def test_small_requests_are_answered_while_a_body_is_decompressed(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The body goes on until they are, or has too many pieces."""
    answered = pieces = 0
    read = Inflater.read

    def going_on(inflater: Inflater) -> bytes:
        nonlocal pieces
        if answered < 10 and pieces < MAX_PIECES:
            pieces += 1
            return b" "
        return read(inflater)

    monkeypatch.setattr(Inflater, "read", going_on)
    packed = gzip.compress(SMALL)
    with ThreadPoolExecutor(1) as other:
        large = other.submit(send, client, "/predict", packed, **{"Content-Encoding": "gzip"})
        while not large.done():
            answered += client.post("/predict", content=SMALL).is_success
        assert large.result().is_success
    assert 0 < pieces < MAX_PIECES
