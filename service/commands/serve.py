"""`perceptd serve` and `perceptd worker`: the processes that stay."""

import logging.config
import signal
import sys
import threading
from importlib.util import find_spec
from types import FrameType
from typing import Any

import click
import uvicorn
from fastapi import FastAPI

from service import auth, db
from service.app import create_app
from service.commands.common import DATA_DIR, log_config, opened_store, read_settings
from service.supervisor import Supervisor
from service.worker import Worker

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
    config = uvicorn.Config(
        create_app(settings),
        host=settings.host,
        port=settings.port,
        log_config=log_config(settings.log_level),
        access_log=settings.access_log,
    )
    workers = settings.workers
    if workers is None:
        workers = 1 if find_spec("torch") else 0
    server = Server(config)
    with Supervisor(settings, workers):
        server.run()
    if not server.started:
        sys.exit(STARTUP_FAILED)


@click.command()
@DATA_DIR
@click.option("--stop-on-eof", is_flag=True, help="End when standard input ends.")
def worker(stop_on_eof: bool, **overrides: Any) -> None:
    """Run the jobs of a store, one after the other, until told to end.

    Any number of workers may share a PostgreSQL store. A job that runs when its worker ends is
    handed back, and goes on from its last epoch on another.
    """
    settings = read_settings(**overrides)
    logging.config.dictConfig(log_config(settings.log_level))
    if not find_spec("torch"):
        raise click.UsageError("a worker needs torch: install perceptd[train]")
    with opened_store(settings):
        pass
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    if stop_on_eof:
        threading.Thread(target=_wait_for_end, args=(stop,), daemon=True).start()
    database = db.connect(settings)
    try:
        Worker(database, settings, stop).run()
    finally:
        database.dispose()


@click.command()
@DATA_DIR
def token(**overrides: Any) -> None:
    """Print the admin token; the first time, make it."""
    click.echo(auth.admin_token(read_settings(**overrides)).get_secret_value())


def _wait_for_end(stop: threading.Event) -> None:
    sys.stdin.buffer.read()
    stop.set()
