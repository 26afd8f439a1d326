"""`perceptd serve`: the server, and its workers beside it."""

import signal
import sys
from contextlib import suppress
from importlib.util import find_spec
from types import FrameType
from typing import Any

import click
import uvicorn
from fastapi import FastAPI

from service.app import create_app
from service.commands.common import DATA_DIR, log_config, opened_store, read_settings
from service.server import config
from service.supervisor import Supervisor

STARTUP_FAILED = 3  # as uvicorn's own exit status


class Server(uvicorn.Server):
    """A server that ends the streams it sends before it waits for its connections to end."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        app = self.config.app
        assert isinstance(app, FastAPI)  # noqa: S101 - what `serve` gives it
        app.state.closing.set()
        super().handle_exit(sig, frame)


@click.command()
@click.option("--host", help="Address to listen on.  [default: 127.0.0.1]")
@click.option("--port", type=int, help="Port to listen on.  [default: 8000]")
@DATA_DIR
@click.option("--device", help="auto, cpu, cuda or mps.  [default: auto]")
@click.option("--runtime", help="auto, onnx or torch.  [default: auto]")
def serve(**overrides: Any) -> None:
    """Serve the models of the store; a new store is given the shipped ones."""
    settings = read_settings(**overrides)
    with opened_store(settings):
        pass  # a store that cannot be used ends in a sentence here, not in the server's traceback
    configuration = config(
        create_app(settings),
        host=settings.host,
        port=settings.port,
        log_config=log_config(settings.log_level),
        access_log=settings.access_log,
    )
    workers = settings.workers
    if workers is None:
        workers = 1 if find_spec("torch") else 0
    server = Server(configuration)
    # uvicorn raises it once more when it has ended; the workers are to end as well.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with Supervisor(settings, workers), suppress(KeyboardInterrupt):
        server.run()
    if not server.started:
        sys.exit(STARTUP_FAILED)
