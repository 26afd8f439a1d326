"""One server process: uvicorn with the application, on sockets that are bound already."""

import asyncio
import gc
import os
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from types import FrameType
from typing import Any

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from perceptd.models import tracing
from perceptd.service import logging as logs
from perceptd.service import sockets as listening
from perceptd.service.api.middleware import SECURITY_HEADERS
from perceptd.service.api.services import Services, services_of
from perceptd.service.app import create_app
from perceptd.service.settings import Settings
from perceptd.service.sockets import Listeners
from perceptd.service.wire.connections import protocol
from perceptd.service.wire.guard import Guard

# Longer than clients keep an idle connection (httpx 5 s, proxies 60 s): if the server closed first,
# a request might be on its way.
KEEP_ALIVE_S = 75
# Before connections are closed: waiting ones are accepted, accepted ones send their request, and a
# parent that got the same signal says so.
LINGER_S = 0.25
OTHER_FILES = 256  # that a process opens besides its connections
MAX_ACCEPTED = 64  # connections before a batch, so that other work gets its turn


@dataclass(frozen=True)
class Family:
    """The processes of a server: their parent, whether it ends all, and the others' sockets."""

    parent: int
    is_ending: threading.Event
    siblings: Listeners


class Server(uvicorn.Server):
    """A server that reports when it is ready, and ends without losing a request.

    After a signal to end, it reports that it is not ready and serves on for `PERCEPTD_DRAIN_S`.
    Then it ends its streams, accepts the connections that are waiting, and answers every request
    that was sent with `connection: close`. A second signal ends it at once.

    In a `family`, the parent handles the second signal, and the process ends when the parent is
    gone. A process accepts what waits at its siblings' sockets. If it ends alone, they accept what
    waits at its own.
    """

    def __init__(
        self,
        app: FastAPI,
        config: uvicorn.Config,
        on_ready: Callable[[], object],
        *,
        family: Family | None = None,
    ) -> None:
        super().__init__(config)
        self._family = family
        self._siblings = family.siblings if family else []
        self._accepted: set[asyncio.Task[None]] = set()
        self._services = services_of(app)
        self._guard: Guard = config.http.guard  # type: ignore[union-attr] # `config` gave it one
        self._on_ready = on_ready
        self._ends_at: float | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._services.arrivals.listen(sockets or [], self._accept)
        gc.freeze()  # what was loaded stays: a collection of all garbage took 50 ms
        self._on_ready()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self._ends_at is not None:
            if self._family is None:
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
        is_orphan = self._family is not None and os.getppid() != self._family.parent
        if self._ends_at is not None and (is_orphan or time.monotonic() >= self._ends_at):
            self._end()
        self._accept(self._siblings)
        return await super().on_tick(counter)

    def _end(self) -> None:
        self._services.closing.set()
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._services.closing.set()
        listeners = [*(sockets or []), *self._siblings]
        if self._ends_alone():
            await asyncio.sleep(LINGER_S)
        if self._ends_alone():
            for server in self.servers:
                server.close()
        else:
            listening.drop_new_connections(listeners)
            self._accept(self._siblings)
        await asyncio.sleep(LINGER_S)
        await super().shutdown(listeners)

    def _ends_alone(self) -> bool:
        return self._family is not None and not self._family.is_ending.is_set()

    def _accept(self, listeners: Listeners) -> None:
        """Accept what waits at these sockets: more at once than the event loop does, or what a
        stopped or dead sibling leaves waiting. Where there is no room, they wait on.
        """
        room = max(min(self._guard.room, MAX_ACCEPTED), 0)
        for connection in islice(listening.waiting(listeners), room):
            task = asyncio.create_task(self._serve_connection(connection))
            self._accepted.add(task)
            task.add_done_callback(self._accepted.discard)

    async def _serve_connection(self, connection: socket.socket) -> None:
        with suppress(OSError):  # its client has left, or cannot agree on TLS
            await asyncio.get_running_loop().connect_accepted_socket(
                self._protocol, connection, ssl=self.config.ssl
            )

    def _protocol(self) -> asyncio.Protocol:
        return self.config.http_protocol_class(  # type: ignore[call-arg] # as uvicorn does
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )


def run(
    settings: Settings,
    listeners: Listeners,
    on_ready: Callable[[], object],
    *,
    family: Family | None = None,
) -> None:
    """Serve until a signal; exits with status 3 if the application cannot start.

    Raises `DeviceError` if the device in the settings is missing, `TracingError`.
    """
    logs.configure(settings, "server")
    tracing.start("server")
    app = create_app(settings)
    with suppress(KeyboardInterrupt):
        served = config(
            app,
            log_config=None,
            timeout_graceful_shutdown=settings.grace_s,
            ssl_certfile=settings.tls_cert,
            ssl_keyfile=settings.tls_key,
        )
        Server(app, served, on_ready, family=family).run(listeners)
    logs.flush()


def config(app: FastAPI, **options: Any) -> uvicorn.Config:
    """uvicorn's configuration for an app of `create_app`, which logs its requests itself.

    Other ASGI servers can run the app too, without the limits on connections and without
    `SECURITY_HEADERS`.
    """
    services = services_of(app)
    own = {
        "http": protocol(guard(services), http(services.settings)),
        "timeout_keep_alive": KEEP_ALIVE_S,
        "interface": "asgi3",
        "proxy_headers": False,  # `Predictions` reads them, where there are any
        "access_log": False,
        "server_header": False,
        "headers": list(SECURITY_HEADERS.items()),
    }
    stack: Any = app.middleware_stack
    return uvicorn.Config(stack, **{**own, **options})


def guard(services: Services) -> Guard:
    """Limits this process to as many connections as the settings say and the system has files."""
    settings = services.settings
    room = max(min(settings.max_connections, listening.max_open_files() - OTHER_FILES), 1)
    shared = (settings, services.metrics, services.closing, services.arrivals)
    return Guard(*shared, room, KEEP_ALIVE_S)


def http(settings: Settings) -> type[asyncio.Protocol]:
    """uvicorn's protocol: of HTTP/1.1, or the one that finds out whether a client speaks HTTP/2."""
    if not settings.http2:
        return AutoHTTPProtocol
    from uvicorn.protocols.http.auto_zttp_impl import AutoZttpProtocol  # of an optional package

    return AutoZttpProtocol
