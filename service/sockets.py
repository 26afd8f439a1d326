"""The sockets of the one port that all processes of a server answer on."""

import ctypes
import socket
import struct
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import chain

SO_ATTACH_FILTER, SO_DETACH_FILTER = 26, 27  # of Linux
# A program for the kernel's packet filter: a packet of TCP that asks for a connection (SYN, in the
# byte of the flags) is dropped, whatever else comes is let through.
NO_NEW_ONES = ((0x30, 0, 0, 13), (0x45, 0, 1, 0x02), (0x06, 0, 0, 0), (0x06, 0, 0, 0xFFFF_FFFF))

Listeners = list[socket.socket]  # one per address that the host's name stands for


@contextmanager
def bound(host: str, port: int, processes: int) -> Iterator[list[Listeners]]:
    """Sockets for each of so many processes, all of one port; 0 is a free one.

    On Linux each process has its own, among which the kernel spreads the connections evenly: where
    all accept from one, whoever is awake first takes most of a burst. Elsewhere they share.
    Raises `OSError` where another server has the port.
    """
    with ExitStack() as opened:
        alone = _bind(opened, host, port)  # fails where a group's socket would be let in
        if processes == 1 or sys.platform != "linux":
            yield [alone] * processes
            return
        port = alone[0].getsockname()[1]
        opened.close()
        yield [_bind(opened, host, port, reuse=True) for _ in range(processes)]


def hold_off(listeners: Listeners) -> None:
    """Let nobody into the queue of connections any more, so that it can be emptied and closed.

    A listener that is closed resets the connections which wait in it, and their clients have sent
    their requests. On Linux whoever asks for one from here on is not heard, asks again after a
    second, and is refused then. Elsewhere the queue is emptied as well as may be.
    """
    if sys.platform != "linux":
        return
    code = b"".join(struct.pack("HBBI", *instruction) for instruction in NO_NEW_ONES)
    program = ctypes.create_string_buffer(code)
    given = struct.pack("@HP", len(NO_NEW_ONES), ctypes.addressof(program))
    for listener in listeners:
        with suppress(OSError):  # a kernel without such filters
            listener.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, given)


def let_in(listeners: Listeners) -> None:
    """Undo `hold_off`."""
    if sys.platform == "linux":
        for listener in listeners:
            with suppress(OSError):  # there is no filter
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
            if family == socket.AF_INET6:  # or it would take the IPv4 port as well
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listener.bind((address[0], port, *address[2:]))
            port = listener.getsockname()[1]
            listeners.append(listener)
    except OSError as error:
        told = f"cannot listen on {host}:{port}: {error.strerror}"
        raise OSError(f"{told} (--host, --port; PERCEPTD_HOST, PERCEPTD_PORT)") from error
    return listeners
