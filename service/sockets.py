"""Listening sockets of all processes of a server, on one port."""

import ctypes
import resource
import socket
import struct
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import chain
from pathlib import Path

from perceptd.service.settings import option_and_variable_of

SO_ATTACH_FILTER = 26  # on Linux
# A BPF program that drops TCP packets with the SYN flag and accepts all others.
DROP_SYN = ((0x30, 0, 0, 13), (0x45, 0, 1, 0x02), (0x06, 0, 0, 0), (0x06, 0, 0, 0xFFFF_FFFF))

FILE_MODE = 0o660  # the owner and the group may connect to a UNIX socket

ENOUGH_FILES = 2**20

Listeners = list[socket.socket]  # of one process: one per address of the host


@contextmanager
def bound(host: str, port: int, processes: int) -> Iterator[list[Listeners]]:
    """Sockets for each of so many processes, all on one port; port 0 is any free one.

    On Linux each process has its own sockets, and the kernel spreads connections evenly over them:
    with a shared one, the process that wakes first takes most of a burst. Elsewhere they share. A
    process inherits the sockets of the others too, to accept what one that is stopped or dead
    leaves waiting.

    Raises `OSError` if another server has the port.
    """
    with ExitStack() as opened:
        alone = _bind(opened, host, port)  # fails on a port in use, which SO_REUSEPORT could join
        if processes == 1 or sys.platform != "linux":
            yield [alone] * processes
            return
        port = alone[0].getsockname()[1]
        opened.close()
        yield [_bind(opened, host, port, reuse=True) for _ in range(processes)]


@contextmanager
def bound_to_file(path: Path, processes: int) -> Iterator[list[Listeners]]:
    """A UNIX socket that so many processes share; its file ends with the block.

    It listens at once, so a file at which nobody listens is of a server that was killed, and is
    replaced.

    Raises `OSError` if another server has the file.
    """
    with socket.socket(socket.AF_UNIX) as listener:
        try:
            _remove_stale(path)
            listener.bind(str(path))
            path.chmod(FILE_MODE)
            listener.listen()
        except OSError as error:  # of a path that is too long, Python says so without a number
            reason = f"{error.strerror or error} ({option_and_variable_of('uds')})"
            raise OSError(f"cannot listen on {path}: {reason}") from error
        try:
            yield [[listener]] * processes
        finally:
            path.unlink(missing_ok=True)


def drop_new_connections(listeners: Listeners) -> None:
    """Let nobody connect any more, so that the accept queue can be drained before close.

    Closing a listener resets the connections in its queue, whose clients may have sent requests. A
    UNIX socket loses its file. On Linux, other sockets drop new SYNs: the client repeats its SYN
    after a second and is refused then.
    """
    for listener in listeners:
        if listener.family == socket.AF_UNIX:
            Path(listener.getsockname()).unlink(missing_ok=True)
        elif sys.platform == "linux":
            _drop_syns(listener)


def _drop_syns(listener: socket.socket) -> None:
    code = b"".join(struct.pack("HBBI", *instruction) for instruction in DROP_SYN)
    program = ctypes.create_string_buffer(code)
    given = struct.pack("@HP", len(DROP_SYN), ctypes.addressof(program))
    with suppress(OSError):  # a kernel without BPF
        listener.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, given)


def _remove_stale(path: Path) -> None:
    """Remove the file of a socket at which nobody listens."""
    if not path.is_socket():
        return
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()


def waiting(listeners: Listeners) -> Iterator[socket.socket]:
    """Accept what waits at these sockets, which are non-blocking."""
    for listener in listeners:
        with suppress(OSError):  # nothing waits, or its process does not listen yet
            while True:
                connection, _ = listener.accept()
                connection.setblocking(False)
                yield connection


def close(groups: list[Listeners]) -> None:
    for listener in chain(*groups):
        listener.close()


def _bind(opened: ExitStack, host: str, port: int, *, reuse: bool = False) -> Listeners:
    listeners = []
    try:
        for family, kind, _, _, address in socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        ):
            listener = opened.enter_context(socket.socket(family, kind))
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if reuse:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if family == socket.AF_INET6:  # else it takes the IPv4 port as well
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listener.bind((address[0], port, *address[2:]))
            port = listener.getsockname()[1]
            listeners.append(listener)
    except OSError as error:
        message = f"cannot listen on {host}:{port}: {error.strerror}"
        raise OSError(f"{message} (--host, --port; PERCEPTD_HOST, PERCEPTD_PORT)") from error
    return listeners


def max_open_files() -> int:
    """Raise the limit of open files as far as the system allows, and return it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= ENOUGH_FILES:
        return ENOUGH_FILES
    for wanted in (ENOUGH_FILES, 65_536, 10_240):  # "infinity" may be more than the system allows
        wanted = wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)
        if wanted <= soft:
            break
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            return wanted
    return soft
