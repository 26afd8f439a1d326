"""One server process: uvicorn with the application, on sockets that are bound already."""

import asyncio
import os
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any

import uvicorn
from fastapi import FastAPI

from perceptd.models import tracing
from perceptd.service import logging as logs
from perceptd.service import sockets as listening
from perceptd.service.api.middleware import SECURITY_HEADERS
from perceptd.service.api.services import services_of
from perceptd.service.app import create_app
from perceptd.service.settings import Settings
from perceptd.service.sockets import Listeners
from perceptd.service.wire.hot_path import protocol

# Longer than clients keep an idle connection (httpx 5 s, proxies 60 s): if the server closed first,
# a request might be on its way.
KEEP_ALIVE_S = 75
LINGER_S = 0.25  # after the last SYN: accepts waiting connections and ends busy ones


class Server(uvicorn.Server):
    """A server that reports when it is ready, and ends without losing a request.

    After a signal to end, it reports that it is not ready and serves on for `PERCEPTD_DRAIN_S`.
    Then it ends its streams, accepts the connections that are waiting, and answers every request
    that was sent with `connection: close`. A second signal ends it at once. With a `parent` (a
    process id), the parent handles the second signal, and the server ends when the parent is gone.
    """

    def __init__(
        self,
        app: FastAPI,
        config: uvicorn.Config,
        on_ready: Callable[[], object],
        *,
        parent: int | None = None,
    ) -> None:
        super().__init__(config)
        self._parent = parent
        self._services = services_of(app)
        self._on_ready = on_ready
        self._ends_at: float | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_ready()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self._ends_at is not None:
            if self._parent is None:
                os._exit(128 + sig)  # without waiting for anything that still runs
            return
        super().handle_exit(sig, frame)  # notes the signal, which is raised again at the end
        self.should_exit = False
        drain_s = self._services.settings.drain_s if self.started else 0
        self._ends_at = time.monotonic() + drain_s
        self._services.draining.set()
        if not drain_s:
            self._end()

    async def on_tick(self, counter: int) -> bool:
        is_orphan = self._parent is not None and os.getppid() != self._parent
        if self._ends_at is not None and (is_orphan or time.monotonic() >= self._ends_at):
            self._end()
        return await super().on_tick(counter)

    def _end(self) -> None:
        self._services.closing.set()
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._services.closing.set()
        listening.drop_new_connections(sockets or [])
        await asyncio.sleep(LINGER_S)
        await super().shutdown(sockets)


def run(
    settings: Settings,
    listeners: Listeners,
    on_ready: Callable[[], object],
    *,
    parent: int | None = None,
) -> None:
    """Serve until a signal; exits with status 3 if the application cannot start.

    Raises `DeviceError` if the device in the settings is missing, `TracingError`.
    """
    logs.configure(settings, "server")
    tracing.start("server")
    app = create_app(settings)
    with suppress(KeyboardInterrupt):
        served = config(app, log_config=None, timeout_graceful_shutdown=settings.grace_s)
        Server(app, served, on_ready, parent=parent).run(listeners)


def config(app: FastAPI, **options: Any) -> uvicorn.Config:
    """uvicorn's configuration for an app of `create_app`, which logs its requests itself.

    Other ASGI servers can run the app too, without the fast path and `SECURITY_HEADERS`.
    """
    own = {
        "http": protocol(app),
        "timeout_keep_alive": KEEP_ALIVE_S,
        "access_log": False,
        "server_header": False,
        "headers": list(SECURITY_HEADERS.items()),
    }
    return uvicorn.Config(app, **{**own, **options})
