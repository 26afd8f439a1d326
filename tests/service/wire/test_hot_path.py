"""Predictions answered in the protocol, byte by byte over real sockets."""

import asyncio
import io
import json
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

from perceptd.service import logging as logs
from perceptd.service.app import create_app
from perceptd.service.inference.batcher import Batcher
from perceptd.service.inference.pending import Outcome, PendingRequest
from perceptd.service.settings import Settings
from perceptd.service.wire.hot_path import MAX_HEAD_BYTES, MAX_HEADS, HotPath, protocol
from perceptd.service.wire.hot_routes import plain_head
from tests.server import running

ORDINARY = {"X-Request-Timeout-Ms": "60000"}  # a header that the hot path leaves to the router
DNN = {"model": "dnn", "inputs": [[0.1, -0.2], [1.0, 0.3]]}
TOKEN = "a-predict-token-of-some-length"


def request(
    body: bytes = json.dumps(DNN).encode(),
    path: str = "/predict_proba",
    lines: Sequence[str] = (),
    version: str = "1.1",
) -> bytes:
    head = [
        f"POST {path} HTTP/{version}",
        "Host: here",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        *lines,
    ]
    return "\r\n".join([*head, "", ""]).encode() + body


class Connection:
    """A socket to a server, from which whole responses are read."""

    def __init__(self, client: httpx.Client) -> None:
        self.socket = socket.create_connection((client.base_url.host, client.base_url.port), 30)
        self._file = self.socket.makefile("rb")

    def send(self, *parts: bytes) -> "Connection":
        for part in parts:
            self.socket.sendall(part)
        return self

    def answer(self) -> tuple[int, dict[str, str], Any]:
        """Status, headers and content of the next response."""
        status = int(self._file.readline().split()[1])
        headers = {}
        while line := self._file.readline().strip():
            name, _, value = line.decode().partition(": ")
            headers[name.lower()] = value
        return status, headers, json.loads(self._file.read(int(headers["content-length"])))

    def rest(self) -> bytes:
        """Whatever comes until the connection ends."""
        return self._file.read()

    @property
    def has_ended(self) -> bool:
        return self._file.read(1) == b""

    def close(self) -> None:
        self._file.close()
        self.socket.close()


@pytest.fixture
def connection(client: httpx.Client) -> Iterator[Connection]:
    opened = Connection(client)
    yield opened
    opened.close()


@pytest.fixture
def answered(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Paths that the hot path has answered, each time."""
    paths: list[str] = []
    deliver = HotPath._deliver

    def noted(self: HotPath, prediction: Any, version: Any, outcome: Outcome) -> None:
        paths.append(prediction.head.route.path)
        deliver(self, prediction, version, outcome)

    monkeypatch.setattr(HotPath, "_deliver", noted)
    return paths


@pytest.mark.parametrize("path", ["/predict", "/predict_proba"])
def test_its_answers_are_those_of_the_router(
    client: httpx.Client, answered: list[str], path: str
) -> None:
    for model in client.get("/models").json()["models"]:
        hot = client.post(path, json=model["example"])
        assert answered == [path]
        ordinary = client.post(path, json=model["example"], headers=ORDINARY)
        assert answered == [path]
        assert hot.content == ordinary.content
        assert hot.headers.keys() == ordinary.headers.keys()
        assert hot.headers["content-type"] == "application/json"
        answered.clear()


@pytest.mark.parametrize(
    "kind", ["application/json; charset=utf-8", "Application/JSON;charset=UTF-8"]
)
def test_the_only_charset_may_be_said(client: httpx.Client, answered: list[str], kind: str) -> None:
    response = client.post("/predict", json=DNN, headers={"Content-Type": kind})
    assert response.status_code == 200
    assert answered == ["/predict"]


@pytest.mark.parametrize("query", ["", "?model=mnist-cnn", "?model=mnist-mlp"])
def test_raw_pixels_are_answered_alike(
    client: httpx.Client, answered: list[str], query: str
) -> None:
    headers = {"Content-Type": "application/octet-stream"}
    body = bytes(range(256)) * 3 + bytes(16)
    hot = client.post(f"/predict/image{query}", content=body, headers=headers)
    ordinary = client.post(f"/predict/image{query}", content=body, headers={**headers, **ORDINARY})
    assert answered == ["/predict/image"]
    assert hot.status_code == 200
    assert hot.content == ordinary.content


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/predict/image?model=dnn", 422),
        ("/predict/image?model=nope", 404),
        ("/predict/image?models=mnist-cnn", 422),
        ("/predict/image?model=mnist-cnn&version=9", 404),
        ("/predict/image?=mnist-cnn", 422),
        ("/predict/image?model=mnist%2Dcnn", 200),
        ("/predict/image?pixels=true", 200),
        ("/predict/image?pixels=false", 200),
        ("/predict/image?model=mnist-cnn&pixels=true", 200),
        ("/predict/image?pixels=true&model=mnist-cnn", 200),
        ("/predict/image?pixels=maybe", 422),
        ("/predict/image?pixel=true", 422),
    ],
)
def test_other_requests_for_pictures_go_to_the_router(
    client: httpx.Client, answered: list[str], path: str, status: int
) -> None:
    headers = {"Content-Type": "application/octet-stream"}
    assert client.post(path, content=bytes(784), headers=headers).status_code == status
    assert answered == []


@pytest.mark.parametrize(
    ("lines", "version"),
    [
        (["X-Request-Timeout-Ms: 5000"], "1.1"),
        (["Expect: 100-continue"], "1.1"),
        (["Connection: close"], "1.1"),
        ([], "1.0"),
    ],
)
def test_unusual_requests_go_to_the_router_and_are_answered(
    connection: Connection, answered: list[str], lines: list[str], version: str
) -> None:
    connection.send(request(lines=lines, version=version))
    if "Expect: 100-continue" in lines:
        assert connection._file.readline() == b"HTTP/1.1 100 Continue\r\n"
        assert connection._file.readline() == b"\r\n"
    assert connection.answer()[0] == 200
    assert answered == []
    if version == "1.0" or "Connection: close" in lines:
        assert connection.has_ended


def test_wrong_bodies_are_refused_by_the_router_again_and_again(
    connection: Connection, answered: list[str]
) -> None:
    for _ in range(3):  # the head is known from the first on
        assert connection.send(request(b'{"model": "dnn", "inputs": [[1]]}')).answer()[0] == 422
        assert connection.send(request(b'{"model": "dn", "inputs": [[1, 2]]}')).answer()[0] == 404
        assert connection.send(request(b"{")).answer()[0] == 422
    assert answered == []
    assert connection.send(request()).answer()[0] == 200


def test_a_request_in_pieces_is_answered_whatever_the_pieces(
    connection: Connection, answered: list[str]
) -> None:
    connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    whole = request()
    reference = connection.send(whole).answer()[2]
    for cut in (1, 17, len(whole) - 60, len(whole) - 1):
        connection.send(whole[:cut])
        until_read(connection)
        assert connection.send(whole[cut:]).answer()[2] == reference
    assert len(answered) == 5


def until_read(connection: Connection) -> None:
    """Wait until the kernel has handed over what was sent; Linux tells how much it has not."""
    deadline = time.monotonic() + 5
    port = f":{connection.socket.getsockname()[1]:04X}"
    while True:
        lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
        queues = [line.split()[4] for line in lines if port in line]
        if all(queue == "00000000:00000000" for queue in queues) or time.monotonic() > deadline:
            return


def test_pipelined_requests_are_answered_in_their_order(
    connection: Connection, answered: list[str]
) -> None:
    bodies = [json.dumps({"model": "dnn", "inputs": [[n, n]] * (n + 1)}).encode() for n in range(4)]
    lines: list[list[str]] = [[], ["X-Request-Timeout-Ms: 5000"], [], []]
    connection.send(
        b"".join(
            request(body, lines=[*more, f"X-Request-ID: number-{n}"])
            for n, (body, more) in enumerate(zip(bodies, lines, strict=True))
        )
    )
    for n in range(4):
        status, headers, content = connection.answer()
        assert (status, headers["x-request-id"]) == (200, f"number-{n}")
        assert len(content["predictions"]) == n + 1
    assert connection.send(request()).answer()[0] == 200


def test_a_head_that_came_before_is_read_with_a_body_of_its_own(
    connection: Connection, answered: list[str]
) -> None:
    answers = []
    for number in (1, 2, 3, 1):
        body = json.dumps({"model": "dnn", "inputs": [[number, 0]]}).encode()
        answers.append(connection.send(request(body)).answer()[2])
    assert answers[0] == answers[3]
    assert answers[0] != answers[1] != answers[2]
    assert len(answered) == 4


def test_no_more_heads_are_remembered_than_is_said(tmp_path: Path) -> None:
    made = protocol(create_app(Settings(data_dir=tmp_path)))
    headers = [(b"content-type", b"application/json"), (b"content-length", b"2")]
    head = plain_head(b"/predict", headers)
    assert head is not None
    made.heads.update({str(n).encode(): head for n in range(MAX_HEADS)})
    one = object.__new__(made)
    one._new_head = b"one more"
    one._remember(head)
    assert list(made.heads) == [b"one more"]


def test_half_a_head_is_not_remembered_as_a_whole_one(connection: Connection) -> None:
    whole = request()
    connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.send(whole[:3])
    until_read(connection)
    assert connection.send(whole[3:]).answer()[0] == 200
    other = request(json.dumps({"model": "xor", "inputs": [[1, 1]]}).encode())
    connection.send(other[:3])
    until_read(connection)
    assert connection.send(other[3:]).answer()[2]["model"] == "xor"


def test_empty_lines_before_a_request_do_not_stand_for_its_head(
    serve: Callable[[Settings], httpx.Client], tmp_path: Path
) -> None:
    """Or a body alone would be answered, on the first caller's token."""
    client = serve(Settings.model_validate({"data_dir": tmp_path, "predict_token": TOKEN}))
    body = json.dumps(DNN).encode()
    with_token = request(body, lines=[f"Authorization: Bearer {TOKEN}"])
    for _ in range(2):
        allowed = Connection(client).send(b"\r\n\r\n", with_token)
        assert allowed.answer()[0] == 200
        allowed.close()
        stranger = Connection(client).send(b"\r\n\r\n" + body)
        assert stranger.socket.recv(12) == b"HTTP/1.1 400"
        stranger.close()
        together = Connection(client).send(b"\r\n\r\n" + with_token)
        assert together.answer()[0] == 200
        together.close()


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        (["Authorization: Bearer wrong", f"Authorization: Bearer {TOKEN}"], 401),
        ([f"Authorization: Bearer {TOKEN}", "Accept: a", "Accept: b"], 200),
    ],
)
def test_a_header_given_twice_is_for_the_router(
    serve: Callable[[Settings], httpx.Client],
    tmp_path: Path,
    answered: list[str],
    lines: list[str],
    status: int,
) -> None:
    client = serve(Settings.model_validate({"data_dir": tmp_path, "predict_token": TOKEN}))
    connection = Connection(client)
    for _ in range(2):
        assert connection.send(request(lines=lines)).answer()[0] == status
    connection.close()
    assert answered == []


def test_long_heads_are_answered_and_not_remembered(
    connection: Connection, answered: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    remembered: list[bytes | None] = []
    monkeypatch.setattr(HotPath, "_remember", lambda self, head: remembered.append(self._new_head))
    for lines in ([f"X-Note: {'a' * MAX_HEAD_BYTES}"], ["X-Note: short"]):
        assert connection.send(request(lines=lines)).answer()[0] == 200
    assert len(answered) == 2
    assert remembered[0] is None
    assert remembered[1] is not None


@pytest.mark.parametrize("body", [json.dumps(DNN).encode(), b'{"model": "dnn", "inputs": 1}'])
def test_a_body_still_arriving_when_the_server_ends_is_answered(
    tmp_path: Path, body: bytes
) -> None:
    with running(Settings(data_dir=tmp_path)) as client:
        connection = Connection(client)
        whole = request(body)
        connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.send(whole[: -len(body)])
        until_read(connection)

        def send_the_rest() -> None:
            until_closed(client)
            connection.send(body)

        ending = threading.Thread(target=send_the_rest)
        ending.start()
    ending.join()
    status, headers, _ = connection.answer()
    assert status == (200 if body == json.dumps(DNN).encode() else 422)
    assert headers["connection"] == "close"
    assert connection.has_ended
    connection.close()


def until_closed(client: httpx.Client) -> None:
    """Wait until the server takes no more connections: it has begun to end."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            socket.create_connection((client.base_url.host, client.base_url.port), 1).close()
        except OSError:
            return


def test_the_callers_request_id_comes_back_and_a_harmful_one_is_replaced(
    client: httpx.Client, answered: list[str]
) -> None:
    given = [("order-7:42/a", True), ("<script>", False), ("a b", False)]
    for name, is_kept in given:
        response = client.post("/predict", json=DNN, headers={"X-Request-ID": name})
        assert (response.headers["X-Request-ID"] == name) is is_kept
    assert len(answered) == 3


def test_a_token_is_asked_for_where_one_is_set(
    serve: Callable[[Settings], httpx.Client], tmp_path: Path, answered: list[str]
) -> None:
    client = serve(Settings.model_validate({"data_dir": tmp_path, "predict_token": TOKEN}))
    right = {"Authorization": f"Bearer {TOKEN}"}
    for _ in range(2):  # the second time each head is known
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": TOKEN}):
            assert client.post("/predict", json=DNN, headers=headers).status_code == 401
        assert client.post("/predict", json=DNN, headers=right).status_code == 200
    assert answered == ["/predict"] * 2


def test_a_body_over_the_limit_is_refused(
    serve: Callable[[Settings], httpx.Client], tmp_path: Path, answered: list[str]
) -> None:
    client = serve(Settings(data_dir=tmp_path, max_body_bytes=1024))
    for _ in range(2):
        response = client.post("/predict", json={"model": "dnn", "inputs": [[0.5, 0.5]] * 200})
        assert response.status_code == 413
    assert answered == []


def test_an_overflow_is_told_to_its_caller_alone(client: httpx.Client, answered: list[str]) -> None:
    """Numbers within float32 whose sums are not."""
    body = {"model": "perceptron", "inputs": [[3e38, 3e38], [0.1, 0.1]]}
    hot, ordinary = (client.post("/predict", json=body, headers=more) for more in ({}, ORDINARY))
    assert hot.status_code == ordinary.status_code
    assert hot.content == ordinary.content
    assert answered == ["/predict"]


def test_a_full_queue_is_told_with_when_to_come_again(
    serve: Callable[[Settings], httpx.Client], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = serve(Settings(data_dir=tmp_path, max_queue_size=1))
    held: list[tuple[asyncio.AbstractEventLoop, PendingRequest]] = []
    enqueue = Batcher.enqueue

    def hold(self: Batcher, *args: Any) -> PendingRequest:
        """Keep what is enqueued waiting, as a batch that takes its time would."""
        self._busy = True
        waiting = enqueue(self, *args)
        held.append((asyncio.get_running_loop(), waiting))
        return waiting

    monkeypatch.setattr(Batcher, "enqueue", hold)
    first = threading.Thread(target=lambda: client.post("/predict", json=DNN))
    first.start()
    deadline = time.monotonic() + 10
    while not held:
        assert time.monotonic() < deadline
    for headers in ({}, ORDINARY):
        response = client.post("/predict", json=DNN, headers=headers)
        assert (response.status_code, response.json()["code"]) == (429, "queue_full")
        assert response.headers["Retry-After"] == "1"
        assert response.headers["X-Request-ID"]
    late = client.post("/predict", json=DNN, headers={"X-Request-Timeout-Ms": "20"})
    assert late.status_code in (429, 504)
    loop, waiting = held[0]
    loop.call_soon_threadsafe(waiting.end, RuntimeError("the network broke"))
    first.join()


def test_a_deadline_that_passes_is_a_504(
    serve: Callable[[Settings], httpx.Client], tmp_path: Path
) -> None:
    """A batcher that waits for company waits longer than this caller does."""
    client = serve(Settings(data_dir=tmp_path, max_batch_time_ms=1000))
    response = client.post("/predict", json=DNN, headers={"X-Request-Timeout-Ms": "10"})
    assert (response.status_code, response.json()["code"]) == (504, "deadline_exceeded")
    assert client.post("/predict", json=DNN).status_code == 200


@pytest.mark.parametrize("wrong", ["0", "-5", "soon", "1.5", "99999999999"])
def test_a_wrong_timeout_is_named(client: httpx.Client, wrong: str) -> None:
    response = client.post("/predict", json=DNN, headers={"X-Request-Timeout-Ms": wrong})
    assert (response.status_code, response.json()["code"]) == (422, "invalid_input")
    assert response.json()["errors"][0]["loc"] == ["header", "X-Request-Timeout-Ms"]


def test_a_fault_is_a_500_that_is_logged(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*args: object) -> None:
        raise RuntimeError("it broke")

    monkeypatch.setattr("perceptd.service.inference.loaded_version.LoadedVersion.checked", broken)
    response = client.post("/predict", json=DNN)
    assert (response.status_code, response.json()["code"]) == (500, "internal_error")
    assert "it broke" not in response.text
    (told,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert vars(told)["facts"] == {"request_id": response.headers["X-Request-ID"]}
    assert told.exc_info


def test_a_caller_who_goes_away_leaves_the_others_answered(
    client: httpx.Client, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(20):
        leaving = Connection(client).send(request(), request()[:50])
        leaving.close()
        assert client.post("/predict", json=DNN).status_code == 200
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


def test_many_callers_at_once_get_each_their_own_answer(client: httpx.Client) -> None:
    rows = [[n / 100, -n / 100] for n in range(200)]
    alone = {
        json.dumps(row): client.post(
            "/predict_proba", json={"model": "dnn", "inputs": [row]}
        ).json()
        for row in rows
    }
    wrong: list[object] = []

    def ask(share: list[list[float]]) -> None:
        with httpx.Client(base_url=client.base_url, timeout=30) as own:
            for row in share:
                answer = own.post("/predict_proba", json={"model": "dnn", "inputs": [row]}).json()
                given = answer["predictions"][0]["probabilities"]
                wanted = alone[json.dumps(row)]["predictions"][0]["probabilities"]
                if given != pytest.approx(wanted, abs=1e-6):
                    wrong.append((row, answer))

    threads = [threading.Thread(target=ask, args=(rows[n::16],)) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_the_access_log_has_a_line_for_it(
    serve: Callable[[Settings], httpx.Client],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    answered: list[str],
) -> None:
    told = io.StringIO()
    handler = logging.StreamHandler(told)
    handler.setFormatter(logs.JsonFormatter("server"))
    monkeypatch.setattr(logs.access, "handlers", [handler])
    monkeypatch.setattr(logs.access, "level", logging.INFO)
    logs.access.manager._clear_cache()  # type: ignore[attr-defined] # of who logs at which level
    client = serve(Settings(data_dir=tmp_path))
    client.post("/predict?a=1", json=DNN, headers={"X-Request-ID": "one"})
    client.post("/predict?a=1", json=DNN, headers={"X-Request-ID": "one", **ORDINARY})
    client.get("/health/live")  # what was asked before has been logged by then
    hot, ordinary, _ = map(json.loads, told.getvalue().splitlines())
    for line in (hot, ordinary):
        assert line.pop("duration_ms") > 0
        del line["timestamp"]
    assert hot == ordinary
    assert hot["message"] == "POST /predict 200"
    assert (hot["model"], hot["version"], hot["request_id"]) == ("dnn", 1, "one")
    assert answered == ["/predict"]


def test_a_process_sleeps_again_after_an_answer(
    serve: Callable[[Settings], httpx.Client], tmp_path: Path
) -> None:
    """It may look for the next request for a moment, and not for longer."""
    client = serve(Settings(data_dir=tmp_path, busy_poll_us=1000))
    client.post("/predict", json=DNN)
    before = os.times()
    threading.Event().wait(1)
    after = os.times()
    assert (after.user + after.system) - (before.user + before.system) < 0.5
