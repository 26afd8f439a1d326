"""Versions are promoted and rolled back under load, in a server process."""

import asyncio
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from perceptd.models.checkpoint import read
from perceptd.service.commands.common import opened_store
from perceptd.service.schemas.requests import example_of
from perceptd.service.settings import Settings
from perceptd.service.store.repository import PRETRAINED
from tests.service.admin import ADMIN, AS_ADMIN
from tests.service.served import Served

MODEL = "mnist-cnn"
CONNECTIONS = 32
SWAPS = 100
VERSIONS = 8  # more than a server keeps loaded: each swap loads one and drops another
SETTLED = 40  # swaps until memory must no longer grow


@dataclass
class Record:
    """Requests, and the versions in production. Times are by `time.monotonic`."""

    answers: list[tuple[float, float, int]] = field(default_factory=list)  # sent, answered, version
    failures: list[str] = field(default_factory=list)
    starts: list[tuple[float, int]] = field(default_factory=list)  # earliest, version
    ends: list[float] = field(default_factory=list)  # latest end of each version
    memory: list[int] = field(default_factory=list)  # bytes, after each swap

    def was_production(self, sent: float, answered: float, version: int) -> bool:
        """Whether the version can have been in production during the request."""
        return any(
            number == version and start <= answered and sent <= end
            for (start, number), end in zip(self.starts, [*self.ends, float("inf")], strict=True)
        )


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    """A server whose store has `VERSIONS` versions of a model."""
    settings = Settings(data_dir=tmp_path / "data")
    assert settings.max_pinned_versions < VERSIONS - 1
    with opened_store(settings) as repository:
        for _ in range(1, VERSIONS):
            repository.register(PRETRAINED / MODEL)
    served = Served(
        tmp_path,
        PERCEPTD_PROCESSES="1",
        PERCEPTD_WORKERS="0",
        PERCEPTD_ACCESS_LOG="0",
        PERCEPTD_ADMIN_TOKEN=ADMIN,
        PERCEPTD_MAX_QUEUE_WAIT_MS="10000",  # a slow machine refuses no request
    )
    yield served
    served.end()


def resident_bytes(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


async def ask(client: httpx.AsyncClient, record: Record, done: asyncio.Event) -> None:
    body = example_of(MODEL, read(PRETRAINED / MODEL).spec)
    while not done.is_set():
        sent = time.monotonic()
        try:
            answer = await client.post("/predict", json=body)
            answer.raise_for_status()
            record.answers.append((sent, time.monotonic(), answer.json()["version"]))
        except httpx.HTTPError as error:
            record.failures.append(repr(error))


async def swap(served: Served) -> Record:
    """Promote one version after the other while all connections ask."""
    url, pid = served.url, served.server(1)
    record = Record(starts=[(0.0, 1)])
    done = asyncio.Event()
    limits = httpx.Limits(max_connections=CONNECTIONS)
    async with (
        httpx.AsyncClient(base_url=url, limits=limits, timeout=30, trust_env=False) as asking,
        httpx.AsyncClient(base_url=url, headers=AS_ADMIN, timeout=30, trust_env=False) as admin,
    ):
        load = [asyncio.create_task(ask(asking, record, done)) for _ in range(CONNECTIONS)]
        for number in range(SWAPS):
            version = (number + 1) % VERSIONS + 1
            record.starts.append((time.monotonic(), version))
            path = f"/models/{MODEL}/aliases/production"
            (await admin.put(path, json={"version": version})).raise_for_status()
            record.ends.append(time.monotonic())
            record.memory.append(resident_bytes(pid))
        done.set()
        await asyncio.gather(*load)
    return record


@pytest.mark.reliability
@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_a_hundred_swaps_under_load_fail_no_request_and_leak_no_memory(served: Served) -> None:
    record = asyncio.run(swap(served))

    assert record.failures == []
    assert len(record.answers) > SWAPS
    assert {version for _, _, version in record.answers} == set(range(1, VERSIONS + 1))
    assert [answer for answer in record.answers if not record.was_production(*answer)] == []
    settled = record.memory[SETTLED - 1]
    grown = max(abs(memory / settled - 1) for memory in record.memory[SETTLED:])
    print(f"{len(record.answers):,} answers, memory within {grown:.1%} of {settled >> 20} MB")
    assert grown < 0.1
