"""Connections, servers, and what the router is left to answer."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from perceptd.service.api.middleware import RequestMiddleware
from perceptd.service.settings import Settings
from tests.raw_http import Connection
from tests.service.front.sent import TOKEN, Serve


@pytest.fixture
def connection(client: httpx.Client) -> Iterator[Connection]:
    with Connection(client.base_url) as opened:
        yield opened


@pytest.fixture
def routed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths of the requests that the fast path leaves to the router."""
    paths: list[str] = []
    answer = RequestMiddleware.__call__

    async def noted(self: RequestMiddleware, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            paths.append(scope["path"])
        await answer(self, scope, receive, send)

    monkeypatch.setattr(RequestMiddleware, "__call__", noted)
    return paths


@pytest.fixture
def guarded(serve: Serve, tmp_path: Path) -> httpx.Client:
    return serve(Settings.model_validate({"data_dir": tmp_path, "predict_token": TOKEN}))
