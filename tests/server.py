"""Real servers, in a thread of the tests or as a process, asked over real HTTP."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import uvicorn

from perceptd.service.app import create_app
from perceptd.service.server import config
from perceptd.service.settings import Settings
from perceptd.service.store import db
from perceptd.service.worker.worker import Worker

ESTABLISHED = "01"  # as the kernel writes it


class _Server(uvicorn.Server):
    """A server that says when it listens, and on which port."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            await super().startup(sockets)
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


def unread(url: str) -> int:
    """How many bytes have come to a server that it has not read; nobody need ask it for that."""
    port = f":{urlsplit(url).port:04X}"
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(
        int(queues.partition(":")[2], 16)
        for _, local, _, state, queues, *_ in rows
        if local.endswith(port) and state == ESTABLISHED
    )


@contextmanager
def running(settings: Settings, **options: Any) -> Iterator[httpx.Client]:
    """A client of a server with these settings, on a free port of loopback."""
    served = config(create_app(settings), port=0, log_level="warning", **options)
    with listening(served) as url, httpx.Client(base_url=url, timeout=30) as client:
        yield client


@contextmanager
def listening(config: uvicorn.Config) -> Iterator[str]:
    """The address of a server in a thread."""
    server = _Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        assert server.listening.wait(60)
        assert server.started, "the server did not start"
        yield f"http://127.0.0.1:{server.port}"
    finally:
        server.should_exit = True
        thread.join()


@contextmanager
def serving(
    data_dir: Path, port: int = 0, environment: Mapping[str, str] | None = None
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server without workers as a process that can be killed, and its address.

    One process, unless the environment asks for more.
    """
    command = [sys.executable, "-m", "perceptd", "serve", "--port", str(port)]
    variables = {
        "PERCEPTD_DATA_DIR": str(data_dir),
        "PERCEPTD_PROCESSES": "1",
        "PERCEPTD_WORKERS": "0",
        **(environment or {}),
    }
    with subprocess.Popen(
        command,
        env={**os.environ, **variables},
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stderr
        try:
            for line in process.stderr:
                if found := re.search(r"perceptd serves on (http://[\d.]+:\d+)", line):
                    yield process, found[1]
                    break
            else:
                pytest.fail("the server did not start")
        finally:
            process.send_signal(signal.SIGTERM)


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
