"""The cost of drift detection, and how soon it reports a drift.

    python -m benchmarks.drift [--rounds 32] [--seconds 2]

Two servers of one process, one with `PERCEPTD_DRIFT=0`, take turns in each round: W1 is one image
for the CNN as 784 JSON numbers over one connection, W2 the same over 64. The servers have one core,
wrk the other. A round's ratio compares two consecutive loads; the order alternates.

Then one new server gets the digits of MNIST's test set one by one, in their order, and another gets
their negatives. After every 100 requests the verdict is read.
"""

import argparse
import os
import statistics
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
from numpy.typing import NDArray

from benchmarks.load import Load, load, require_wrk
from benchmarks.machine import describe
from benchmarks.processes import Work
from benchmarks.servers import PORT, SERVE, alone, is_ready, running, until

RESULTS = Path(__file__).parent / "results" / "drift.md"
MODEL = "mnist-cnn"
WORKS = (Work("W1", 1, 1), Work("W2", 1, 64))
WARM_UP_S = 1
LOOK_EVERY = 100  # requests
NEGATIVES = 1000  # at most


@dataclass(frozen=True)
class Pair:
    """Two consecutive loads, with drift detection and without."""

    watching: Load
    not_watching: Load

    @property
    def ratio(self) -> float:
        return self.watching.per_second / self.not_watching.per_second


@dataclass(frozen=True)
class Detection:
    """The requests sent, and after how many of them a drift was reported, if at all."""

    sent: int
    drifted: int | None


@contextmanager
def server(store: Path, port: int, *, watching: bool, core: int | None = None) -> Iterator[str]:
    """The address of a ready server."""
    environment = {**alone(store, port), "PERCEPTD_DRIFT": str(int(watching))}
    url = f"http://127.0.0.1:{port}"
    with running(SERVE, environment, core=core) as process:
        until(process, lambda: is_ready(url))
        yield url


def cost(store: Path, rounds: int, seconds: int) -> dict[Work, list[Pair]]:
    first_core, *others = sorted(os.sched_getaffinity(0))
    found: dict[Work, list[Pair]] = {work: [] for work in WORKS}
    with (
        server(store, PORT, watching=True, core=first_core) as watching,
        server(store, PORT + 1, watching=False, core=first_core) as not_watching,
    ):
        os.sched_setaffinity(0, others[:1] or [first_core])  # for wrk
        for work in WORKS:
            for url in (watching, not_watching):
                load(url, work.call, work.connections, WARM_UP_S)
        for number in range(rounds):
            for work in WORKS:
                urls = [watching, not_watching]
                loads = {
                    url: load(url, work.call, work.connections, seconds)
                    for url in (urls if number % 2 else reversed(urls))
                }
                pair = Pair(loads[watching], loads[not_watching])
                print(f"  {work.name}: {pair.ratio:.4f} {pair}", flush=True)
                found[work].append(pair)
    return found


def detect(store: Path, pictures: NDArray[np.uint8], port: int) -> Detection:
    """Send pictures (N, 28, 28) one by one until a drift is reported."""
    with server(store, port, watching=True) as url, httpx.Client(base_url=url) as client:
        for number, picture in enumerate(pictures, 1):
            body = {"model": MODEL, "dtype": "uint8", "inputs": [picture.tolist()]}
            client.post("/predict", json=body).raise_for_status()
            if number % LOOK_EVERY == 0:
                found = client.get(f"/models/{MODEL}/drift").raise_for_status().json()
                if found["verdict"] == "drifted":
                    return Detection(number, number)
    return Detection(len(pictures), None)


def test_digits() -> NDArray[np.uint8]:
    """The pictures of MNIST's test set, (10000, 28, 28)."""
    raw = Path(os.environ.get("PERCEPTD_MNIST_DIR", "data")) / "MNIST" / "raw"
    pictures = np.fromfile(raw / "t10k-images-idx3-ubyte", dtype=np.uint8, offset=16)
    return pictures.reshape(-1, 28, 28)


def table(found: dict[Work, list[Pair]]) -> str:
    lines = [
        "| one image for the CNN as JSON numbers | answers per second, watching | not watching "
        "| ratio, median (min to max) | errors |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for work, pairs in found.items():
        ratios = [pair.ratio for pair in pairs]
        connections = f"{work.connections} connection" + ("s" if work.connections > 1 else "")
        lines.append(
            f"| {work.name}: {connections} "
            f"| {statistics.median(pair.watching.per_second for pair in pairs):,.0f} "
            f"| {statistics.median(pair.not_watching.per_second for pair in pairs):,.0f} "
            f"| {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f}) "
            f"| {sum(pair.watching.errors + pair.not_watching.errors for pair in pairs)} |"
        )
    return "\n".join(lines)


def sentence(what: str, found: Detection) -> str:
    if found.drifted is None:
        return f"{what}: {found.sent:,} requests, no drift told of."
    return f"{what}: a drift is told of after {found.drifted:,} requests or fewer."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=32)
    parser.add_argument("--seconds", type=int, default=2)
    options = parser.parse_args()
    require_wrk()
    digits = test_digits()
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder)
        usual = detect(store, digits, PORT)
        negative = detect(store, 255 - digits[:NEGATIVES], PORT)
        found = cost(store, options.rounds, options.seconds)
    facts = f"{options.rounds} rounds of {options.seconds} s each, in turn"
    text = (
        f"{describe('onnxruntime', 'fastapi', 'uvicorn', 'numpy')}; {facts}. "
        f"{sentence('The test digits of MNIST in their order', usual)} "
        f"{sentence('Their negatives', negative)}\n\n{table(found)}\n"
    )
    RESULTS.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
