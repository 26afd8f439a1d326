"""The servers that the benchmarks start: pinned, waited for, weighed, and ended for certain."""

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
PATIENCE_S = 120.0  # until a server is ready
END_S = 10.0  # until one that was asked to end is killed


class ServerError(Exception):
    """A server that did not start, died, or answered wrongly."""


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
    """A process while the block runs; after it, neither the process nor a descendant is left.

    `core` is the one processor that the whole tree may use, `folder` where it runs. The process
    has a group of its own, so that Ctrl-C reaches this program alone, which then ends it.
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
    """Ask a process to end, then kill what is left of its tree."""
    members = []
    for pid in tree(process.pid):
        with suppress(ProcessLookupError):
            members.append(os.pidfd_open(pid))  # stays with the process, whoever gets its number
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(END_S)
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
    """A process tree that is given no time while the block runs."""
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
    """Wait until `ready`. Raises `ServerError` where the process ends, or too much time passes."""
    deadline = time.monotonic() + PATIENCE_S
    while not ready():
        if process.poll() is not None:
            raise ServerError(f"it ended with {process.returncode}")
        if time.monotonic() > deadline:
            raise ServerError(f"not ready within {PATIENCE_S:.0f} s")
        time.sleep(0.005)


def alone(store: Path, port: int = PORT) -> dict[str, str]:
    """The environment of a perceptd that is one process and writes nothing per request."""
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
    """One process that serves a store and is ready, and a worker; its output can be read."""
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
    """Resident memory of a process tree.

    Of one process it is what the system calls resident. What processes of the tree share counts
    once: a page of a file for all that map it, memory inherited by a fork by its proportional
    share. What they share with strangers counts in full, so that no server looks smaller because
    another runs beside it.
    """
    own = 0
    files: dict[tuple[str, ...], int] = {}
    for member in tree(pid):
        with suppress(FileNotFoundError, ProcessLookupError):
            for place, sizes in mappings(Path(f"/proc/{member}/smaps").read_text()):
                if place[-1] == "0":  # no file
                    own += sizes["Pss"]
                    continue
                private = sizes["Private_Clean"] + sizes["Private_Dirty"]
                own += private
                files[place] = max(files.get(place, 0), sizes["Rss"] - private)
    return (own + sum(files.values())) / 1000


def mappings(smaps: str) -> Iterator[tuple[tuple[str, ...], dict[str, int]]]:
    """Each mapping of `/proc/PID/smaps`: its offset, device and inode; its sizes in kB."""
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
