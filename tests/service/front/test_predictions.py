"""The fast path gives the router's answers."""

import io
import json
import logging
import os
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest

from perceptd.service import logging as logs
from perceptd.service.settings import Settings
from tests import raw_http
from tests.raw_http import Connection
from tests.server import running
from tests.service.front.sent import (
    DNN,
    DNN_BODY,
    PIXELS,
    RAW,
    SLOW,
    SLOW_LINE,
    TOKEN,
    Serve,
    body_of,
    request,
)
from tests.service.wire.watching import wait_until_read
from tests.waiting import eventually


@pytest.mark.parametrize("path", ["/predict", "/predict_proba"])
def test_its_answers_equal_those_of_the_router(
    client: httpx.Client, routed: list[str], path: str
) -> None:
    for model in client.get("/models").json()["models"]:
        routed.clear()
        fast = client.post(path, json=model["example"])
        assert routed == []
        slow = client.post(path, json=model["example"], headers=SLOW)
        assert routed == [path]
        assert fast.status_code == 200
        assert fast.content == slow.content
        assert fast.headers.keys() == slow.headers.keys()
        assert fast.headers["content-type"] == "application/json"


@pytest.mark.parametrize("query", ["", "?model=mnist-cnn", "?model=mnist-mlp"])
def test_its_answers_to_raw_pixels_equal_those_of_the_router(
    client: httpx.Client, routed: list[str], query: str
) -> None:
    fast = client.post(f"/predict/image{query}", content=PIXELS, headers=RAW)
    assert routed == []
    slow = client.post(f"/predict/image{query}", content=PIXELS, headers={**RAW, **SLOW})
    assert routed == ["/predict/image"]
    assert fast.status_code == 200
    assert fast.content == slow.content


@pytest.mark.parametrize(
    ("lines", "version", "closes"),
    [
        (["Expect: 100-continue"], "1.1", False),
        (["Connection: close"], "1.1", True),
        (["Upgrade: h2c", "Connection: Upgrade"], "1.1", False),
        (["X-Forwarded-For: 192.0.2.1", "X-Forwarded-Proto: https"], "1.1", False),
        ([], "1.0", True),
    ],
)
def test_a_request_may_speak_of_its_connection(
    connection: Connection, routed: list[str], lines: list[str], version: str, closes: bool
) -> None:
    connection.send(request(lines=lines, version=version))
    if "Expect: 100-continue" in lines:
        assert connection.line() == "HTTP/1.1 100 Continue"
        assert connection.line() == ""
    assert connection.answer().status == 200
    assert routed == []
    if closes:
        assert connection.rest() == b""
    else:
        assert connection.send(request()).answer().status == 200


@pytest.mark.parametrize("cut", [1, 17, -60, -1])
def test_a_request_in_two_pieces_is_answered(
    client: httpx.Client, connection: Connection, routed: list[str], cut: int
) -> None:
    whole = request()
    expected = connection.send(whole).answer().json()
    connection.send(whole[:cut])
    wait_until_read(client)
    assert connection.send(whole[cut:]).answer().json() == expected
    assert routed == []


def test_pipelined_requests_are_answered_in_their_order(connection: Connection) -> None:
    connection.send(
        b"".join(
            request(
                body_of(*[(n, n)] * (n + 1)),
                lines=[f"X-Request-ID: number-{n}", *[SLOW_LINE] * (n == 1)],
            )
            for n in range(4)
        )
    )
    for n in range(4):
        answer = connection.answer()
        assert (answer.status, answer.headers["x-request-id"]) == (200, f"number-{n}")
        assert len(answer.json()["predictions"]) == n + 1
    assert connection.send(request()).answer().status == 200


def test_each_body_of_a_connection_is_read(connection: Connection, routed: list[str]) -> None:
    first, second, third, again = (
        connection.send(request(body_of((number, 0)))).answer().json() for number in (1, 2, 3, 1)
    )
    assert first == again
    assert first != second != third
    assert routed == []


def test_a_body_alone_is_no_request(guarded: httpx.Client) -> None:
    with_token = request(lines=[f"Authorization: Bearer {TOKEN}"])
    for _ in range(2):
        with Connection(guarded.base_url) as allowed:
            assert allowed.send(b"\r\n\r\n", with_token).answer().status == 200
        with Connection(guarded.base_url) as stranger:
            assert stranger.send(b"\r\n\r\n" + DNN_BODY).rest().startswith(b"HTTP/1.1 400")
        with Connection(guarded.base_url) as together:
            assert together.send(b"\r\n\r\n" + with_token).answer().status == 200


@pytest.mark.parametrize(("body", "status"), [(DNN_BODY, 200), (body_of((1,)), 422)])
def test_a_body_that_arrives_while_the_server_ends_is_answered(
    tmp_path: Path, body: bytes, status: int
) -> None:
    with running(Settings(data_dir=tmp_path)) as client:
        connection = Connection(client.base_url)
        connection.send(request(body)[: -len(body)])
        wait_until_read(client)

        def send_the_rest() -> None:
            eventually(lambda: takes_no_connection(str(client.base_url)), "the server closes")
            connection.send(body)

        ending = threading.Thread(target=send_the_rest)
        ending.start()
    ending.join()
    with connection:
        answer = connection.answer()
        assert (answer.status, answer.headers["connection"]) == (status, "close")
        assert connection.rest() == b""


def takes_no_connection(url: str) -> bool:
    try:
        raw_http.connect(url).close()
    except OSError:
        return True
    return False


def test_a_harmless_request_id_comes_back(client: httpx.Client, routed: list[str]) -> None:
    for given, is_kept in (("order-7:42/a", True), ("<script>", False)):
        response = client.post("/predict", json=DNN, headers={"X-Request-ID": given})
        assert (response.headers["X-Request-ID"] == given) is is_kept
    assert routed == []


def test_an_overflow_is_refused_as_by_the_router(client: httpx.Client, routed: list[str]) -> None:
    """The numbers fit into float32, their sums do not."""
    body = {"model": "perceptron", "inputs": [[3e38, 3e38], [0.1, 0.1]]}
    fast, slow = (client.post("/predict", json=body, headers=more) for more in ({}, SLOW))
    assert fast.status_code == slow.status_code
    assert fast.content == slow.content
    assert routed == ["/predict"]


def test_a_full_queue_says_when_to_retry(serve: Serve, tmp_path: Path) -> None:
    client = serve(Settings(data_dir=tmp_path, max_queue_size=1, max_batch_time_ms=1000))

    def both_were_refused() -> bool:
        with Connection(client.base_url).send(request()) as first:
            wait_until_read(client)
            refused = [client.post("/predict", json=DNN, headers=more) for more in ({}, SLOW)]
            assert first.answer().status == 200
        if [response.status_code for response in refused] != [429, 429]:
            return False  # on a busy machine the first batch may have run by then
        for response in refused:
            assert response.json()["code"] == "queue_full"
            assert response.headers["Retry-After"] == "1"
            assert response.headers["X-Request-ID"]
        return True

    eventually(both_were_refused, "the queue is full for both ways")


def test_a_fault_is_logged_and_answered_500(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*args: object) -> None:
        raise RuntimeError("it broke")

    monkeypatch.setattr("perceptd.service.inference.loaded_version.LoadedVersion.checked", broken)
    response = client.post("/predict", json=DNN)
    assert (response.status_code, response.json()["code"]) == (500, "internal_error")
    assert "it broke" not in response.text
    (logged,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert vars(logged)["facts"] == {"request_id": response.headers["X-Request-ID"]}
    assert logged.exc_info


def test_a_caller_who_goes_away_disturbs_no_other(
    client: httpx.Client, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(20):
        with Connection(client.base_url).send(request(), request()[:50]):
            pass
        assert client.post("/predict", json=DNN).status_code == 200
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


def test_concurrent_callers_get_each_their_own_answer(client: httpx.Client) -> None:
    rows = [[n / 100, -n / 100] for n in range(200)]

    def ask(asking: httpx.Client, row: list[float]) -> Any:
        answer = asking.post("/predict_proba", json={"model": "dnn", "inputs": [row]}).json()
        return answer["predictions"][0]["probabilities"]

    expected = [ask(client, row) for row in rows]
    wrong: list[object] = []

    def ask_share(first: int) -> None:
        with httpx.Client(base_url=client.base_url, timeout=30) as own:
            for row, wanted in list(zip(rows, expected, strict=True))[first::16]:
                if (given := ask(own, row)) != pytest.approx(wanted, abs=1e-6):
                    wrong.append((row, given))

    threads = [threading.Thread(target=ask_share, args=(first,)) for first in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_its_line_in_the_access_log_equals_that_of_the_router(
    serve: Serve,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
    routed: list[str],
) -> None:
    output = io.StringIO()
    handler = logging.StreamHandler(output)
    handler.setFormatter(logs.JsonFormatter("server"))
    monkeypatch.setattr(logs.access, "handlers", [handler])
    caplog.set_level(logging.INFO, logs.access.name)
    client = serve(Settings(data_dir=tmp_path))
    for more in ({}, SLOW):
        client.post("/predict?a=1", json=DNN, headers={"X-Request-ID": "one", **more})
    client.get("/health/live")  # once it is answered, the lines before are written
    fast, slow, _ = map(json.loads, output.getvalue().splitlines())
    for line in (fast, slow):
        assert line.pop("duration_ms") > 0
        del line["timestamp"]
    assert fast == slow
    assert fast["message"] == "POST /predict 200"
    assert (fast["model"], fast["version"], fast["request_id"]) == ("dnn", 1, "one")
    assert routed == ["/predict", "/health/live"]


def test_polling_ends_soon_after_an_answer(serve: Serve, tmp_path: Path) -> None:
    client = serve(Settings(data_dir=tmp_path, busy_poll_us=1000))
    client.post("/predict", json=DNN)
    before = os.times()
    threading.Event().wait(1)
    after = os.times()
    assert (after.user + after.system) - (before.user + before.system) < 0.5
