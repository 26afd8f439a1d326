"""Listening sockets of all processes of a server, on one port."""

import ctypes
import socket
import struct
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import chain

SO_ATTACH_FILTER, SO_DETACH_FILTER = 26, 27  # on Linux
# A BPF program that drops TCP packets with the SYN flag and accepts all others.
DROP_SYN = ((0x30, 0, 0, 13), (0x45, 0, 1, 0x02), (0x06, 0, 0, 0), (0x06, 0, 0, 0xFFFF_FFFF))

Listeners = list[socket.socket]  # of one process: one per address of the host


@contextmanager
def bound(host: str, port: int, processes: int) -> Iterator[list[Listeners]]:
    """Sockets for each of so many processes, all on one port; port 0 is any free one.

    On Linux each process has its own sockets, and the kernel spreads connections evenly over them:
    with a shared one, the process that wakes first takes most of a burst. Elsewhere they share.

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


def drop_new_connections(listeners: Listeners) -> None:
    """Drop new SYNs so that the accept queue can be drained before close.

    Closing a listener resets the connections in its queue, whose clients may have sent requests. A
    client whose SYN is dropped repeats it after a second and is refused then. Only on Linux.
    """
    if sys.platform != "linux":
        return
    code = b"".join(struct.pack("HBBI", *instruction) for instruction in DROP_SYN)
    program = ctypes.create_string_buffer(code)
    given = struct.pack("@HP", len(DROP_SYN), ctypes.addressof(program))
    for listener in listeners:
        with suppress(OSError):  # a kernel without BPF
            listener.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, given)


def accept_new_connections(listeners: Listeners) -> None:
    """Undo `drop_new_connections`."""
    if sys.platform == "linux":
        for listener in listeners:
            with suppress(OSError):  # no filter is attached
                listener.setsockopt(socket.SOL_SOCKET, SO_DETACH_FILTER, 0)


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
