"""A real server in a thread of the tests, asked over real HTTP."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import uvicorn

from service import db
from service.app import create_app
from service.settings import Settings
from service.worker import Worker


class _Server(uvicorn.Server):
    """A server that says when it listens, and on which port."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = threading.Event()

    async def startup(self, *args: object, **kwargs: object) -> None:
        try:
            await super().startup(*args, **kwargs)  # type: ignore[arg-type]
        finally:
            self.listening.set()

    @property
    def port(self) -> int:
        port: int = self.servers[0].sockets[0].getsockname()[1]
        return port


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@contextmanager
def running(settings: Settings) -> Iterator[httpx.Client]:
    """A client of a server with these settings, on a free port of loopback."""
    config = uvicorn.Config(create_app(settings), port=0, log_level="warning")
    server = _Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        assert server.listening.wait(60)
        assert server.started, "the server did not start"
        with httpx.Client(base_url=f"http://127.0.0.1:{server.port}", timeout=30) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join()


@contextmanager
def workers(settings: Settings, count: int) -> Iterator[None]:
    """So many workers of a store, each in a thread with its own connection."""
    stop = threading.Event()
    databases = [db.connect(settings) for _ in range(count)]
    threads = [
        threading.Thread(target=Worker(database, settings, stop).run) for database in databases
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        for database in databases:
            database.dispose()
