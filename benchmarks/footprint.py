"""Seconds from the start of a server to its first answer, and its resident memory.

    python -m benchmarks.footprint [--runs 5]

perceptd on ONNX Runtime with one process and with two, perceptd with torch forced on the CPU, and
the floor, a FastAPI route without a model. They take turns in each run. A run begins with a new
store, in which "first start" comes first.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from benchmarks.report import machine, publish, spread, table
from benchmarks.servers import PORT, SERVE, alone, resident_mb, running, until
from perceptd.models.networks.mnist import drawn_seven

PATH = "/predict_proba"
BODY: dict[str, Any] = {
    "model": "mnist-cnn",
    "dtype": "uint8",
    "inputs": [[pixel for row in drawn_seven() for pixel in row]],
}
FLOOR = "floor: FastAPI, no model"
VARIANTS: dict[str, dict[str, str]] = {
    "perceptd, first start": {},
    "perceptd": {},
    "perceptd, 2 processes": {"PERCEPTD_PROCESSES": "2"},
    "perceptd, torch forced": {"PERCEPTD_RUNTIME": "torch"},
}


@dataclass(frozen=True)
class Run:
    """Seconds to the first answer; resident MB then, and after the load."""

    seconds: float
    first_mb: float
    loaded_mb: float


def measured(command: Sequence[str], environment: dict[str, str]) -> Run:
    """Start a server, wait for its first answer, load it, end it."""
    began = time.monotonic()
    with (
        running(command, environment, errors=subprocess.DEVNULL) as process,
        httpx.Client(base_url=f"http://127.0.0.1:{PORT}", timeout=30) as client,
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


def measure(runs: int) -> dict[str, list[Run]]:
    found: dict[str, list[Run]] = {name: [] for name in (FLOOR, *VARIANTS)}
    floor = [sys.executable, "-m", "benchmarks.floor", "--port", str(PORT)]
    for _ in range(runs):
        with tempfile.TemporaryDirectory() as store:
            found[FLOOR].append(measured(floor, {}))
            for name, variables in VARIANTS.items():
                found[name].append(measured(SERVE, {**alone(Path(store)), **variables}))
    return found


def rows(found: dict[str, list[Run]]) -> list[list[str]]:
    floor = statistics.median(run.seconds for run in found[FLOOR])
    cells = []
    for name, runs in found.items():
        seconds = [run.seconds for run in runs]
        ratio = statistics.median(seconds) / floor
        first = statistics.median(run.first_mb for run in runs)
        loaded = statistics.median(run.loaded_mb for run in runs)
        figures = [spread(seconds, ".2f"), f"{ratio:.1f}", f"{first:.0f}", f"{loaded:.0f}"]
        cells.append([name, *figures])
    return cells


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5)
    runs: int = parser.parse_args().runs
    head = "server|s to first answer, median (min to max)|ratio to floor|MB at first answer"
    columns = [*head.split("|"), "MB after 20,000 CNN rows"]
    facts = f"{machine()}; {runs} runs of each, in turn."
    publish("footprint", facts, table(columns, rows(measure(runs))))


if __name__ == "__main__":
    main()
