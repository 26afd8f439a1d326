"""`perceptd serve`: the processes of the server, and its workers beside them."""

import logging
import os
import signal
import socket
import sys
import threading
from functools import partial
from importlib.util import find_spec
from tempfile import TemporaryDirectory
from typing import Any

import click
from prometheus_client.multiprocess import mark_process_dead

from models import tracing
from service import listening, metrics, runtimes, server
from service import logging as logs
from service.commands.common import (
    DATA_DIR,
    opened_store,
    read_settings,
    tell_ready,
    wait_for_end_of_input,
)
from service.listening import Listeners
from service.process import cores
from service.runtimes import Device
from service.settings import Settings
from service.supervisor import Program, Supervisor

SELF = (sys.executable, "-P", "-m", "service")
WORKER = Program("worker", (*SELF, "worker", "--stop-on-eof"))
MOST_PROCESSES = 4  # unless more are asked for: each has its own copy of every model

log = logging.getLogger("perceptd")


@click.command()
@click.option("--host", help="Address to listen on.  [default: 127.0.0.1]")
@click.option("--port", type=int, help="Port to listen on.  [default: 8000]")
@DATA_DIR
@click.option("--device", help="auto, cpu, cuda or mps.  [default: auto]")
@click.option("--runtime", help="auto, onnx or torch.  [default: auto]")
@click.option(
    "--processes", type=int, help="How many answer on the port.  [default: one per core, up to 4]"
)
@click.option("--listen-fd", "descriptors", type=int, multiple=True, hidden=True)
def serve(descriptors: tuple[int, ...], **overrides: Any) -> None:
    """Serve the models of the store; a new store is given the shipped ones."""
    settings = read_settings(**overrides)
    if descriptors:
        answer_as_a_child(settings, descriptors)
        return
    tracing.check()
    device, _ = runtimes.pick(settings)
    processes = settings.processes or default_processes(device)
    workers = settings.workers
    if workers is None:
        workers = 1 if find_spec("torch") else 0
    environment = {**os.environ, **as_environment(overrides)}
    with listening.bound(settings.host, settings.port, processes) as groups:
        with opened_store(settings):
            pass  # one that cannot be used ends in a sentence here, not in the server's traceback
        # uvicorn raises it once more when it has ended; what runs beside it is to end as well.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        if processes > 1:
            serve_by_children(settings, groups, [WORKER] * workers, environment)
            return
        with Supervisor([WORKER] * workers, environment):
            server.run(settings, groups[0], partial(say_where, settings, groups))


def default_processes(device: Device) -> int:
    return min(cores(), MOST_PROCESSES) if device == "cpu" else 1


def serve_by_children(
    settings: Settings,
    groups: list[Listeners],
    workers: list[Program],
    environment: dict[str, str],
) -> None:
    """Keep a process per group of sockets running, and the workers, until told to end."""
    logs.configure(settings, "supervisor")
    children = [child(listeners) for listeners in groups]
    with (
        TemporaryDirectory(prefix="perceptd-metrics-") as folder,
        Supervisor(
            [*children, *workers],
            {**environment, metrics.FOLDER: folder},
            on_end=partial(mark_process_dead, path=folder),
        ) as supervisor,
    ):
        try:
            if status := supervisor.wait_until_ready():
                sys.exit(status)
            say_where(settings, groups)
            while True:
                signal.pause()
        except KeyboardInterrupt:
            pass
        finally:
            listening.close(groups)  # from here on a child that ends refuses connections


def child(listeners: Listeners) -> Program:
    """A process of this very command that answers on those sockets."""
    descriptors = [listener.fileno() for listener in listeners]
    options = [f"--listen-fd={descriptor}" for descriptor in descriptors]
    return Program("server process", (*SELF, "serve", *options), descriptors, tells=True)


def answer_as_a_child(settings: Settings, descriptors: tuple[int, ...]) -> None:
    """Serve on inherited sockets, tell the parent when, and end when it does."""

    def end_with_parent() -> None:
        wait_for_end_of_input()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=end_with_parent, daemon=True).start()
    listeners = [socket.socket(fileno=descriptor) for descriptor in descriptors]
    server.run(settings, listeners, tell_ready)


def as_environment(options: dict[str, Any]) -> dict[str, str]:
    """The options that were given, as the variables that stand for them."""
    given = {name: value for name, value in options.items() if value is not None}
    return {f"PERCEPTD_{name.upper()}": str(value) for name, value in given.items()}


def say_where(settings: Settings, groups: list[Listeners]) -> None:
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    port = groups[0][0].getsockname()[1]
    count = f"{len(groups)} processes" if len(groups) > 1 else "1 process"
    log.info("perceptd serves on http://%s:%d (%s; CTRL+C ends it)", host, port, count)
