"""What one prediction costs: W2, one image for the CNN as 784 JSON numbers, of 64 connections.

    python -m benchmarks.profile [--rounds 5] [--seconds 3]

`the whole` is the CPU time per request of a perceptd with its default settings; the access log goes
to /dev/null. `transport` is that of a constant answer of the same size on the same server. Forward
pass, parsing and answer are the product's own code, repeated alone. `unwatched` is perceptd without
access log, metrics and drift detection.

Servers and parts take turns on one core, wrk has another.
"""

import argparse
import asyncio
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter

import httpx
import numpy as np
from fastapi import FastAPI

from benchmarks import wrk
from benchmarks.lineup import AS_PERCEPTD
from benchmarks.load import Call
from benchmarks.report import machine, publish, spread, table
from benchmarks.servers import PORT, SERVE, alone, perceptd, tree
from benchmarks.works import all_works
from perceptd.service import logging as logs
from perceptd.service.api.services import services_of
from perceptd.service.app import create_app
from perceptd.service.front.plain import ROUTES, may_predict
from perceptd.service.front.predictions import Prediction
from perceptd.service.inference.loaded_version import compute
from perceptd.service.settings import Settings

CONNECTIONS = 64
PART_S = 0.2
SERVER_CORE, LOAD_CORE = 0, 1
WHOLE, UNWATCHED, TRANSPORT = "the whole", "the whole, unwatched", "transport"
FORWARD, PARSE, ANSWER = "forward pass", "JSON to array", "head, exchange, log and answer to JSON"
TICKS = os.sysconf("SC_CLK_TCK")

Found = dict[str, list[float]]  # microseconds per request, one figure per round
Servers = dict[str, tuple[int, int]]  # port and process id


def measure(call: Call, rounds: int, seconds: int, folder: Path) -> tuple[Found, float]:
    """Microseconds by part and by server, and the rows of a batch under this load."""
    found: Found = {}
    with served(folder, call) as servers:
        for name in servers:
            cpu_us(servers, name, call, 1)
        before = batches(servers[WHOLE][0])
        for _ in range(rounds):
            for name in servers:
                found.setdefault(name, []).append(cpu_us(servers, name, call, seconds))
        rows, count = np.subtract(batches(servers[WHOLE][0]), before)
    found |= repeated(call, rounds, round(rows / count), folder)
    return found, rows / count


@contextmanager
def served(folder: Path, call: Call) -> Iterator[Servers]:
    """The three servers, ready."""
    with ExitStack() as stack:
        servers: Servers = {}

        def start(name: str, *command: str, **variables: str) -> int:
            port = PORT + len(servers)
            environment = {**alone(folder / name, port), **variables}
            process = stack.enter_context(perceptd(environment, command, core=SERVER_CORE))
            servers[name] = (port, process.pid)
            return port

        port = start(WHOLE, *SERVE, PERCEPTD_ACCESS_LOG="1", PERCEPTD_LOG_LEVEL="info")
        size = len(httpx.post(f"http://127.0.0.1:{port}{call.path}", content=call.body).content)
        bare = (sys.executable, "-m", "benchmarks.bare")
        start(UNWATCHED, *bare, "unwatched")
        start(TRANSPORT, *bare, "transport", "--bytes", str(size))
        yield servers


def cpu_us(servers: Servers, name: str, call: Call, seconds: int) -> float:
    """The CPU time of a server per request, while the others are idle."""
    port, pid = servers[name]
    before = cpu_s(pid)
    rate, errors = wrk.rate(f"http://127.0.0.1:{port}", call, CONNECTIONS, seconds)
    if errors:
        raise SystemExit(f"{name}: {errors} errors")
    taken = 1e6 * (cpu_s(pid) - before) / rate / seconds
    print(f"  {name}: {rate:,.0f} answers/s, {taken:.1f} us", flush=True)
    return taken


def cpu_s(pid: int) -> float:
    """The CPU time that a process and its descendants have used."""
    total = 0
    for member in tree(pid):
        fields = Path(f"/proc/{member}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])  # utime and stime
    return total / TICKS


def batches(port: int) -> tuple[float, float]:
    """The rows of all batches of the CNN so far, and how many batches."""
    text = httpx.get(f"http://127.0.0.1:{port}/metrics").text
    found = re.findall(r'perceptd_batch_size_rows_(sum|count)\{model="mnist-cnn"\} (\S+)', text)
    values = dict(found)
    return float(values["sum"]), float(values["count"])


def repeated(call: Call, rounds: int, batch: int, folder: Path) -> Found:
    """Microseconds per request of each part, in this process."""
    settings = Settings(data_dir=folder / "inside", device="cpu")
    os.sched_setaffinity(0, {SERVER_CORE})
    with Path(os.devnull).open("w") as nothing:
        with redirect_stdout(nothing):
            logs.configure(settings, "server")
        return asyncio.run(taken_by_parts(create_app(settings), call, rounds, batch))


async def taken_by_parts(app: FastAPI, call: Call, rounds: int, batch: int) -> Found:
    found: Found = {}
    async with app.router.lifespan_context(app):
        for _ in range(rounds):
            for name, (part, requests) in parts(app, call, batch).items():
                found.setdefault(name, []).append(microseconds(part) / requests)
    return found


def parts(app: FastAPI, call: Call, batch: int) -> dict[str, tuple[Callable[[], object], int]]:
    """Each part, and how many requests one run of it serves."""
    services, route = services_of(app), ROUTES[call.path]
    engine = services.engine
    version, decoded = engine.production["mnist-cnn"], engine.decoder.decode(call.body)
    assert decoded
    answer = compute(version.runtime, version.spec.head, decoded.rows)
    headers = [
        (b"host", b"here"),
        (b"content-type", call.content_type.encode()),
        (b"content-length", b"%d" % len(call.body)),
    ]

    def respond() -> None:
        given, client = dict(headers), ("127.0.0.1", 1)
        assert route.takes(given, len(call.body))
        assert may_predict(services.access, given)
        exchange = Prediction(services, "POST", route.path, "", client, perf_counter())
        exchange.answered_by(version)
        route.write(version, version.checked(answer))
        exchange.answer(200, route.path)
        exchange.finish()

    rows = np.concatenate([decoded.rows] * batch)
    return {
        FORWARD: (partial(version.runtime.run, rows), batch),
        PARSE: (partial(engine.decoder.decode, call.body), 1),
        ANSWER: (respond, 1),
    }


def microseconds(part: Callable[[], object]) -> float:
    """CPU time of a part."""
    repeats, since = 0, time.process_time()
    while (taken := time.process_time() - since) < PART_S:
        part()
        repeats += 1
    return taken / repeats * 1e6


def rows(found: Found, batch: float) -> list[list[str]]:
    whole = median(found[WHOLE])
    parts = {f"{FORWARD}, per image in batches of {batch:.0f}": found[FORWARD]}
    parts |= {name: found[name] for name in (PARSE, TRANSPORT, ANSWER)}
    rest = [whole - sum(median(taken) for taken in parts.values())]
    parts |= {"batching and the rest": rest, WHOLE: found[WHOLE], UNWATCHED: found[UNWATCHED]}
    return [
        [name, spread(taken, ".1f"), f"{median(taken) / whole:.0%}"]
        for name, taken in parts.items()
    ]


def sentences(found: Found) -> str:
    needed = sum(median(found[name]) for name in (FORWARD, PARSE, TRANSPORT))
    ratio = spread([whole / needed for whole in found[WHOLE]], ".2f")
    pairs = zip(found[UNWATCHED], found[WHOLE], strict=True)
    watching = spread([1 - bare / whole for bare, whole in pairs], ".1%")
    return (
        f"The whole is {ratio} times forward pass, parsing and transport. "
        f"Access log, metrics and drift are {watching} of it."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3)
    options = parser.parse_args()
    wrk.require()
    os.sched_setaffinity(0, {LOAD_CORE})  # also for wrk
    call = next(AS_PERCEPTD(work) for work in all_works() if work.name == "W2")
    with tempfile.TemporaryDirectory() as folder:
        found, batch = measure(call, options.rounds, options.seconds, Path(folder))
    facts = f"{options.rounds} rounds of {options.seconds} s each, in turn"
    publish(
        "profile",
        f"{machine('onnxruntime', 'uvicorn')}; {facts}. {sentences(found)}",
        table(["part", "us, median (min to max)", "of the whole"], rows(found, batch)),
    )


if __name__ == "__main__":
    main()
