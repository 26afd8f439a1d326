"""The goodput of a server that gets more requests than it can answer.

    python -m benchmarks.overload [--rounds 2] [--seconds 6] [--pictures 64]

First, clients that wait for their answers measure the capacity. Then requests arrive at one, two
and three times that rate, whether or not earlier ones were answered; each client gives up after
two seconds. Good answers are those in time; the ratio is to the best round of the same server.

perceptd takes part twice: with its default limits, and with limits too high to matter. The servers
take turns on one core, the load has another. Only the default number of pictures per request
writes a result file.
"""

import argparse
import json
import os
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.load import Call
from benchmarks.machine import describe
from benchmarks.open_loop import OpenLoop, Seen
from benchmarks.servers import PORT, SERVE, alone, frozen, is_ready, running, until
from perceptd.models.networks.mnist import drawn_seven

RESULTS = Path(__file__).parent / "results" / "overload.md"
SERVER_CORE, LOAD_CORE = 0, 1
PICTURES = 64
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


@dataclass(frozen=True)
class Server:
    name: str
    port: int
    pid: int


def call(pictures: int) -> Call:
    body = {"model": "mnist-cnn", "dtype": "uint8", "inputs": [drawn_seven()] * pictures}
    return Call("/predict", json.dumps(body).encode())


@dataclass
class Found:
    capacity: list[Seen]
    offered: dict[int, list[Seen]]

    @property
    def peak(self) -> float:
        every = [*self.capacity, *(seen for seens in self.offered.values() for seen in seens)]
        return max(seen.goodput for seen in every)


def measure(
    servers: Sequence[Server], rounds: int, seconds: float, pictures: int
) -> dict[str, Found]:
    found = {server.name: Found([], {times: [] for times in TIMES}) for server in servers}
    asked = call(pictures)

    def clients(server: Server) -> OpenLoop:
        return OpenLoop(server.port, asked, CLIENT_TIMEOUT_S)

    def turn(server: Server, what: str, seen: Seen) -> Seen:
        print(
            f"  {server.name}, {what}: offered {seen.offered_rate:,.0f}, good {seen.goodput:,.0f}, "
            f"p99 {seen.percentile_ms(99):,.0f} ms, refused {seen.refused}, lost {seen.lost}",
            flush=True,
        )
        return seen

    for _ in range(rounds):
        for server in alternately(servers):
            seen = clients(server).run_closed(CLIENTS, WARM_UP_S, seconds)
            found[server.name].capacity.append(turn(server, "capacity", seen))
    rate = max(seen.goodput for one in found.values() for seen in one.capacity)
    for number in range(rounds):
        for times in TIMES:
            for server in alternately(servers):
                seen = clients(server).run(times * rate, WARM_UP_S, seconds, seed=number)
                found[server.name].offered[times].append(turn(server, f"{times}x", seen))
    return found


def alternately(servers: Sequence[Server]) -> Iterator[Server]:
    """Each server in turn, while the others are stopped."""
    for server in servers:
        with ExitStack() as stack:
            for other in servers:
                if other is not server:
                    stack.enter_context(frozen(other.pid))
            yield server


def table(found: dict[str, Found]) -> str:
    lines = [
        "| server | load | offered per s | good answers per s | of its peak | p50 ms | p99 ms "
        "| refused | lost |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, one in found.items():
        rows = [(f"capacity, {CLIENTS} connections", one.capacity)]
        rows += [(f"{times}x the capacity", seens) for times, seens in one.offered.items()]
        for what, seens in rows:
            good = statistics.median(seen.goodput for seen in seens)
            offered = sum(seen.offered for seen in seens)
            lines.append(
                f"| {name} | {what} "
                f"| {statistics.median(seen.offered_rate for seen in seens):,.0f} "
                f"| {good:,.0f} | {good / one.peak:.2f} "
                f"| {statistics.median(seen.percentile_ms(50) for seen in seens):,.0f} "
                f"| {statistics.median(seen.percentile_ms(99) for seen in seens):,.0f} "
                f"| {sum(seen.refused for seen in seens) / offered:.0%} "
                f"| {sum(seen.lost for seen in seens) / offered:.0%} |"
            )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=6)
    parser.add_argument("--pictures", type=int, default=PICTURES, help="per request")
    options = parser.parse_args()
    os.sched_setaffinity(0, {LOAD_CORE})
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        servers = []
        for number, (name, limits) in enumerate(VARIANTS.items()):
            port = PORT + number
            environment = {**alone(Path(folder, str(number)), port), **limits}
            process = stack.enter_context(running(SERVE, environment, core=SERVER_CORE))
            until(process, partial(is_ready, f"http://127.0.0.1:{port}"))
            servers.append(Server(name, port, process.pid))
        found = measure(servers, options.rounds, options.seconds, options.pictures)
    facts = (
        f"{options.pictures} pictures per request for the CNN, as whole numbers in JSON; one core "
        f"for the server, one for the load; {options.rounds} rounds of {options.seconds:g} s each, "
        "in turn"
    )
    text = f"{describe('onnxruntime', 'fastapi', 'uvicorn')}; {facts}.\n\n{table(found)}\n"
    if options.pictures == PICTURES:
        RESULTS.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
