"""Servers for benchmarks: start, pin to a core, wait until ready, measure the memory, end."""

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import httpx

SERVE = [sys.executable, "-m", "perceptd", "serve"]
PORT = 8790
START_TIMEOUT_S = 120.0
END_TIMEOUT_S = 10.0  # then the server is killed


class ServerError(Exception):
    """The server did not start, died, or gave a wrong answer."""


@contextmanager
def running(
    command: Sequence[str],
    environment: Mapping[str, str],
    *,
    core: int | None = None,
    folder: Path | None = None,
    output: int | IO[str] = subprocess.DEVNULL,
    errors: int | IO[str] | None = None,
) -> Iterator["subprocess.Popen[str]"]:
    """Run a process during the block, then end it and all its descendants.

    `core` is the only processor that the tree may use, `folder` its working directory. The process
    has a process group of its own: Ctrl-C reaches only this program, which then ends it.
    """
    pinned = [] if core is None else ["taskset", "--cpu-list", str(core)]
    process = subprocess.Popen(
        [*pinned, *command],
        env={**os.environ, **environment},
        cwd=folder,
        stdout=output,
        stderr=errors,
        text=True,
        process_group=0,
    )
    try:
        yield process
    finally:
        end(process)


def end(process: "subprocess.Popen[str]") -> None:
    """Terminate a process, then kill what is left of its tree."""
    members = []
    for pid in tree(process.pid):
        with suppress(ProcessLookupError):
            members.append(os.pidfd_open(pid))  # stays valid if the pid is reused
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(END_TIMEOUT_S)
    for member in members:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(member, signal.SIGKILL)
        select.select([member], [], [])  # until it has ended and its ports are free
        os.close(member)
    process.wait()


def tree(pid: int) -> Iterator[int]:
    """A process and its descendants."""
    yield pid
    with suppress(FileNotFoundError, ProcessLookupError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                yield from tree(int(child))


@contextmanager
def frozen(pid: int) -> Iterator[None]:
    """Stop a process tree during the block."""
    members = list(tree(pid))
    send(members, signal.SIGSTOP)
    try:
        yield
    finally:
        send(members, signal.SIGCONT)


def send(members: Sequence[int], number: signal.Signals) -> None:
    for member in members:
        with suppress(ProcessLookupError):
            os.kill(member, number)


def until(process: "subprocess.Popen[str]", ready: Callable[[], bool]) -> None:
    """Wait until `ready`. Raises `ServerError` if the process ends or the wait takes too long."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while not ready():
        if process.poll() is not None:
            raise ServerError(f"the server ended with exit code {process.returncode}")
        if time.monotonic() > deadline:
            raise ServerError(f"the server was not ready within {START_TIMEOUT_S:.0f} s")
        time.sleep(0.005)


def alone(store: Path, port: int = PORT) -> dict[str, str]:
    """The environment of a perceptd of one process that logs no requests."""
    return {
        "PERCEPTD_DATA_DIR": str(store),
        "PERCEPTD_PORT": str(port),
        "PERCEPTD_DEVICE": "cpu",
        "PERCEPTD_PROCESSES": "1",
        "PERCEPTD_WORKERS": "0",
        "PERCEPTD_ACCESS_LOG": "0",
        "PERCEPTD_LOG_LEVEL": "warning",
    }


@contextmanager
def perceptd(
    environment: Mapping[str, str],
    command: Sequence[str] = SERVE,
    *,
    core: int | None = None,
) -> Iterator["subprocess.Popen[str]"]:
    """A server that is ready, with an environment of `alone` or more."""
    url = f"http://127.0.0.1:{environment['PERCEPTD_PORT']}"
    with running(command, environment, core=core) as process:
        until(process, lambda: is_ready(url))
        yield process


def is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health/ready").is_success
    except httpx.TransportError:
        return False


def resident_mb(pid: int) -> float:
    """Resident memory of a process tree, in MB.

    All of the largest process, and of the others what they share with none: memory that the
    processes of a server share counts once.
    """
    resident, private = {}, {}
    for member in tree(pid):
        with suppress(FileNotFoundError, ProcessLookupError):
            lines = Path(f"/proc/{member}/smaps_rollup").read_text().splitlines()[1:]
            sizes = {name: int(size) for name, size, *_ in map(str.split, lines)}
            resident[member] = sizes["Rss:"]
            private[member] = sizes["Private_Clean:"] + sizes["Private_Dirty:"]
    largest = max(resident, key=resident.__getitem__)
    return (resident[largest] + sum(private.values()) - private[largest]) / 1000
