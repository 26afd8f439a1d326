"""Another ASGI server answers as `perceptd serve` does, as docs/serve.md says."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator

import httpx
import pytest

from perceptd.service.api.middleware import SECURITY_HEADERS
from tests.raw_http import XOR
from tests.server import free_port, serving
from tests.waiting import eventually

FACTORY = "perceptd.service.app:create_app"
OURS = {"date", "server", "x-request-id", *map(str.lower, SECURITY_HEADERS)}  # differ
FAMILY = re.compile(r"^# TYPE (.+)$", re.MULTILINE)


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    with (
        serving(tmp_path_factory.mktemp("ours")) as (_, url),
        httpx.Client(base_url=url, timeout=30) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A client of uvicorn's own command, which must end in order."""
    folder = tmp_path_factory.mktemp("other")
    port = str(free_port())
    command = [sys.executable, "-P", "-m", "uvicorn", "--factory", FACTORY, "--port", port]
    environment = {**os.environ, "PERCEPTD_DATA_DIR": str(folder / "data")}
    log = folder / "log"
    with (
        log.open("w") as lines,
        subprocess.Popen(command, env=environment, stdout=lines, stderr=lines) as process,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client,
    ):
        try:
            eventually(
                lambda: process.poll() is not None or "Uvicorn running" in log.read_text(),
                "uvicorn serves",
                log=log,
            )
            yield client
        finally:
            process.send_signal(signal.SIGTERM)
    assert "predictions need no token: set PERCEPTD_HOST" in log.read_text()
    assert "Application shutdown complete" in log.read_text()
    assert "Traceback" not in log.read_text()


@pytest.mark.parametrize(
    "body",
    [
        XOR,
        {**XOR, "dtype": "float32"},
        {"model": "xor", "inputs": [[1]]},
        {"model": "nobody", "inputs": [[1, 1]]},
    ],
    ids=["prediction", "prediction by the router", "wrong shape", "no such model"],
)
def test_predictions_and_errors_are_the_same(
    ours: httpx.Client, other: httpx.Client, body: dict[str, object]
) -> None:
    expected, answer = (client.post("/predict", json=body) for client in (ours, other))
    assert (answer.status_code, answer.content) == (expected.status_code, expected.content)
    kept = {name: value for name, value in expected.headers.items() if name not in OURS}
    assert {name: answer.headers.get(name) for name in kept} == kept


@pytest.mark.parametrize("path", ["/", "/docs", "/openapi.json", "/health/ready", "/models"])
def test_pages_and_reads_are_the_same(ours: httpx.Client, other: httpx.Client, path: str) -> None:
    expected, answer = (client.get(path) for client in (ours, other))
    assert (answer.status_code, answer.headers["content-type"]) == (
        expected.status_code,
        expected.headers["content-type"],
    )
    assert len(answer.content) == len(expected.content)


def test_metrics_have_the_same_families_and_count(ours: httpx.Client, other: httpx.Client) -> None:
    expected, answer = (client.get("/metrics").text for client in (ours, other))
    assert FAMILY.findall(answer) == FAMILY.findall(expected)
    other.post("/predict", json=XOR)
    assert other.get("/metrics").text != answer
