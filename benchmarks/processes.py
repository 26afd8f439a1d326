"""The throughput of two processes and of one, on the same two cores.

    python -m benchmarks.processes [--rounds 5] [--seconds 5]

W2 is one image for the CNN as 784 JSON numbers, over 64 connections; W3 is 64 images in one
request, over 16. Both are requests of the serving benchmark. `--processes 1` and `--processes 2`
take turns in each round.

Server and load generator share the two cores. wrk has one thread: beside one server process it can
have a core to itself, beside two it takes time from both. The ratio is therefore a little lower
than with a load from another machine.
"""

import argparse
import json
import os
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.load import Call, Load, load, require_wrk
from benchmarks.machine import describe
from benchmarks.servers import PORT, SERVE, alone, is_ready, running, until
from perceptd.models.networks.mnist import drawn_seven

RESULTS = Path(__file__).parent / "results" / "processes.md"
URL = f"http://127.0.0.1:{PORT}"
PROCESSES = (1, 2)
CORES = 2
WARM_UP_S = 1


@dataclass(frozen=True)
class Work:
    """One kind of load: images per request, and connections."""

    name: str
    images: int
    connections: int

    @property
    def call(self) -> Call:
        pixels = [round(value / 255, 4) for row in drawn_seven() for value in row]
        body = {"model": "mnist-cnn", "inputs": [pixels] * self.images}
        return Call("/predict_proba", json.dumps(body).encode())


WORKS = (Work("W2", 1, 64), Work("W3", 64, 16))
Found = dict[tuple[Work, int], list[Load]]


def measure(rounds: int, seconds: int) -> Found:
    found: Found = {}
    with tempfile.TemporaryDirectory() as store:
        environment = alone(Path(store))
        for _ in range(rounds):
            for processes in PROCESSES:
                command = [*SERVE, "--processes", str(processes)]
                with running(command, environment) as process:
                    until(process, lambda: is_ready(URL))
                    for work in WORKS:
                        load(URL, work.call, work.connections, WARM_UP_S)
                        result = load(URL, work.call, work.connections, seconds)
                        print(f"  {work.name}, {processes}: {result}", flush=True)
                        found.setdefault((work, processes), []).append(result)
    return found


def table(found: Found) -> str:
    lines = [
        "| request for the CNN | connections | processes | answers per second, median (min to max) "
        "| p50 ms | p99 ms | answers, of one process | errors |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for (work, processes), loads in sorted(found.items(), key=lambda item: item[0][0].name):
        rates = [one.per_second for one in loads]
        ratio = median_rate(loads) / median_rate(found[work, 1])
        images = f"{work.images} image" + ("s" if work.images > 1 else "")
        lines.append(
            f"| {work.name}: {images} as JSON numbers | {work.connections} | {processes} "
            f"| {median_rate(loads):,.0f} ({min(rates):,.0f} to {max(rates):,.0f}) "
            f"| {statistics.median(one.p50_ms for one in loads):.2f} "
            f"| {statistics.median(one.p99_ms for one in loads):.2f} "
            f"| {ratio:.2f} | {sum(one.errors for one in loads)} |"
        )
    return "\n".join(lines)


def median_rate(loads: Sequence[Load]) -> float:
    return statistics.median(one.per_second for one in loads)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=5)
    options = parser.parse_args()
    require_wrk()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])  # for all that it starts
    found = measure(options.rounds, options.seconds)
    facts = f"medians of {options.rounds} rounds of {options.seconds} s each, in turn"
    text = f"{describe('onnxruntime', 'fastapi', 'uvicorn')}; {facts}.\n\n{table(found)}\n"
    RESULTS.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
