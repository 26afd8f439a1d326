"""Seconds from the start of a server to its first answer, and its resident memory.

    python -m benchmarks.footprint [--runs 5]

perceptd on ONNX Runtime with one process and with two, perceptd with torch forced on the CPU, and
the floor, a FastAPI route without a model. They take turns in each run. A run begins with a new
store, in which "first start" comes first.
"""

import argparse
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from benchmarks.machine import describe
from benchmarks.servers import SERVE, resident_mb, running, until
from perceptd.models.networks.mnist import drawn_seven

RESULTS = Path(__file__).parent / "results" / "footprint.md"
PATH = "/predict_proba"
BODY: dict[str, Any] = {
    "model": "mnist-cnn",
    "dtype": "uint8",
    "inputs": [[pixel for row in drawn_seven() for pixel in row]],
}


@dataclass(frozen=True)
class Run:
    """Seconds to the first answer; resident MB then, and after the load."""

    seconds: float
    first_mb: float
    loaded_mb: float


def measured(command: list[str], environment: dict[str, str]) -> Run:
    """Start a server, wait for its first answer, load it, end it."""
    port = free_port()
    full = [part.replace("PORT", str(port)) for part in command]
    began = time.monotonic()
    with (
        running(full, environment, errors=subprocess.DEVNULL) as process,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client,
    ):
        until(process, lambda: answers(client))
        seconds = time.monotonic() - began
        first = resident_mb(process.pid)
        many = {**BODY, "inputs": BODY["inputs"] * 1000}
        for _ in range(20):
            client.post(PATH, json=many).raise_for_status()
        return Run(seconds, first, resident_mb(process.pid))


def answers(client: httpx.Client) -> bool:
    try:
        return client.post(PATH, json=BODY).status_code == 200
    except httpx.TransportError:
        return False


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def measure(runs: int) -> dict[str, list[Run]]:
    found: dict[str, list[Run]] = {}
    floor = [sys.executable, "-m", "benchmarks.floor", "--port", "PORT"]
    perceptd = [*SERVE, "--port", "PORT"]
    for _ in range(runs):
        with tempfile.TemporaryDirectory() as store:
            onnx = {
                "PERCEPTD_DATA_DIR": store,
                "PERCEPTD_DEVICE": "cpu",
                "PERCEPTD_WORKERS": "0",
                "PERCEPTD_PROCESSES": "1",
            }
            variants = {
                "floor: FastAPI, no model": (floor, {}),
                "perceptd, first start": (perceptd, onnx),
                "perceptd": (perceptd, onnx),
                "perceptd, 2 processes": (perceptd, {**onnx, "PERCEPTD_PROCESSES": "2"}),
                "perceptd, torch forced": (perceptd, {**onnx, "PERCEPTD_RUNTIME": "torch"}),
            }
            for name, (command, environment) in variants.items():
                found.setdefault(name, []).append(measured(command, environment))
    return found


def table(found: dict[str, list[Run]]) -> str:
    floor = statistics.median(run.seconds for run in found["floor: FastAPI, no model"])
    lines = [
        "| server | s to first answer, median (min to max) | ratio to floor "
        "| MB at first answer | MB after 20,000 CNN rows |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for name, runs in found.items():
        seconds = [run.seconds for run in runs]
        middle = statistics.median(seconds)
        lines.append(
            f"| {name} | {middle:.2f} ({min(seconds):.2f} to {max(seconds):.2f}) "
            f"| {middle / floor:.1f} | {statistics.median(run.first_mb for run in runs):.0f} "
            f"| {statistics.median(run.loaded_mb for run in runs):.0f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5)
    runs: int = parser.parse_args().runs
    text = f"{describe()}; {runs} runs of each, in turn.\n\n{table(measure(runs))}\n"
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
