"""Which requests the fast path answers, and which it leaves to the router."""

from pathlib import Path

import httpx
import pytest

from perceptd.service.settings import Settings
from tests.raw_http import Connection
from tests.service.front.sent import DNN, DNN_BODY, PAGE, RAW, SLOW_LINE, TOKEN, Serve, request


@pytest.mark.parametrize(
    "kind", ["application/json; charset=utf-8", "Application/JSON;charset=UTF-8"]
)
def test_json_may_name_its_charset(client: httpx.Client, routed: list[str], kind: str) -> None:
    response = client.post("/predict", json=DNN, headers={"Content-Type": kind})
    assert response.status_code == 200
    assert routed == []


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
    client: httpx.Client, routed: list[str], query: str, status: int
) -> None:
    response = client.post(f"/predict/image?{query}", content=bytes(784), headers=RAW)
    assert response.status_code == status
    assert routed == ["/predict/image"]


@pytest.mark.parametrize(
    "asked",
    [
        request(lines=[SLOW_LINE]),
        request(lines=["Content-Encoding: identity"]),
        b"POST /predict_proba HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: chunked\r\n"
        b"Content-Type: application/json\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(DNN_BODY), DNN_BODY),
    ],
    ids=["deadline", "encoding", "chunked"],
)
def test_unusual_requests_go_to_the_router(
    connection: Connection, routed: list[str], asked: bytes
) -> None:
    expected = connection.send(request()).answer()
    answer = connection.send(asked).answer()
    assert (answer.status, answer.body) == (200, expected.body)
    assert routed == ["/predict_proba"]


def test_wrong_bodies_go_to_the_router(connection: Connection, routed: list[str]) -> None:
    wrong = (
        (b'{"model": "dnn", "inputs": [[1]]}', 422),
        (b'{"model": "dn", "inputs": [[1, 2]]}', 404),
        (b"{", 422),
    )
    for body, status in wrong:
        assert connection.send(request(body)).answer().status == status
    assert routed == ["/predict_proba"] * len(wrong)
    assert connection.send(request()).answer().status == 200
    assert len(routed) == len(wrong)


def test_a_request_with_an_origin_goes_to_the_router(
    serve: Serve, tmp_path: Path, routed: list[str]
) -> None:
    settings = Settings.model_validate({"data_dir": tmp_path, "cors_origins": PAGE})
    client = serve(settings)
    page = client.post("/predict", json=DNN, headers={"Origin": PAGE})
    assert page.headers["Access-Control-Allow-Origin"] == PAGE
    assert routed == ["/predict"]
    assert client.post("/predict", json=DNN).json() == page.json()
    assert routed == ["/predict"]


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        (["Authorization: Bearer wrong", f"Authorization: Bearer {TOKEN}"], 401),
        ([f"Authorization: Bearer {TOKEN}", "Accept: a", "Accept: b"], 200),
    ],
)
def test_a_request_with_a_header_given_twice_goes_to_the_router(
    guarded: httpx.Client, routed: list[str], lines: list[str], status: int
) -> None:
    with Connection(guarded.base_url) as connection:
        for _ in range(2):
            assert connection.send(request(lines=lines)).answer().status == status
    assert routed == ["/predict_proba"] * 2


def test_a_required_token_is_checked(guarded: httpx.Client, routed: list[str]) -> None:
    right = {"Authorization": f"Bearer {TOKEN}"}
    for _ in range(2):
        routed.clear()
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": TOKEN}):
            assert guarded.post("/predict", json=DNN, headers=headers).status_code == 401
        assert len(routed) == 3
        assert guarded.post("/predict", json=DNN, headers=right).status_code == 200
        assert len(routed) == 3
