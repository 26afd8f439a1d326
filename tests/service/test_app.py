"""The life of the application, from its start to its end."""

import threading
from pathlib import Path

import pytest
from anyio import to_thread
from fastapi import FastAPI
from sqlalchemy import Engine as Database

from perceptd.service import app as application
from perceptd.service.api.services import services_of
from perceptd.service.app import create_app
from perceptd.service.settings import Settings

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def app(tmp_path: Path) -> FastAPI:
    return create_app(Settings(data_dir=tmp_path))


async def test_the_database_is_disposed_after_its_last_read(
    app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection that is returned later would stay open."""
    reading = threading.Event()
    order: list[str] = []

    def slow() -> None:
        reading.set()
        threading.Event().wait(0.3)
        order.append("read")

    monkeypatch.setattr(application, "REFRESH_S", 0)
    monkeypatch.setattr(Database, "dispose", lambda _: order.append("disposed"))
    async with app.router.lifespan_context(app):
        monkeypatch.setattr(services_of(app).engine, "refresh", slow)
        await to_thread.run_sync(reading.wait, 30)
    assert order[-2:] == ["read", "disposed"]
    assert order.count("disposed") == 1
