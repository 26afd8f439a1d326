"""Of other origins, only those that are configured may read an answer."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from pydantic import ValidationError

from perceptd.service.settings import Settings
from tests.server import running
from tests.service.admin import AS_ADMIN, AS_PREDICTOR, guarded

HERE, THERE, ELSEWHERE = "https://app.example.com", "http://[::1]:3000", "https://evil.example.com"
BODY = {"model": "xor", "inputs": [[1, 1]]}
FOREIGN = [ELSEWHERE, "null", f"{HERE}.evil.example.com", f"{HERE}:8443", HERE.upper(), "*"]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    settings = guarded(tmp_path_factory.mktemp("data"), cors_origins=f"{HERE}, {THERE}")
    with running(settings) as client:
        yield client


def preflight(
    client: httpx.Client, origin: str, method: str, path: str, asks: str
) -> httpx.Response:
    headers = {"Origin": origin, "Access-Control-Request-Method": method}
    return client.options(path, headers={**headers, "Access-Control-Request-Headers": asks})


@pytest.mark.parametrize("origin", [HERE, THERE])
@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/predict"), ("PUT", "/models/xor/aliases/production"), ("GET", "/v2/models/xor")],
)
def test_a_preflight_of_a_known_origin_passes(
    shared: httpx.Client, origin: str, method: str, path: str
) -> None:
    asks = "authorization, content-type, traceparent, tracestate"
    answer = preflight(shared, origin, method, path, asks)
    assert answer.status_code == 200
    assert answer.headers["Access-Control-Allow-Origin"] == origin
    assert method in answer.headers["Access-Control-Allow-Methods"]
    assert "Access-Control-Allow-Credentials" not in answer.headers
    assert "Origin" in answer.headers["Vary"]
    assert answer.headers["X-Request-ID"]


@pytest.mark.parametrize("origin", FOREIGN)
def test_a_preflight_of_another_origin_is_refused(shared: httpx.Client, origin: str) -> None:
    answer = preflight(shared, origin, "POST", "/predict", "authorization")
    assert answer.status_code == 400
    assert "Access-Control-Allow-Origin" not in answer.headers


def test_a_preflight_for_unused_methods_and_headers_is_refused(shared: httpx.Client) -> None:
    assert preflight(shared, HERE, "DELETE", "/predict", "authorization").status_code == 400
    assert preflight(shared, HERE, "POST", "/predict", "cookie").status_code == 400


@pytest.mark.parametrize("status", [200, 401, 404, 413, 415, 422])
def test_only_a_known_origin_may_read_an_answer(shared: httpx.Client, status: int) -> None:
    for origin, may_read in ((HERE, True), (ELSEWHERE, False)):
        headers = {**AS_PREDICTOR, "Origin": origin}
        if status == 413:
            answer = shared.post("/predict", content=bytes(2**24 + 1), headers=headers)
        elif status == 415:
            answer = shared.post("/predict", data={"a": "b"}, headers=headers)
        else:
            body = {404: {**BODY, "model": "nope"}, 422: {"model": "xor"}}.get(status, BODY)
            given = {"Origin": origin} if status == 401 else headers
            answer = shared.post("/predict", json=body, headers=given)
        assert answer.status_code == status
        assert answer.headers.get("Access-Control-Allow-Origin") == (origin if may_read else None)
        assert answer.headers["X-Request-ID"]


def test_no_origin_is_known_unless_configured(client: httpx.Client) -> None:
    refused = preflight(client, HERE, "POST", "/predict", "content-type")
    assert refused.status_code == 405
    for answer in (
        refused,
        client.post("/predict", json=BODY, headers={"Origin": HERE}),
        client.get("/models", headers={"Origin": HERE, **AS_ADMIN}),
    ):
        assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize(
    "origins",
    [
        "*",
        "null",
        "app.example.com",
        f"{HERE}/",
        f"{HERE}/page",
        HERE.upper(),
        f"{HERE},",
        "",
        "a b",
    ],
)
def test_an_inexact_origin_is_refused(
    origins: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PERCEPTD_CORS_ORIGINS", origins)
    with pytest.raises(ValidationError, match="expected an exact origin"):
        Settings(data_dir=tmp_path)


def test_origins_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERCEPTD_CORS_ORIGINS", f"{HERE}, {THERE}")
    assert Settings().cors_origins == (HERE, THERE)
