"""The limits of a connection that has several requests under way."""

import json
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from perceptd.service.settings import Settings
from tests.raw_http import Connection, request
from tests.service.wire.watching import closed, wait_until_read
from tests.waiting import eventually

Serve = Callable[[Settings], httpx.Client]

LONG = b"POST /predict HTTP/1.1\r\nX-Note: " + b"a" * 5000 + b"\r\n\r\n"
TORN = b"POST /predict HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: chunked\r\n\r\nno size\r\n"
LIVE = b"GET /health/live HTTP/1.1\r\nHost: here\r\n\r\n"  # is in no batch
SLOW = request(lines=["X-Request-Timeout-Ms: 60000"])  # is for the router


def settings(folder: Path, **others: Any) -> Settings:
    return Settings(
        data_dir=folder, **{"max_header_bytes": 4096, "max_batch_time_ms": 300, **others}
    )


def test_a_head_over_the_limit_is_refused_once(
    serve: Serve, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    client = serve(settings(tmp_path))
    with Connection(client.base_url).send(LONG[:3000]) as connection:
        wait_until_read(client)  # and then the rest alone is too long
        connection.send(b"\r\nX-Other: " + b"a" * 5000 + b"\r\n\r\n")
        assert connection.answer().status == 431
        assert connection.rest() == b""
    assert closed(client.base_url) == {"headers_too_large": 1}
    assert not caplog.records


@pytest.mark.parametrize("before", [[request()], [request(), SLOW, SLOW]])
@pytest.mark.parametrize(
    ("wrong", "status", "reasons"),
    [
        (LONG, 431, {"headers_too_large": 1}),
        (b"no such thing\r\n\r\n", 400, {}),  # by uvicorn
        (TORN, 400, {}),
    ],
)
def test_a_refusal_follows_the_answers_to_earlier_requests(
    serve: Serve,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    before: list[bytes],
    wrong: bytes,
    status: int,
    reasons: dict[str, int],
) -> None:
    caplog.set_level(logging.ERROR)
    client = serve(settings(tmp_path))
    with Connection(client.base_url).send(b"".join(before) + wrong) as connection:
        for _ in before:
            answer = connection.answer()
            assert (answer.status, answer.json()["model"]) == (200, "xor")
        rest = connection.rest()
    assert rest.startswith(f"HTTP/1.1 {status}".encode())
    assert rest.count(b"HTTP/1.1") == 1
    assert closed(client.base_url) == reasons
    assert not caplog.records


def test_a_large_body_that_times_out_is_refused_with_its_own_path(
    serve: Serve, tmp_path: Path
) -> None:
    client = serve(settings(tmp_path, read_timeout_s=1))
    body = json.dumps({"model": "xor", "inputs": [[1.00000001, -1.00000001]] * 800}).encode()
    with Connection(client.base_url) as connection:
        for path in ("/predict_proba", "/predict"):  # both heads are known, the parser read one
            assert connection.send(request(body, path)).answer().status == 200
        answer = connection.send(request(body, "/predict_proba")[:-5]).answer()
    assert (answer.status, answer.json()["instance"]) == (408, "/predict_proba")


def test_a_connection_that_waits_for_an_answer_does_not_give_way(
    serve: Serve, tmp_path: Path
) -> None:
    wait_s = 1  # the longest time that a batch may wait for more rows
    client = serve(settings(tmp_path, max_connections=1, max_batch_time_ms=wait_s * 1000))

    def was_in_time() -> bool:
        began = time.monotonic()
        with Connection(client.base_url).send(request() + request()[:-5]) as waiting:
            wait_until_read(client)
            with Connection(client.base_url).send(LIVE) as new:
                refusal = new.answer()
            if time.monotonic() - began >= wait_s:
                return False  # on a busy machine the batch may have run by then
            assert (refusal.status, refusal.code) == (503, "too_many_connections")
            assert refusal.headers["retry-after"] == "1"
            assert waiting.answer().status == 200
            return True

    eventually(was_in_time, "a new connection arrives while the batch waits")
