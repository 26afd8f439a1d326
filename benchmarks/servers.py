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
    store: Path, command: Sequence[str] = SERVE
) -> Iterator[tuple[str, "subprocess.Popen[str]"]]:
    """A ready server of one process with a worker: its address, and the process for its output."""
    url = f"http://127.0.0.1:{PORT}"
    environment = {**alone(store), "PERCEPTD_WORKERS": "1"}
    with running(command, environment, output=subprocess.PIPE) as process:
        until(process, lambda: is_ready(url))
        yield url, process


def is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health/ready").is_success
    except httpx.TransportError:
        return False


def resident_mb(pid: int) -> float:
    """Resident memory of a process tree, in MB.

    For one process it is the system's resident set size. Memory shared within the tree counts
    once: the mapped pages of a file once for all processes, memory inherited by a fork by its
    proportional share. Memory shared with other programs counts in full, so that a server does not
    look smaller because another one runs beside it.
    """
    own = 0
    files: dict[tuple[str, ...], int] = {}
    for member in tree(pid):
        with suppress(FileNotFoundError, ProcessLookupError):
            for place, sizes in mappings(Path(f"/proc/{member}/smaps").read_text()):
                if place[-1] == "0":  # inode 0: not a file
                    own += sizes["Pss"]
                    continue
                private = sizes["Private_Clean"] + sizes["Private_Dirty"]
                own += private
                files[place] = max(files.get(place, 0), sizes["Rss"] - private)
    return (own + sum(files.values())) / 1000


def mappings(smaps: str) -> Iterator[tuple[tuple[str, ...], dict[str, int]]]:
    """Each mapping in `/proc/PID/smaps`: (offset, device, inode), and its sizes in kB."""
    place: tuple[str, ...] = ()
    sizes: dict[str, int] = {}
    for line in smaps.splitlines():
        first, *rest = line.split()
        if not first.endswith(":"):  # the head of the next one
            if place:
                yield place, sizes
            _permissions, offset, device, inode = rest[:4]
            place, sizes = (offset, device, inode), {}
        elif rest[-1] == "kB":
            sizes[first[:-1]] = int(rest[0])
    if place:
        yield place, sizes
