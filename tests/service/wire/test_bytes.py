"""The bytes of unfinished requests are limited, and clients that leave end theirs."""

import logging
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from perceptd.service.settings import Settings
from tests.raw_http import XOR, Connection, request
from tests.service.wire.watching import closed, wait_until_read

Serve = Callable[[Settings], httpx.Client]

MIB = 2**20
TO_ROUTER = ["X-Request-Timeout-Ms: 60000"]
BODY = b"a" * MIB
CHUNKED = (
    b"POST /predict HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: chunked\r\n\r\n100000\r\n" + BODY
)
UNFINISHED = {
    "the fast path": request(BODY)[:-1],
    "the router": request(BODY, lines=TO_ROUTER)[:-1],
    "another route": request(BODY, "/v2/models/xor/infer")[:-1],
    "chunks": CHUNKED[:-1],
}


@pytest.mark.parametrize("sent", UNFINISHED.values(), ids=UNFINISHED)
def test_the_body_that_is_incomplete_for_longest_gives_way(
    serve: Serve, tmp_path: Path, sent: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    settings = Settings(data_dir=tmp_path, max_body_bytes=MIB, max_bytes_in_flight=4 * MIB)
    client = serve(settings)
    with ExitStack() as opened:
        waiting = []
        for number in range(6):
            waiting.append(opened.enter_context(Connection(client.base_url).send(sent)))
            wait_until_read(client)
            assert closed(client.base_url).get("too_many_bytes", 0) == max(0, number - 2)
        for given_up in waiting[:3]:
            refusal = given_up.answer()
            assert refusal.status == 503
            assert b"too many bytes of requests are under way" in refusal.body
            assert refusal.headers["retry-after"]
            assert given_up.rest() == b""
        assert client.post("/predict", json=XOR).status_code == 200
        for kept in waiting[3:]:
            kept.socket.settimeout(0.01)
            with pytest.raises(TimeoutError):
                kept.socket.recv(1)
    assert not caplog.records


def test_one_large_body_is_always_taken(serve: Serve, tmp_path: Path) -> None:
    client = serve(Settings(data_dir=tmp_path, max_body_bytes=4 * MIB, max_bytes_in_flight=MIB))
    with Connection(client.base_url).send(request(BODY * 4)) as connection:
        assert connection.answer().status == 422


def test_answered_bodies_give_their_bytes_back(serve: Serve, tmp_path: Path) -> None:
    client = serve(Settings(data_dir=tmp_path, max_body_bytes=2 * MIB, max_bytes_in_flight=3 * MIB))
    ways = [("/predict", 422), ("/v2/models/xor/infer", 400), ("/nothing", 404), ("/jobs", 401)]
    for path, status in ways * 3:
        with Connection(client.base_url).send(request(BODY, path)) as connection:
            assert connection.answer().status == status
            assert connection.send(request()).answer().status == 200
    assert closed(client.base_url) == {}


@pytest.mark.parametrize("sent", UNFINISHED.values(), ids=UNFINISHED)
def test_a_client_that_leaves_in_its_body_disturbs_nothing(
    client: httpx.Client, caplog: pytest.LogCaptureFixture, sent: bytes
) -> None:
    caplog.set_level(logging.ERROR)
    for _ in range(20):
        with Connection(client.base_url).send(sent[:5000]):
            wait_until_read(client)
        assert client.post("/predict", json=XOR).status_code == 200
    assert [record.getMessage() for record in caplog.records] == []
    assert closed(client.base_url).get("too_many_bytes") is None
