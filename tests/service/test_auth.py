from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr

from service.settings import Settings

TOKEN = "a-token-of-some-length"
BODY = {"model": "xor", "inputs": [[1, 1]]}


@pytest.fixture
def guarded(serve: Callable[[Settings], httpx.Client], tmp_path: Path) -> httpx.Client:
    return serve(Settings(data_dir=tmp_path, predict_token=SecretStr(TOKEN)))


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer wrong-token-of-some-length"},
        {"Authorization": "Bearer"},
        {"Authorization": f"Basic {TOKEN}"},
        {"Authorization": "Bearer tökén".encode()},
    ],
)
def test_without_the_token_nothing_is_answered(
    guarded: httpx.Client, headers: dict[str, str]
) -> None:
    for response in (
        guarded.post("/predict", json=BODY, headers=headers),
        guarded.post("/predict/image", content=b"", headers=headers),
        guarded.get("/models", headers=headers),
        guarded.get("/models/xor/versions/1", headers=headers),
    ):
        assert (response.status_code, response.json()["code"]) == (401, "unauthorized")
        assert response.headers["WWW-Authenticate"] == "Bearer"
        assert TOKEN not in response.text


def test_with_the_token_everything_is_answered(guarded: httpx.Client) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    assert guarded.post("/predict", json=BODY, headers=headers).status_code == 200
    assert guarded.get("/models", headers=headers).status_code == 200


def test_health_and_documentation_stay_open(guarded: httpx.Client) -> None:
    for path in ("/health/live", "/health/ready", "/docs", "/openapi.json"):
        assert guarded.get(path).status_code == 200
