"""Clients that each send the next request once the last one is answered, over raw sockets.

A latency runs from the first try to send a request to the last byte of its answer. It includes the
opening of a connection, for the first request of a connection and for each one with `call.close`.
Every request that was begun counts, also those still under way at the end.
"""

import re
import select
import socket
import time
from contextlib import suppress
from dataclasses import dataclass, field

from benchmarks.load import Call, Load, percentile_ms

LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
END_OF_HEAD = b"\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"
TIMEOUT_S = 10.0
READ_BYTES = 2**18


@dataclass
class Seen:
    """What the clients saw after the warm-up: seconds from the first try to the last byte."""

    seconds: float
    latencies: list[float] = field(default_factory=list)  # of good answers
    in_time: int = 0  # good answers before the end
    errors: int = 0

    def note(self, status: bytes, seconds: float, *, in_time: bool) -> None:
        if status[:1] in b"23":
            self.latencies.append(seconds)
            self.in_time += in_time
        else:
            self.errors += 1

    @property
    def load(self) -> Load:
        p50, p99 = (percentile_ms(self.latencies, percent) for percent in (50, 99))
        return Load(self.in_time / self.seconds, p50, p99, self.errors)


class Client:
    """One connection at a time, with one request at a time."""

    def __init__(self, address: tuple[str, int], call: Call, poll: select.epoll) -> None:
        self._address, self._poll = address, poll
        self._message, self._closes = call.message, call.close
        self._socket: socket.socket | None = None
        self._unsent, self._answer = memoryview(b""), b""
        self.began = 0.0

    def begin(self, clients: dict[int, "Client"]) -> None:
        """Send a request, over a new connection if there is none."""
        self.began = time.perf_counter()
        self._unsent, self._answer = memoryview(self._message), b""
        if self._socket:
            with suppress(OSError):  # comes again with the next event
                self.go_on()
            return
        self._socket = socket.socket()
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.connect_ex(self._address)
        clients[self._socket.fileno()] = self
        self._poll.register(self._socket, select.EPOLLOUT)

    def go_on(self) -> bytes | None:
        """Send or receive what is possible. The status of the answer once it has arrived whole.

        Raises `OSError` if the connection ends before.
        """
        assert self._socket
        if self._unsent:
            with suppress(BlockingIOError):
                self._unsent = self._unsent[self._socket.send(self._unsent) :]
            self._poll.modify(self._socket, select.EPOLLOUT if self._unsent else select.EPOLLIN)
            return None
        received = self._socket.recv(READ_BYTES)
        self._answer += received
        if not is_whole(self._answer):
            if not received:
                raise ConnectionResetError
            return None
        if self._closes:
            self.close()
        return self._answer[9:12]

    def close(self) -> None:
        if self._socket:
            self._socket.close()
            self._socket = None


def is_whole(answer: bytes) -> bool:
    head, found, body = answer.partition(END_OF_HEAD)
    if not found:
        return False
    length = LENGTH.search(head)
    return len(body) >= int(length[1]) if length else body.endswith(LAST_CHUNK)


def run(port: int, call: Call, connections: int, seconds: float, warm_s: float = 0) -> Seen:
    """Load the server on this port of this machine."""
    seen, clients = Seen(seconds), dict[int, Client]()
    start = time.perf_counter() + warm_s
    end = start + seconds
    with select.epoll() as poll:
        busy = {Client(("127.0.0.1", port), call, poll) for _ in range(connections)}
        for client in busy:
            client.begin(clients)
        while busy and time.perf_counter() < end + TIMEOUT_S:
            for number, _ in poll.poll(0.1):
                client = clients[number]
                try:
                    status = client.go_on()
                except OSError:
                    client.close()
                    status = b"none"
                if status is None:
                    continue
                now = time.perf_counter()
                if client.began >= start:
                    seen.note(status, now - client.began, in_time=now < end)
                if now < end:
                    client.begin(clients)
                else:
                    client.close()
                    busy.discard(client)
        for client in busy:
            client.close()
    seen.errors += len(busy)
    return seen
