"""One process that answers: uvicorn with the application, on sockets that were bound before."""

import socket
from collections.abc import Callable
from contextlib import suppress
from types import FrameType

import uvicorn
from fastapi import FastAPI

from service.app import create_app
from service.commands.common import log_config
from service.listening import Listeners
from service.settings import Settings


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

    Raises `DeviceError` where the device asked for is not here.
    """
    app = create_app(settings)
    config = uvicorn.Config(
        app, log_config=log_config(settings.log_level), access_log=settings.access_log
    )
    with suppress(KeyboardInterrupt):
        Server(app, config, on_ready).run(listeners)
