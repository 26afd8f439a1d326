"""The sockets of the one port that all processes of a server answer on."""

import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import chain

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
        raise OSError(f"cannot listen on {host}:{port}: {error.strerror}") from error
    return listeners
