"""One process that answers: uvicorn with the application, on sockets that were bound before."""

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

# Longer than clients keep an idle connection (httpx 5 s, proxies 60): a server that closes first
# may do so while a request is on its way.
KEEP_ALIVE_S = 75


LINGER_S = 0.25  # in which those who are busy hear that the server ends, and who waits is let in


class Server(uvicorn.Server):
    """A server that says when it answers, and ends without losing a request.

    Asked to end, it is not ready any more, and for `PERCEPTD_DRAIN_S` goes on as before. Then it
    ends the streams that it sends, lets in who has connected already, and answers whatever was
    sent, with the word that the connection closes. Asked once more, it ends at once; but one that
    has a parent leaves that to it, and goes on no longer than that is there.
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
                os._exit(128 + sig)  # whatever still runs, and whoever waits for it
            return
        super().handle_exit(sig, frame)  # notes the signal, which is raised again at the end
        self.should_exit = False
        drain_s = self._services.settings.drain_s if self.started else 0
        self._ends_at = time.monotonic() + drain_s
        self._services.draining.set()
        if not drain_s:
            self._end()

    async def on_tick(self, counter: int) -> bool:
        is_alone = self._parent is not None and os.getppid() != self._parent
        if self._ends_at is not None and (is_alone or time.monotonic() >= self._ends_at):
            self._end()
        return await super().on_tick(counter)

    def _end(self) -> None:
        self._services.closing.set()
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._services.closing.set()
        listening.hold_off(sockets or [])
        await asyncio.sleep(LINGER_S)
        await super().shutdown(sockets)


def run(
    settings: Settings,
    listeners: Listeners,
    on_ready: Callable[[], object],
    *,
    parent: int | None = None,
) -> None:
    """Serve until told to end by a signal; exits with 3 where the application cannot start.

    A second signal ends the process at once, unless that is for its parent to do.

    Raises `DeviceError` where the device asked for is not here, `TracingError`.
    """
    logs.configure(settings, "server")
    tracing.start("server")
    app = create_app(settings)
    with suppress(KeyboardInterrupt):
        served = config(app, log_config=None, timeout_graceful_shutdown=settings.grace_s)
        Server(app, served, on_ready, parent=parent).run(listeners)


def config(app: FastAPI, **options: Any) -> uvicorn.Config:
    """uvicorn's options for an app of `create_app`, which logs its requests itself.

    Any other ASGI server serves it as well, predictions slower, and without `SECURITY_HEADERS`.
    """
    own = {
        "http": protocol(app),
        "timeout_keep_alive": KEEP_ALIVE_S,
        "access_log": False,
        "server_header": False,
        "headers": list(SECURITY_HEADERS.items()),
    }
    return uvicorn.Config(app, **{**own, **options})
