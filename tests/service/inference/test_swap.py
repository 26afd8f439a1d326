"""Versions are promoted and rolled back while requests come in, in a server process of its own."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from perceptd.models.checkpoint import read
from perceptd.service.auth import credentials
from perceptd.service.commands.common import opened_store
from perceptd.service.schemas.requests import example_of
from perceptd.service.settings import Settings
from perceptd.service.store.repository import PRETRAINED
from tests.server import free_port

MODEL = "mnist-cnn"
CONNECTIONS = 32
SWAPS = 100
VERSIONS = 8  # more than a server keeps loaded, so that each swap loads one and drops another
SETTLED = 40  # swaps after which memory must stay what it is


@dataclass
class Record:
    """What was asked and answered, and what was production when, in seconds of one clock."""

    answers: list[tuple[float, float, int]] = field(
        default_factory=list
    )  # asked, answered, version
    failures: list[str] = field(default_factory=list)
    reigns: list[tuple[float, int]] = field(default_factory=list)  # earliest start, version
    ends: list[float] = field(default_factory=list)  # latest end of each reign
    memory: list[int] = field(default_factory=list)  # bytes, after each swap

    def was_production(self, asked: float, answered: float, version: int) -> bool:
        """Whether that version may have been production at some time of a request."""
        return any(
            reigning == version and start <= answered and asked <= end
            for (start, reigning), end in zip(self.reigns, [*self.ends, float("inf")], strict=True)
        )


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, int, str]]:
    """Address, process id and admin token of a server whose store has versions of a model."""
    settings = Settings(data_dir=tmp_path)
    with opened_store(settings) as repository:
        for _ in range(1, VERSIONS):
            repository.register(PRETRAINED / MODEL)
    assert settings.max_pinned_versions < VERSIONS - 1
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "perceptd", "serve"],
        env={
            **os.environ,
            "PERCEPTD_DATA_DIR": str(tmp_path),
            "PERCEPTD_PORT": str(port),
            "PERCEPTD_PROCESSES": "1",
            "PERCEPTD_WORKERS": "0",
            "PERCEPTD_ACCESS_LOG": "0",
        },
    )
    url = f"http://127.0.0.1:{port}"
    try:
        while process.poll() is None:
            try:
                if httpx.get(f"{url}/health/ready", trust_env=False).is_success:
                    break
            except httpx.TransportError:
                time.sleep(0.05)
        yield url, process.pid, credentials.admin_token(settings).get_secret_value()
    finally:
        process.terminate()
        process.wait()


def resident_bytes(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


async def ask(client: httpx.AsyncClient, record: Record, done: asyncio.Event) -> None:
    body = example_of(MODEL, read(PRETRAINED / MODEL).spec)
    while not done.is_set():
        asked = time.monotonic()
        try:
            answer = await client.post("/predict", json=body)
            answer.raise_for_status()
            record.answers.append((asked, time.monotonic(), answer.json()["version"]))
        except httpx.HTTPError as error:
            record.failures.append(repr(error))


async def swap(url: str, pid: int, token: str) -> Record:
    """Promote one version after the other, round and round, while all connections ask."""
    record = Record(reigns=[(0.0, 1)])
    done = asyncio.Event()
    limits = httpx.Limits(max_connections=CONNECTIONS)
    headers = {"Authorization": f"Bearer {token}"}
    async with (
        httpx.AsyncClient(base_url=url, limits=limits, timeout=30, trust_env=False) as asking,
        httpx.AsyncClient(base_url=url, headers=headers, timeout=30, trust_env=False) as admin,
    ):
        load = [asyncio.create_task(ask(asking, record, done)) for _ in range(CONNECTIONS)]
        for number in range(SWAPS):
            version = (number + 1) % VERSIONS + 1
            record.reigns.append((time.monotonic(), version))
            path = f"/models/{MODEL}/aliases/production"
            (await admin.put(path, json={"version": version})).raise_for_status()
            record.ends.append(time.monotonic())
            record.memory.append(resident_bytes(pid))
        done.set()
        await asyncio.gather(*load)
    return record


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_a_hundred_swaps_under_load_fail_no_request_and_keep_no_memory(
    server: tuple[str, int, str],
) -> None:
    record = asyncio.run(swap(*server))

    assert record.failures == []
    assert len(record.answers) > SWAPS
    assert {version for _, _, version in record.answers} == set(range(1, VERSIONS + 1))
    assert [answer for answer in record.answers if not record.was_production(*answer)] == []
    settled = record.memory[SETTLED - 1]
    grown = max(abs(memory / settled - 1) for memory in record.memory[SETTLED:])
    print(f"{len(record.answers):,} answers, memory within {grown:.1%} of {settled >> 20} MB")
    assert grown < 0.1
