"""Open-loop load: requests arrive at a given rate, whether or not earlier ones were answered.

A request without an answer within its timeout is lost, and its client closes the connection, as
real clients do. Latencies count from the time a request was due, so that a generator or a server
that falls behind does not look faster than it is.
"""

import asyncio
import random
import re
import statistics
import time
from collections import deque
from dataclasses import dataclass, field
from typing import cast

import uvloop

from benchmarks.load import Call

LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)
END_OF_HEAD = b"\r\n\r\n"
OK, TOO_MANY = b"200", b"429"
MAX_CONNECTIONS = 4000


@dataclass
class Seen:
    """What the clients saw after the warm-up."""

    seconds: float
    offered: int = 0
    refused: int = 0
    lost: int = 0
    latencies: list[float] = field(default_factory=list)

    @property
    def goodput(self) -> float:
        return len(self.latencies) / self.seconds

    @property
    def offered_rate(self) -> float:
        return self.offered / self.seconds

    def percentile_ms(self, percent: int) -> float:
        if len(self.latencies) < 2:
            return float("nan")
        return statistics.quantiles(self.latencies, n=100)[percent - 1] * 1000


class Client(asyncio.Protocol):
    """One connection, with one request at a time."""

    def __init__(self, load: "OpenLoop") -> None:
        self.load = load
        self.due: float | None = None  # when the unanswered request was due
        self.received = b""
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's does not inherit from it
        if self.due is None:  # the client has given up in the meantime
            transport.close()
        else:
            self.transport.write(self.load.request)

    def ask(self, due: float) -> None:
        self.due = due
        if self.transport:
            self.transport.write(self.load.request)

    def data_received(self, data: bytes) -> None:
        self.received = self.received + data if self.received else data
        end = self.received.find(END_OF_HEAD)
        length = LENGTH.search(self.received, 0, end) if end > 0 else None
        if length is None or len(self.received) < end + len(END_OF_HEAD) + int(length[1]):
            return
        status, self.received = self.received[9:12], b""
        due, self.due = self.due, None
        if due is not None:
            self.load.answered(self, due, status)

    def connection_lost(self, exc: Exception | None) -> None:
        self.load.gone(self)

    def give_up(self) -> None:
        self.due = None
        if self.transport:
            self.transport.abort()
        else:
            self.load.gone(self)


class OpenLoop:
    """Requests at a rate (open loop), or one after another per connection (closed loop)."""

    def __init__(self, port: int, call: Call, timeout_s: float) -> None:
        head = (
            f"POST {call.path} HTTP/1.1\r\nHost: here\r\nContent-Type: {call.content_type}\r\n"
            f"Content-Length: {len(call.body)}\r\n\r\n"
        )
        self.request = head.encode() + call.body
        self._port = port
        self._timeout_s = timeout_s
        self._idle: list[Client] = []
        self._everyone: set[Client] = set()
        self._asked: deque[tuple[float, Client]] = deque()
        self._opening: set[asyncio.Task[None]] = set()
        self._is_closed_loop = False
        self._from = self._until = 0.0
        self._seen = Seen(1)

    def run(self, rate: float, warm_s: float, seconds: float, seed: int = 0) -> Seen:
        """Send `rate` requests per second on average, at independent random times."""
        return uvloop.run(self._at_rate(rate, warm_s, seconds, random.Random(seed)))

    def run_closed(self, connections: int, warm_s: float, seconds: float) -> Seen:
        """Send the next request of each connection as soon as its last one is answered."""
        return uvloop.run(self._closed(connections, warm_s, seconds))

    async def _at_rate(
        self, rate: float, warm_s: float, seconds: float, chance: random.Random
    ) -> Seen:
        due = self._begin(warm_s, seconds)
        while due < self._until:
            while due <= time.perf_counter():
                self._ask(due)
                due += chance.expovariate(rate)
            self._drop_late()
            await asyncio.sleep(0.001)
        return await self._end()

    async def _closed(self, connections: int, warm_s: float, seconds: float) -> Seen:
        self._is_closed_loop = True
        now = self._begin(warm_s, seconds)
        for _ in range(connections):
            self._ask(now)
        while time.perf_counter() < self._until:
            self._drop_late()
            await asyncio.sleep(0.01)
        self._is_closed_loop = False
        return await self._end()

    def _begin(self, warm_s: float, seconds: float) -> float:
        now = time.perf_counter()
        self._from, self._until = now + warm_s, now + warm_s + seconds
        self._seen = Seen(seconds)
        return now

    async def _end(self) -> Seen:
        """Wait until the remaining requests are answered or lost."""
        while self._asked:
            self._drop_late()
            await asyncio.sleep(0.01)
        for client in list(self._everyone):
            client.give_up()
        await asyncio.sleep(0.05)
        return self._seen

    def _counts(self, due: float) -> bool:
        return self._from <= due < self._until

    def _ask(self, due: float) -> None:
        self._seen.offered += self._counts(due)
        if self._idle:
            client = self._idle.pop()
            client.ask(due)
        elif len(self._everyone) < MAX_CONNECTIONS:
            client = Client(self)
            client.due = due
            self._everyone.add(client)
            task = asyncio.get_running_loop().create_task(self._open(client))
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)
        else:
            self._seen.lost += self._counts(due)
            return
        self._asked.append((due, client))

    async def _open(self, client: Client) -> None:
        try:
            await asyncio.get_running_loop().create_connection(
                lambda: client, "127.0.0.1", self._port
            )
        except OSError:
            self.gone(client)

    def answered(self, client: Client, due: float, status: bytes) -> None:
        now = time.perf_counter()
        if self._counts(due):
            if status == OK:
                self._seen.latencies.append(now - due)
            elif status == TOO_MANY:
                self._seen.refused += 1
            else:
                self._seen.lost += 1
        if self._is_closed_loop:
            self._seen.offered += self._counts(now)
            client.ask(now)
            self._asked.append((now, client))
        else:
            self._idle.append(client)

    def gone(self, client: Client) -> None:
        self._everyone.discard(client)
        if client in self._idle:
            self._idle.remove(client)
        due, client.due = client.due, None
        if due is not None:
            self._seen.lost += self._counts(due)

    def _drop_late(self) -> None:
        """Let clients give up whose request has timed out."""
        now = time.perf_counter()
        while self._asked and (self._asked[0][1].due != self._asked[0][0]):
            self._asked.popleft()  # answered
        while self._asked and now - self._asked[0][0] > self._timeout_s:
            due, client = self._asked.popleft()
            if client.due == due:
                self._seen.lost += self._counts(due)
                client.give_up()
