"""The fast path gives the router's answers, and leaves to the router what is not its own."""

import io
import json
import logging
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

from perceptd.service import logging as logs
from perceptd.service.app import create_app
from perceptd.service.server import config
from perceptd.service.settings import Settings
from perceptd.service.wire.hot_path import MAX_HEAD_BYTES, MAX_HEADS, HotPath
from perceptd.service.wire.hot_routes import Head
from tests import raw_http
from tests.raw_http import Connection
from tests.server import listening, running
from tests.service.wire.watching import wait_until_read
from tests.waiting import eventually

Serve = Callable[[Settings], httpx.Client]

SLOW_LINE = "X-Request-Timeout-Ms: 60000"  # a header that the fast path leaves to the router
SLOW = {"X-Request-Timeout-Ms": "60000"}
DNN = {"model": "dnn", "inputs": [[0.1, -0.2], [1.0, 0.3]]}
DNN_BODY = json.dumps(DNN).encode()
PIXELS = bytes(range(256)) * 3 + bytes(16)
RAW = {"Content-Type": "application/octet-stream"}
TOKEN = "a-predict-token-of-some-length"
PAGE = "https://app.example.com"


def request(body: bytes = DNN_BODY, path: str = "/predict_proba", **more: Any) -> bytes:
    return raw_http.request(body, path, **more)


def body_of(*rows: Sequence[float], model: str = "dnn") -> bytes:
    return json.dumps({"model": model, "inputs": rows}).encode()


@pytest.fixture
def connection(client: httpx.Client) -> Iterator[Connection]:
    with Connection(client.base_url) as opened:
        yield opened


@pytest.fixture
def answered(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths of the requests that the fast path takes."""
    paths: list[str] = []
    answer = HotPath.answer

    def noted(self: HotPath, head: Head, body: bytes) -> bool:
        takes = answer(self, head, body)
        if takes:
            paths.append(head.route.path)
        return takes

    monkeypatch.setattr(HotPath, "answer", noted)
    return paths


@pytest.mark.parametrize("path", ["/predict", "/predict_proba"])
def test_its_answers_equal_those_of_the_router(
    client: httpx.Client, answered: list[str], path: str
) -> None:
    for model in client.get("/models").json()["models"]:
        fast = client.post(path, json=model["example"])
        slow = client.post(path, json=model["example"], headers=SLOW)
        assert answered == [path]
        assert fast.content == slow.content
        assert fast.headers.keys() == slow.headers.keys()
        assert fast.headers["content-type"] == "application/json"
        answered.clear()


@pytest.mark.parametrize("query", ["", "?model=mnist-cnn", "?model=mnist-mlp"])
def test_its_answers_to_raw_pixels_equal_those_of_the_router(
    client: httpx.Client, answered: list[str], query: str
) -> None:
    fast = client.post(f"/predict/image{query}", content=PIXELS, headers=RAW)
    slow = client.post(f"/predict/image{query}", content=PIXELS, headers={**RAW, **SLOW})
    assert answered == ["/predict/image"]
    assert fast.status_code == 200
    assert fast.content == slow.content


@pytest.mark.parametrize(
    "kind", ["application/json; charset=utf-8", "Application/JSON;charset=UTF-8"]
)
def test_json_may_name_its_charset(client: httpx.Client, answered: list[str], kind: str) -> None:
    response = client.post("/predict", json=DNN, headers={"Content-Type": kind})
    assert response.status_code == 200
    assert answered == ["/predict"]


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("model=dnn", 422),
        ("model=nope", 404),
        ("models=mnist-cnn", 422),
        ("model=mnist-cnn&version=9", 404),
        ("=mnist-cnn", 422),
        ("model=mnist%2Dcnn", 200),
        ("pixels=true", 200),
        ("pixels=false", 200),
        ("model=mnist-cnn&pixels=true", 200),
        ("pixels=true&model=mnist-cnn", 200),
        ("pixels=maybe", 422),
        ("pixel=true", 422),
    ],
)
def test_other_requests_for_pictures_go_to_the_router(
    client: httpx.Client, answered: list[str], query: str, status: int
) -> None:
    response = client.post(f"/predict/image?{query}", content=bytes(784), headers=RAW)
    assert response.status_code == status
    assert answered == []


@pytest.mark.parametrize(
    ("lines", "version"),
    [
        ([SLOW_LINE], "1.1"),
        (["Expect: 100-continue"], "1.1"),
        (["Connection: close"], "1.1"),
        ([], "1.0"),
    ],
)
def test_unusual_requests_go_to_the_router(
    connection: Connection, answered: list[str], lines: list[str], version: str
) -> None:
    connection.send(request(lines=lines, version=version))
    if "Expect: 100-continue" in lines:
        assert connection.line() == "HTTP/1.1 100 Continue"
        assert connection.line() == ""
    assert connection.answer().status == 200
    assert answered == []
    if version == "1.0" or "Connection: close" in lines:
        assert connection.rest() == b""


def test_wrong_bodies_go_to_the_router_even_with_a_known_head(
    connection: Connection, answered: list[str]
) -> None:
    for _ in range(3):
        for body, status in (
            (b'{"model": "dnn", "inputs": [[1]]}', 422),
            (b'{"model": "dn", "inputs": [[1, 2]]}', 404),
            (b"{", 422),
        ):
            assert connection.send(request(body)).answer().status == status
    assert answered == []
    assert connection.send(request()).answer().status == 200


def test_a_request_with_an_origin_goes_to_the_router(
    serve: Serve, tmp_path: Path, answered: list[str]
) -> None:
    settings = Settings.model_validate({"data_dir": tmp_path, "cors_origins": PAGE})
    client = serve(settings)
    for _ in range(2):  # the second time the head is known
        page = client.post("/predict", json=DNN, headers={"Origin": PAGE})
        assert page.headers["Access-Control-Allow-Origin"] == PAGE
    assert answered == []
    assert client.post("/predict", json=DNN).json() == page.json()
    assert answered == ["/predict"]


@pytest.mark.parametrize("cut", [1, 17, -60, -1])
def test_a_request_in_two_pieces_is_answered(
    client: httpx.Client, connection: Connection, answered: list[str], cut: int
) -> None:
    whole = request()
    expected = connection.send(whole).answer().json()
    connection.send(whole[:cut])
    wait_until_read(client)
    assert connection.send(whole[cut:]).answer().json() == expected
    assert len(answered) == 2


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


def test_each_body_after_a_known_head_is_read(connection: Connection, answered: list[str]) -> None:
    first, second, third, again = (
        connection.send(request(body_of((number, 0)))).answer().json() for number in (1, 2, 3, 1)
    )
    assert first == again
    assert first != second != third
    assert len(answered) == 4


def test_a_limited_number_of_short_heads_is_remembered(tmp_path: Path) -> None:
    served = config(create_app(Settings(data_dir=tmp_path)), port=0, log_level="warning")
    heads: dict[bytes, Head] = served.http.heads  # type: ignore[union-attr]
    with listening(served) as url, Connection(url) as connection:
        long = request(lines=[f"X-Note: {'a' * MAX_HEAD_BYTES}"])
        assert connection.send(long).answer().status == 200
        assert len(heads) == 0
        assert connection.send(request()).answer().status == 200
        (head,) = heads.values()
        heads.update({str(number).encode(): head for number in range(MAX_HEADS - 1)})
        assert connection.send(request(lines=["X-Note: short"])).answer().status == 200
        assert len(heads) == 1


def test_an_incomplete_head_is_not_remembered(client: httpx.Client, connection: Connection) -> None:
    for whole, model in ((request(), "dnn"), (request(body_of((1, 1), model="xor")), "xor")):
        connection.send(whole[:3])
        wait_until_read(client)
        assert connection.send(whole[3:]).answer().json()["model"] == model


@pytest.fixture
def guarded(serve: Serve, tmp_path: Path) -> httpx.Client:
    return serve(Settings.model_validate({"data_dir": tmp_path, "predict_token": TOKEN}))


def test_empty_lines_before_a_request_are_not_remembered_as_its_head(guarded: httpx.Client) -> None:
    """Otherwise a body alone would be answered, with the token of an earlier request."""
    with_token = request(lines=[f"Authorization: Bearer {TOKEN}"])
    for _ in range(2):
        with Connection(guarded.base_url) as allowed:
            assert allowed.send(b"\r\n\r\n", with_token).answer().status == 200
        with Connection(guarded.base_url) as stranger:
            assert stranger.send(b"\r\n\r\n" + DNN_BODY).rest().startswith(b"HTTP/1.1 400")
        with Connection(guarded.base_url) as together:
            assert together.send(b"\r\n\r\n" + with_token).answer().status == 200


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        (["Authorization: Bearer wrong", f"Authorization: Bearer {TOKEN}"], 401),
        ([f"Authorization: Bearer {TOKEN}", "Accept: a", "Accept: b"], 200),
    ],
)
def test_a_request_with_a_header_given_twice_goes_to_the_router(
    guarded: httpx.Client, answered: list[str], lines: list[str], status: int
) -> None:
    with Connection(guarded.base_url) as connection:
        for _ in range(2):
            assert connection.send(request(lines=lines)).answer().status == status
    assert answered == []


def test_a_required_token_is_checked(guarded: httpx.Client, answered: list[str]) -> None:
    right = {"Authorization": f"Bearer {TOKEN}"}
    for _ in range(2):  # the second time each head is known
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": TOKEN}):
            assert guarded.post("/predict", json=DNN, headers=headers).status_code == 401
        assert guarded.post("/predict", json=DNN, headers=right).status_code == 200
    assert answered == ["/predict"] * 2


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


def test_a_harmless_request_id_comes_back(client: httpx.Client, answered: list[str]) -> None:
    for given, is_kept in (("order-7:42/a", True), ("<script>", False)):
        response = client.post("/predict", json=DNN, headers={"X-Request-ID": given})
        assert (response.headers["X-Request-ID"] == given) is is_kept
    assert len(answered) == 2


def test_an_overflow_is_refused_as_by_the_router(client: httpx.Client, answered: list[str]) -> None:
    """The numbers fit into float32, their sums do not."""
    body = {"model": "perceptron", "inputs": [[3e38, 3e38], [0.1, 0.1]]}
    fast, slow = (client.post("/predict", json=body, headers=more) for more in ({}, SLOW))
    assert fast.status_code == slow.status_code
    assert fast.content == slow.content
    assert answered == ["/predict"]


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
    answered: list[str],
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
    assert answered == ["/predict"]


def test_polling_ends_soon_after_an_answer(serve: Serve, tmp_path: Path) -> None:
    client = serve(Settings(data_dir=tmp_path, busy_poll_us=1000))
    client.post("/predict", json=DNN)
    before = os.times()
    threading.Event().wait(1)
    after = os.times()
    assert (after.user + after.system) - (before.user + before.system) < 0.5
