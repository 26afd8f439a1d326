"""The tokens of a server under test, and clients that send them."""

from pathlib import Path
from typing import Any

import httpx
from pydantic import SecretStr

from perceptd.service.settings import Settings

ADMIN, PREDICT = "an-admin-token-of-a-test", "a-predict-token-of-a-test"
AS_ADMIN = {"Authorization": f"Bearer {ADMIN}"}
AS_PREDICTOR = {"Authorization": f"Bearer {PREDICT}"}
TOKENS: dict[str, Any] = {"admin_token": SecretStr(ADMIN), "predict_token": SecretStr(PREDICT)}


def guarded(data_dir: Path, **changes: Any) -> Settings:
    """Settings of a server with both tokens."""
    return Settings(data_dir=data_dir, **TOKENS, **changes)


def as_admin(client: httpx.Client) -> httpx.Client:
    client.headers.update(AS_ADMIN)
    return client


def problem(response: httpx.Response) -> tuple[int, str]:
    """An error's status and code. Asserts the shape that all errors share."""
    assert response.headers["content-type"] == "application/problem+json", response.text
    body = response.json()
    assert body["status"] == response.status_code
    assert body["detail"]
    return response.status_code, body["code"]
