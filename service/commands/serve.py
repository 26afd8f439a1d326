"""`perceptd serve`: the server processes, and the workers beside them."""

import logging
import os
import signal
import socket
import sys
import threading
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from typing import Any

import click

from perceptd.models import tracing
from perceptd.service import logging as logs
from perceptd.service import server, sockets
from perceptd.service.auth import credentials
from perceptd.service.commands.common import (
    DATA_DIR,
    issued_tokens,
    opened_store,
    read_settings,
    tell_ready,
    wait_for_end_of_input,
)
from perceptd.service.inference import runtimes
from perceptd.service.inference.runtimes import Device
from perceptd.service.settings import Settings, is_loopback, variable_of
from perceptd.service.sockets import Listeners
from perceptd.service.supervisor import KillChildren, Program, Supervisor
from perceptd.service.telemetry.metric_store import EXITED_PID, MetricStore
from perceptd.service.telemetry.metrics import FOLDER
from perceptd.service.worker.process import cores

ENDING = (signal.SIGTERM, signal.SIGINT)
SELF = (sys.executable, "-P", "-m", "perceptd")
WORKER = Program("worker", (*SELF, "worker", "--stop-on-eof"))
MORE_S = 10.0  # a child may take so long to end after the time for its requests
MAX_PROCESSES = 4  # by default: each process has its own copy of every model

log = logging.getLogger("perceptd")


@click.command()
@click.option("--host", help="Address to listen on.  [default: 127.0.0.1]")
@click.option("--port", type=int, help="Port to listen on.  [default: 8000]")
@DATA_DIR
@click.option("--device", help="auto, cpu, cuda or mps.  [default: auto]")
@click.option("--runtime", help="auto, onnx or torch.  [default: auto]")
@click.option(
    "--processes", type=int, help="Server processes on the port.  [default: one per core, up to 4]"
)
@click.option("--listen-fd", "descriptors", type=int, multiple=True, hidden=True)
def serve(descriptors: tuple[int, ...], **overrides: Any) -> None:
    """Serve the models of the store; a new store gets the shipped models."""
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
    environment = {**os.environ, **as_environment(overrides), **credentials.environment(settings)}
    settings = credentials.hashed(settings)  # from here on, only the hashes are known
    with sockets.bound(settings.host, settings.port, processes) as groups:
        with opened_store(settings):
            # A store that cannot be used ends in a sentence here, not in the server's traceback.
            check_protected(settings)
        # uvicorn raises the signal again after its end; the processes beside it must end too.
        for number in ENDING:
            signal.signal(number, end)
        if processes > 1:
            serve_by_children(settings, groups, [WORKER] * workers, environment)
            return
        with Supervisor([WORKER] * workers, environment):
            server.run(settings, groups[0], partial(say_where, settings, groups))


def check_protected(settings: Settings) -> None:
    """Raises `UsageError` if predictions would be open to a network without permission."""
    if is_loopback(settings.host) or settings.open_predictions or settings.predict_token:
        return
    with issued_tokens(settings) as tokens:
        if any(token.role == "predict" for token in tokens.all()):
            return
    raise click.UsageError(
        f"PERCEPTD_HOST: listening on {settings.host} would open predictions to the network: set "
        "PERCEPTD_PREDICT_TOKEN, issue a token by `perceptd token create NAME --role predict`, or "
        "set PERCEPTD_OPEN_PREDICTIONS=1 to allow it"
    )


def end(number: int, _: FrameType | None) -> None:
    """End in order; a second signal ends at once."""
    for other in ENDING:
        signal.signal(other, end_at_once)
    sys.exit(0)


def end_at_once(number: int, _: FrameType | None) -> None:
    """Make the supervisor kill its processes instead of waiting for them."""
    raise KillChildren(128 + number)


def default_processes(device: Device) -> int:
    return min(cores(), MAX_PROCESSES) if device == "cpu" else 1


def serve_by_children(
    settings: Settings,
    groups: list[Listeners],
    workers: list[Program],
    environment: dict[str, str],
) -> None:
    """Run one server process per group of sockets, and the workers, until a signal."""
    logs.configure(settings, "supervisor")
    end_s = settings.drain_s + settings.grace_s + MORE_S
    children = [child(listeners, end_s) for listeners in groups]
    with (
        TemporaryDirectory(prefix="perceptd-metrics-") as folder,
        Supervisor(
            [*children, *workers],
            {**environment, FOLDER: folder},
            on_end=MetricStore(Path(folder), EXITED_PID).absorb,
        ) as supervisor,
    ):
        try:
            if status := supervisor.wait_until_ready():
                sys.exit(status)
            say_where(settings, groups)
            while True:
                signal.pause()
        finally:
            sockets.close(groups)  # a child that has ended then refuses connections


def child(listeners: Listeners, end_s: float) -> Program:
    """A `perceptd serve` process that answers on these sockets."""
    descriptors = [listener.fileno() for listener in listeners]
    options = [f"--listen-fd={descriptor}" for descriptor in descriptors]
    command = (*SELF, "serve", *options)
    return Program("server process", command, descriptors, reports_ready=True, end_s=end_s)


def answer_as_a_child(settings: Settings, descriptors: tuple[int, ...]) -> None:
    """Serve on inherited sockets, tell the parent when ready, and end when the parent does.

    A child that gets a signal ends in order: only the parent kills it.
    """

    def end_with_parent() -> None:
        wait_for_end_of_input()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=end_with_parent, daemon=True).start()
    listeners = [socket.socket(fileno=descriptor) for descriptor in descriptors]
    sockets.accept_new_connections(listeners)  # the process before may have blocked them
    server.run(settings, listeners, tell_ready, parent=os.getppid())


def as_environment(options: dict[str, Any]) -> dict[str, str]:
    """The given options as environment variables."""
    given = {name: value for name, value in options.items() if value is not None}
    return {variable_of(name): str(value) for name, value in given.items()}


def say_where(settings: Settings, groups: list[Listeners]) -> None:
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    port = groups[0][0].getsockname()[1]
    count = f"{len(groups)} processes" if len(groups) > 1 else "1 process"
    log.info("perceptd serves on http://%s:%d (%s; CTRL+C ends it)", host, port, count)
