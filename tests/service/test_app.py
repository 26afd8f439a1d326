"""The life of the application, from its start to its end."""

import threading
from pathlib import Path

import pytest
from anyio import to_thread
from fastapi import FastAPI
from sqlalchemy import Engine as Database

from perceptd.service import app as application
from perceptd.service.app import create_app
from perceptd.service.inference.engine import Engine
from perceptd.service.settings import Settings

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def app(tmp_path: Path) -> FastAPI:
    return create_app(Settings(data_dir=tmp_path))


async def test_the_database_is_left_only_when_nobody_reads_it_any_more(
    app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection that comes back later would stay open."""
    reading = threading.Event()
    order: list[str] = []

    def slow(_: Engine) -> None:
        reading.set()
        threading.Event().wait(0.3)
        order.append("read")

    monkeypatch.setattr(application, "REFRESH_SECONDS", 0)
    monkeypatch.setattr(Database, "dispose", lambda _: order.append("left"))
    async with app.router.lifespan_context(app):
        monkeypatch.setattr(Engine, "refresh", slow)
        await to_thread.run_sync(reading.wait, 30)
    assert order[-2:] == ["read", "left"]
    assert order.count("left") == 1
