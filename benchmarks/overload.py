"""The goodput of a server that gets more requests than it can answer.

    python -m benchmarks.overload [--rounds 5] [--seconds 6] [--pictures 64] [--name overload]

First, clients that wait for their answers measure the capacity. Then requests arrive at one, two
and three times that rate, whether or not earlier ones were answered; each client gives up after
two seconds. Good answers are those in time; the ratio is to the best round of the same server.

perceptd takes part twice: with its default limits, and with limits too high to matter. The servers
take turns on one core, the load has another.
"""

import argparse
import json
import os
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from benchmarks import closed_loop
from benchmarks.load import Call, percentile_ms
from benchmarks.open_loop import Clients, Seen
from benchmarks.report import machine, publish, table
from benchmarks.servers import PORT, alone, frozen, perceptd
from perceptd.models.networks.mnist import drawn_seven

SERVER_CORE, LOAD_CORE = 0, 1
CLIENTS = 8  # to measure the capacity
CLIENT_TIMEOUT_S = 2.0
WARM_UP_S = 2.0
TIMES = (1, 2, 3)
WITHOUT_LIMITS = {
    "PERCEPTD_MAX_QUEUE_SIZE": "10000000",
    "PERCEPTD_MAX_QUEUE_WAIT_MS": "3600000",
    "PERCEPTD_REQUEST_TIMEOUT_MS": "3600000",
    "PERCEPTD_MAX_CONNECTIONS": "1000000",
}
VARIANTS: dict[str, dict[str, str]] = {"perceptd": {}, "without limits": WITHOUT_LIMITS}


@dataclass
class Server:
    """One variant, and what its clients saw: at its capacity (0) and at so many times that."""

    name: str
    port: int
    pid: int
    seen: dict[int, list[Seen]] = field(default_factory=dict)

    @property
    def peak(self) -> float:
        return max(one.goodput for seen in self.seen.values() for one in seen)


def call(pictures: int) -> Call:
    body = {"model": "mnist-cnn", "dtype": "uint8", "inputs": [drawn_seven()] * pictures}
    return Call("/predict", json.dumps(body).encode())


def measure(servers: Sequence[Server], rounds: int, seconds: float, asked: Call) -> None:
    def turn(times: int, rate: float, seed: int) -> None:
        """Load each server, while the others are stopped."""
        for server in servers:
            with ExitStack() as stack:
                for other in servers:
                    if other is not server:
                        stack.enter_context(frozen(other.pid))
                if times:
                    clients = Clients(server.port, asked, CLIENT_TIMEOUT_S)
                    seen = clients.run(rate, WARM_UP_S, seconds, seed)
                else:
                    seen = capacity(server, asked, seconds)
            print(f"  {server.name}, {times}x: {seen.offered} {seen.goodput:,.0f}", flush=True)
            server.seen.setdefault(times, []).append(seen)

    for number in range(rounds):
        turn(0, 0, number)
    rate = max(server.peak for server in servers)
    for number in range(rounds):
        for times in TIMES:
            turn(times, times * rate, number)


def capacity(server: Server, asked: Call, seconds: float) -> Seen:
    found = closed_loop.run(server.port, asked, CLIENTS, seconds, WARM_UP_S)
    return Seen(seconds, len(found.latencies) + found.errors, 0, found.latencies)


def rows(server: Server) -> list[list[str]]:
    cells = []
    for times, seen in server.seen.items():
        what = f"{times}x the capacity" if times else f"capacity, {CLIENTS} connections"
        good, offered = median(one.goodput for one in seen), sum(one.offered for one in seen)
        latencies = [median(percentile_ms(one.latencies, p) for one in seen) for p in (50, 99)]
        figures = [
            f"{offered / sum(one.seconds for one in seen):,.0f}",
            f"{good:,.0f}",
            f"{good / server.peak:.2f}",
            *(f"{latency:,.0f}" for latency in latencies),
            f"{sum(one.refused for one in seen) / offered:.0%}",
            f"{sum(one.lost for one in seen) / offered:.0%}",
        ]
        cells.append([server.name, what, *figures])
    return cells


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=6)
    parser.add_argument("--pictures", type=int, default=64, help="per request")
    parser.add_argument("--name", default="overload", help="of the file with the results")
    options = parser.parse_args()
    os.sched_setaffinity(0, {LOAD_CORE})
    servers = []
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        for number, (name, limits) in enumerate(VARIANTS.items()):
            port = PORT + number
            environment = {**alone(Path(folder, str(number)), port), **limits}
            process = stack.enter_context(perceptd(environment, core=SERVER_CORE))
            servers.append(Server(name, port, process.pid))
        measure(servers, options.rounds, options.seconds, call(options.pictures))
    facts = (
        f"{machine('onnxruntime', 'fastapi', 'uvicorn')}; {options.pictures} pictures per request "
        "for the CNN, as whole numbers in JSON; one core for the server, one for the load; "
        f"{options.rounds} rounds of {options.seconds:g} s each, in turn."
    )
    figures = "offered per s|good answers per s|of its peak|p50 ms|p99 ms|refused|lost"
    cells = [row for server in servers for row in rows(server)]
    publish(options.name, facts, table(["server", "load", *figures.split("|")], cells, texts=2))


if __name__ == "__main__":
    main()
