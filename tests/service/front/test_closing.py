"""Answers of a server that ends close their connections."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

from perceptd.service.api.services import services_of
from perceptd.service.app import create_app
from perceptd.service.settings import Settings
from tests.raw_http import XOR

BODY = json.dumps(XOR).encode()
FAST = {"path": "/predict", "status": 200}
REQUESTS = {
    "the fast path": FAST,
    "the router": {**FAST, "headers": [(b"x-request-timeout-ms", b"60000")]},
    "a wrong body": {"path": "/predict", "body": b"{", "status": 422},
    "no route": {"path": "/nothing", "status": 404},
    "a body too large": {"path": "/feedback", "body": b"a" * 2000, "status": 413},
    "a read": {"path": "/models", "method": "GET", "body": b"", "status": 200},
}

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def app(tmp_path: Path) -> AsyncIterator[FastAPI]:
    app = create_app(Settings(data_dir=tmp_path, max_body_bytes=1024))
    async with app.router.lifespan_context(app):
        yield app


async def answered(
    app: FastAPI,
    http_version: str,
    *,
    path: str,
    status: int,
    method: str = "POST",
    body: bytes = BODY,
    headers: list[tuple[bytes, bytes]] | None = None,
) -> dict[bytes, bytes]:
    """The headers of the answer to a request, which must have this status."""
    sent: list[Any] = []
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Any:
        return messages.pop() if messages else {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    kind = [(b"content-type", b"application/json")] if body else []
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": http_version,
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [*kind, (b"content-length", b"%d" % len(body)), *(headers or [])],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
        "state": {},
    }
    await app(scope, receive, send)
    assert sent[0]["status"] == status
    return dict(sent[0]["headers"])


@pytest.mark.parametrize("asked", REQUESTS.values(), ids=REQUESTS)
@pytest.mark.parametrize("http_version", ["1.0", "1.1", "2"])
async def test_only_an_ending_server_closes_and_only_http_1_says_so(
    app: FastAPI, http_version: str, asked: dict[str, Any]
) -> None:
    assert b"connection" not in await answered(app, http_version, **asked)
    services_of(app).closing.set()
    connection = (await answered(app, http_version, **asked)).get(b"connection")
    assert connection == (None if http_version == "2" else b"close")
