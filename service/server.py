"""One process that answers: uvicorn with the application, on sockets that were bound before."""

import socket
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any

import uvicorn
from fastapi import FastAPI

from models import tracing
from service import logging as logs
from service.app import create_app
from service.hot_path import protocol
from service.listening import Listeners
from service.settings import Settings

# Longer than clients keep an idle connection (httpx 5 s, proxies 60): a server that closes first
# may do so while a request is on its way.
KEEP_ALIVE_S = 75


class Server(uvicorn.Server):
    """A server that says when it answers.

    It ends the streams it sends before it waits for its connections to end.
    """

    def __init__(self, app: FastAPI, config: uvicorn.Config, on_ready: Callable[[], object]):
        super().__init__(config)
        self._app = app
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_ready()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._app.state.closing.set()
        super().handle_exit(sig, frame)


def run(settings: Settings, listeners: Listeners, on_ready: Callable[[], object]) -> None:
    """Serve until told to end by a signal; exits with 3 where the application cannot start.

    Raises `DeviceError` where the device asked for is not here, `TracingError`.
    """
    logs.configure(settings, "server")
    tracing.start("server")
    app = create_app(settings)
    with suppress(KeyboardInterrupt):
        Server(app, config(app, log_config=None), on_ready).run(listeners)


def config(app: FastAPI, **options: Any) -> uvicorn.Config:
    """uvicorn's options for an app of `create_app`, which logs its requests itself.

    Any other ASGI server serves it as well, predictions slower.
    """
    own = {"http": protocol(app), "timeout_keep_alive": KEEP_ALIVE_S, "access_log": False}
    return uvicorn.Config(app, **{**own, **options})
