"""What a connection may cost, where several requests are on their way on it."""

import json
import logging
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from perceptd.service.settings import Settings
from tests.server import unread
from tests.service.wire.test_hot_path import Connection, request
from tests.waiting import eventually

Serve = Callable[[Settings], httpx.Client]

LONG = b"POST /predict HTTP/1.1\r\nX-Note: " + b"a" * 5000 + b"\r\n\r\n"
TORN = b"POST /predict HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: chunked\r\n\r\nno size\r\n"
LIVE = b"GET /health/live HTTP/1.1\r\nHost: here\r\n\r\n"  # waits for no company
ORDINARY = request(lines=["X-Request-Timeout-Ms: 60000"])


def closed(client: httpx.Client) -> dict[str, float]:
    """How many connections the server has ended, by reason."""
    lines = client.get("/metrics").text.splitlines()
    found = [line for line in lines if line.startswith("perceptd_connections_closed")]
    return {line.split('"')[1]: float(line.split()[-1]) for line in found}


def settings(folder: Path, **others: Any) -> Settings:
    return Settings(
        data_dir=folder, **{"max_header_bytes": 4096, "max_batch_time_ms": 300, **others}
    )


def is_read(client: httpx.Client) -> None:
    """Wait until the server has read whatever has come to it."""
    eventually(lambda: unread(str(client.base_url)) == 0)


def test_a_head_is_refused_once(
    serve: Serve, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    client = serve(settings(tmp_path))
    connection = Connection(client)
    connection.send(LONG[:3000])
    is_read(client)  # and then the rest alone is too long
    connection.send(b"\r\nX-Other: " + b"a" * 5000 + b"\r\n\r\n")
    assert connection.answer()[0] == 431
    assert connection.has_ended
    connection.close()
    assert closed(client) == {"headers_too_large": 1}
    assert not caplog.records


@pytest.mark.parametrize("asked", [[request()], [request(), ORDINARY, ORDINARY]])
@pytest.mark.parametrize("wrong", [LONG, b"no such thing\r\n\r\n", TORN])
def test_a_refusal_comes_after_the_answers_to_what_came_before(
    serve: Serve, tmp_path: Path, caplog: pytest.LogCaptureFixture, asked: list[bytes], wrong: bytes
) -> None:
    caplog.set_level(logging.ERROR)
    client = serve(settings(tmp_path))
    connection = Connection(client)
    connection.send(b"".join(asked) + wrong)
    for _ in asked:
        status, _, content = connection.answer()
        assert status == 200
        assert content["model"] == "dnn"
    rest = connection.rest()
    assert rest.startswith(b"HTTP/1.1 431" if wrong == LONG else b"HTTP/1.1 400")
    assert rest.count(b"HTTP/1.1") == 1
    connection.close()
    assert closed(client) == {"headers_too_large" if wrong == LONG else "invalid_http": 1}
    assert not caplog.records


def test_a_large_body_that_stops_is_refused_at_its_own_address(
    serve: Serve, tmp_path: Path
) -> None:
    connection = Connection(serve(settings(tmp_path, read_timeout_s=1)))
    body = json.dumps({"model": "xor", "inputs": [[1.00000001, -1.00000001]] * 800}).encode()
    for path in ("/predict_proba", "/predict"):  # the parser has read the last one, and a head once
        assert connection.send(request(body, path=path)).answer()[0] == 200
    status, _, problem = connection.send(request(body, path="/predict_proba")[:-5]).answer()
    assert (status, problem["instance"]) == (408, "/predict_proba")
    connection.close()


def test_who_waits_for_an_answer_gives_no_way_while_more_arrives(
    serve: Serve, tmp_path: Path
) -> None:
    wait_s = 1  # of a request for company, the longest that there is
    client = serve(settings(tmp_path, max_connections=1, max_batch_time_ms=wait_s * 1000))

    def came_in_time() -> bool:
        began = time.monotonic()
        with closing(Connection(client).send(request() + request()[:-5])) as waiting:
            is_read(client)
            with closing(Connection(client).send(LIVE)) as newcomer:
                status = newcomer.answer()[0]
            if time.monotonic() - began >= wait_s:
                return False  # on a busy machine the other may have been answered by then
            assert status == 503
            assert waiting.answer()[0] == 200
            return True

    eventually(came_in_time)
