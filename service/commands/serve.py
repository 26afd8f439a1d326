"""`perceptd serve`: the server processes, and the workers beside them."""

import logging
import os
import signal
import socket
import sys
import threading
from contextlib import AbstractContextManager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from typing import Any

import click

from perceptd.models import tracing
from perceptd.service import logging as logs
from perceptd.service import server, sockets, tls
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
from perceptd.service.server import Family
from perceptd.service.settings import Settings, option_and_variable_of, variable_of
from perceptd.service.sockets import Listeners
from perceptd.service.supervisor import KillChildren, Program, Supervisor
from perceptd.service.telemetry.metric_store import EXITED_PID, MetricStore
from perceptd.service.telemetry.metrics import FOLDER
from perceptd.service.worker.process import cores

FILE = click.Path(path_type=Path)
ENDING = (signal.SIGTERM, signal.SIGINT)
SELF = (sys.executable, "-P", "-m", "perceptd")
WORKER = Program("worker", (*SELF, "worker", "--stop-on-eof"))
MORE_S = 10.0  # a child may take so long to end after the time for its requests
MAX_PORT = 65_535
MAX_PROCESSES = 4  # by default: each process has its own copy of every model

log = logging.getLogger("perceptd")


@click.command()
@click.option("--host", help="Address to listen on.  [default: 127.0.0.1]")
@click.option("--port", type=int, help="Port to listen on.  [default: PORT or 8000]")
@click.option("--uds", type=FILE, help="UNIX socket to listen on instead of a port.")
@click.option("--tls-cert", type=FILE, help="Certificate for HTTPS, as PEM.")
@click.option("--tls-key", type=FILE, help="Its private key, as PEM.")
@click.option("--http2", is_flag=True, default=None, help="Speak HTTP/2 too.")
@DATA_DIR
@click.option("--device", help="auto, cpu, cuda or mps.  [default: auto]")
@click.option("--runtime", help="auto, onnx or torch.  [default: auto]")
@click.option(
    "--processes", type=int, help="Server processes on the port.  [default: one per core, up to 4]"
)
@click.option("--listen-fd", "own", type=int, multiple=True, hidden=True)
@click.option("--sibling-fd", "siblings", type=int, multiple=True, hidden=True)
def serve(own: tuple[int, ...], siblings: tuple[int, ...], **overrides: Any) -> None:
    """Serve the models of the store; a new store gets the shipped models."""
    if overrides["port"] is None:
        overrides["port"] = port_of_platform()
    settings = read_settings(**overrides)
    if own:
        answer_as_a_child(settings, inherited(own), inherited(siblings))
        return
    tracing.check()
    tls.check(settings)
    check_http2(settings)
    device, _ = runtimes.pick(settings)
    processes = settings.processes or default_processes(device)
    workers = settings.workers
    if workers is None:
        workers = 1 if find_spec("torch") else 0
    environment = {**os.environ, **as_environment(overrides), **credentials.environment(settings)}
    settings = credentials.hashed(settings)  # from here on, only the hashes are known
    with bound(settings, processes) as groups:
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


def port_of_platform() -> int | None:
    """The port in `PORT`, which platforms set, unless `PERCEPTD_PORT` is set.

    Raises `UsageError`.
    """
    given = os.environ.get("PORT")
    if not given or variable_of("port") in os.environ:
        return None
    if given.isdecimal() and int(given) <= MAX_PORT:
        return int(given)
    raise click.UsageError(f"PORT: expected a whole number up to {MAX_PORT}, got {given!r}")


def check_http2(settings: Settings) -> None:
    """Raises `UsageError` if HTTP/2 is asked for and its package is not installed."""
    if settings.http2 and not find_spec("zttp"):
        name = option_and_variable_of("http2")
        raise click.UsageError(f"{name} needs a package: pip install 'perceptd[http2]'")


def bound(settings: Settings, processes: int) -> AbstractContextManager[list[Listeners]]:
    """The sockets of so many processes."""
    if settings.uds:
        return sockets.bound_to_file(settings.uds, processes)
    return sockets.bound(settings.host, settings.port, processes)


def check_protected(settings: Settings) -> None:
    """Raises `UsageError` if predictions would be open to a network without permission."""
    if settings.is_local or settings.open_predictions or settings.predict_token:
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
    children = [child(listeners, groups, end_s) for listeners in groups]
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


def child(listeners: Listeners, groups: list[Listeners], end_s: float) -> Program:
    """A `perceptd serve` process that answers on these sockets, one of the groups."""
    own = [listener.fileno() for listener in listeners]
    siblings = {listener.fileno() for group in groups for listener in group} - set(own)
    options = [f"--listen-fd={descriptor}" for descriptor in own]
    options += [f"--sibling-fd={descriptor}" for descriptor in sorted(siblings)]
    command = (*SELF, "serve", *options)
    return Program("server process", command, [*own, *siblings], reports_ready=True, end_s=end_s)


def inherited(descriptors: tuple[int, ...]) -> Listeners:
    listeners = [socket.socket(fileno=descriptor) for descriptor in descriptors]
    for listener in listeners:
        listener.setblocking(False)
    return listeners


def answer_as_a_child(settings: Settings, listeners: Listeners, siblings: Listeners) -> None:
    """Serve on inherited sockets, tell the parent when ready, and end when the parent does.

    A child that gets a signal ends in order: only the parent kills it.
    """
    family = Family(os.getppid(), threading.Event(), siblings)

    def end_with_parent() -> None:
        wait_for_end_of_input()
        family.is_ending.set()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=end_with_parent, daemon=True).start()
    server.run(settings, listeners, tell_ready, family=family)


def as_environment(options: dict[str, Any]) -> dict[str, str]:
    """The given options as environment variables."""
    given = {name: value for name, value in options.items() if value is not None}
    return {variable_of(name): str(value) for name, value in given.items()}


def say_where(settings: Settings, groups: list[Listeners]) -> None:
    count = f"{len(groups)} processes" if len(groups) > 1 else "1 process"
    address = address_of(settings, groups[0])
    log.info("perceptd serves on %s (%s; CTRL+C ends it)", address, count)


def address_of(settings: Settings, listeners: Listeners) -> str:
    if settings.uds:
        return f"unix:{settings.uds}"
    scheme = "https" if settings.tls_cert else "http"
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return f"{scheme}://{host}:{listeners[0].getsockname()[1]}"
