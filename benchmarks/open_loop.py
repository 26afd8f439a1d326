"""Requests at a given rate, whether or not earlier ones were answered.

A request without an answer within its timeout is lost, and its client closes the connection, as
real clients do. Latencies count from the time a request was due, so that a generator or a server
that falls behind does not look faster than it is.
"""

import asyncio
import random
import time
from asyncio import StreamReader, StreamWriter
from contextlib import suppress
from dataclasses import dataclass, field

import uvloop

from benchmarks.closed_loop import END_OF_HEAD, LENGTH
from benchmarks.load import Call

MAX_REQUESTS = 4000  # at once; more are lost
TOO_MANY = b"429"


@dataclass
class Seen:
    """What the clients saw after the warm-up."""

    seconds: float
    offered: int = 0
    refused: int = 0
    latencies: list[float] = field(default_factory=list)  # of good answers, in seconds

    @property
    def goodput(self) -> float:
        return len(self.latencies) / self.seconds

    @property
    def lost(self) -> int:
        return self.offered - self.refused - len(self.latencies)


class Clients:
    """As many clients as have a request without an answer, with one connection each."""

    def __init__(self, port: int, call: Call, timeout_s: float) -> None:
        self._port, self._message, self._timeout_s = port, call.message, timeout_s
        self._idle: list[tuple[StreamReader, StreamWriter]] = []

    def run(self, rate: float, warm_s: float, seconds: float, seed: int) -> Seen:
        """Send `rate` requests per second on average, at independent random times."""
        return uvloop.run(self._run(rate, warm_s, seconds, random.Random(seed)))

    async def _run(self, rate: float, warm_s: float, seconds: float, chance: random.Random) -> Seen:
        seen, asking = Seen(seconds), set[asyncio.Task[None]]()
        due = time.perf_counter()
        start, end = due + warm_s, due + warm_s + seconds
        while due < end:
            while due <= time.perf_counter():
                seen.offered += due >= start
                if len(asking) < MAX_REQUESTS:
                    noted = seen if due >= start else Seen(seconds)
                    task = asyncio.create_task(self._ask(due, noted))
                    asking.add(task)
                    task.add_done_callback(asking.discard)
                due += chance.expovariate(rate)
            await asyncio.sleep(0.001)
        await asyncio.gather(*asking)
        for _, writer in self._idle:
            writer.close()
        return seen

    async def _ask(self, due: float, seen: Seen) -> None:
        """Send a request; it is lost unless its answer comes in time."""
        late_s = time.perf_counter() - due
        with suppress(TimeoutError, OSError, EOFError):
            async with asyncio.timeout(self._timeout_s - late_s):
                status = await self._status()
            if status == b"200":
                seen.latencies.append(time.perf_counter() - due)
            seen.refused += status == TOO_MANY

    async def _status(self) -> bytes:
        if self._idle:
            reader, writer = self._idle.pop()
        else:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            writer.write(self._message)
            head = await reader.readuntil(END_OF_HEAD)
            length = LENGTH.search(head)
            assert length, head
            await reader.readexactly(int(length[1]))
        except BaseException:
            writer.transport.abort()
            raise
        self._idle.append((reader, writer))
        return head[9:12]
