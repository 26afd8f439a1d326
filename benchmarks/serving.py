"""Throughput and latency of perceptd, of a floor without a model, and of other model servers.

    python -m benchmarks.serving [--servers floor,perceptd] [--loads W2@1,W2@64] [--seconds 2,10]
                                 [--rounds 5] [--name serving]   # of the files of results

A server with all its processes has one core, the load generator has another. Each load on a server
comes right after the same load on the floor, so both figures of a ratio are measured under the same
conditions. wrk gives the rates, `benchmarks.closed_loop` the latencies, one after the other, each
for the given seconds. Before and after each load, the server's answer is compared with that of the
shipped checkpoint; a server that gives a wrong answer or dies gets no figures. The servers take
turns in each round, which ends with writing the tables. `make bench-peers` installs the others.
"""

import argparse
import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby, product
from pathlib import Path
from subprocess import STDOUT, CalledProcessError

import httpx

from benchmarks import closed_loop, wrk
from benchmarks.figures import EXPLAINED, Cell, Figures, Pair, Start
from benchmarks.lineup import FLOOR, ROOT, SERVERS, Server
from benchmarks.load import Load
from benchmarks.report import machine, publish
from benchmarks.servers import ServerError, frozen, resident_mb, running, until
from benchmarks.works import Work, all_works, difference

HAPROXY_FILES = {  # of Ray Serve, which would leave them in /tmp
    "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": "haproxy.cfg",
    "RAY_SERVE_HAPROXY_SOCKET_PATH": "admin.sock",
    "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": "metrics.sock",
    "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": "",
    "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": "server-state",
}
LOADS = "W1@64,W2@1,W2@64,W3@1,W4@64,W5@64"
WARM_UP_S = 1
FAILURES = (ServerError, httpx.HTTPError, CalledProcessError)
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
WORKS = {work.name: work for work in all_works()}
STARTED = WORKS["W2"]  # its first right answer ends a start


def one_round(servers: Sequence[Server], figures: Figures, core: int) -> None:
    with started(FLOOR, STARTED, core) as (floor, seconds):
        for server in servers:
            if server.name in figures.failures:
                continue
            try:
                turn(server, figures, core)
            except FAILURES as error:
                figures.failures[server.name] = str(error)
                print(f"{server.name} FAILED: {error}", file=sys.stderr, flush=True)
        figures.starts.append(Start(FLOOR.name, seconds, resident_mb(floor)))


def turn(server: Server, figures: Figures, core: int) -> None:
    """A server's loads, each right after the floor's. Raises `FAILURES`."""
    for _, group in groupby(figures.cells, lambda cell: server.environment(WORKS[cell.work])):
        cells = list(group)
        works = [WORKS[cell.work] for cell in cells]
        first = STARTED if STARTED in works else works[0]
        with started(server, first, core) as (pid, seconds):
            for work, cell in zip(works, cells, strict=True):
                check(server, work)
                wrk.rate(server.url, server.call(work), cell.connections, WARM_UP_S)
                with frozen(pid):  # some servers use the processor while idle
                    floor = loaded(FLOOR, work, cell)
                found = loaded(server, work, cell)
                print(f"  {server.name} {cell}, {cell.seconds} s: {found}", flush=True)
                if found.per_second and floor.per_second:  # else the load was too short
                    figures.pairs.append(Pair(server.name, cell, found, floor))
            if first is STARTED:
                figures.starts.append(Start(server.name, seconds, resident_mb(pid)))


def loaded(server: Server, work: Work, cell: Cell) -> Load:
    """Load a server. Raises `ServerError` if its answer before or after a load is wrong.

    The answer after the load comes once the server has finished the requests that wrk abandoned,
    so one load does not disturb the next.
    """
    call = server.call(work)
    check(server, work)
    rate, errors = wrk.rate(server.url, call, cell.connections, cell.seconds)
    check(server, work)
    seen = closed_loop.run(server.port, call, cell.connections, cell.seconds).load
    check(server, work)
    return Load(rate, seen.p50_ms, seen.p99_ms, errors + seen.errors)


@contextmanager
def started(server: Server, work: Work, core: int) -> Iterator[tuple[int, float]]:
    """Start a server and wait for a correct answer: its pid, and the seconds until then.

    It runs in a temporary folder, which is its home as well, and leaves nothing behind.
    """
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", server.port)) == 0:
            raise SystemExit(f"port {server.port} is taken: is another benchmark running?")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        environment = {
            **ONE_THREAD,
            "HOME": folder,
            "TMPDIR": folder,
            "RAY_TMPDIR": folder,
            **{name: str(Path(folder, file)) for name, file in HAPROXY_FILES.items()},
            "PYTHONPATH": str(ROOT),
            **server.environment(work),
        }
        with Path(folder, "log").open("w") as log:
            began = time.monotonic()
            with running(
                server.command,
                environment,
                core=core,
                folder=Path(folder),
                output=log,
                errors=STDOUT,
            ) as process:
                try:
                    until(process, lambda: answers(server, work))
                    seconds = time.monotonic() - began
                    print(f"{server.name}: first answer after {seconds:.2f} s", flush=True)
                    yield process.pid, seconds
                except FAILURES as error:
                    told = Path(log.name).read_text()[-2000:]
                    raise ServerError(f"{error}\n{told}") from error


def answers(server: Server, work: Work) -> bool:
    try:
        return asked(server, work).status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


def check(server: Server, work: Work) -> None:
    """Raise `ServerError` if a server's answer differs from the shipped checkpoint's."""
    response = asked(server, work)
    if response.status_code != httpx.codes.OK:
        raise ServerError(f"{work.name}: {response.status_code} {response.text[:500]}")
    if server.answers:
        wrong = difference(server.answers(response.json()), work.right)
        if wrong:
            raise ServerError(f"{work.name}: {wrong}: {response.text[:500]}")


def asked(server: Server, work: Work) -> httpx.Response:
    call = server.call(work)
    return httpx.post(
        server.url + call.path,
        content=call.body,
        headers={"Content-Type": call.content_type},
        timeout=60,
        trust_env=False,
        verify=False,  # reading certificates would distort the start times
    )


def write(figures: Figures, name: str, facts: str) -> None:
    parts = [f"# Serving, in detail\n\n{facts}", EXPLAINED]
    for cell in figures.cells:
        title = f"{cell}, {cell.seconds} s: {WORKS[cell.work].title}"
        parts.append(f"## {title}\n\n{figures.detailed(cell)}")
    publish(f"{name}-details", *parts)
    publish(name, facts, figures.short())


def chosen(names: str, known: Sequence[str]) -> list[str]:
    """The names of a comma-separated list, in the order of `known`."""
    wanted = names.split(",")
    if unknown := set(wanted) - set(known):
        raise SystemExit(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(known)}")
    return [name for name in known if name in wanted]


def installed(names: Sequence[str]) -> list[Server]:
    """The servers of these names that can start here. Prints which cannot."""
    wanted = [server for server in SERVERS if server.name in names]
    for server in wanted:
        if server.missing:
            print(f"{server.name} is left out: {server.missing}", file=sys.stderr)
    return [server for server in wanted if not server.missing]


def cells_of(loads: str, seconds: str) -> list[Cell]:
    """Cells of loads such as `W2@64`, in the order of the works, the shortest first."""
    pairs = [load.split("@") for load in loads.split(",")]
    names = chosen(",".join(work for work, _ in pairs), list(WORKS))
    pairs.sort(key=lambda pair: (names.index(pair[0]), int(pair[1])))
    durations = sorted(map(int, seconds.split(",")))
    return [Cell(work, int(n), each) for each, (work, n) in product(durations, pairs)]


def pinned() -> int:
    """Pin this process and its children to one core; the other one is for the servers."""
    server_core, load_core = min(cores := os.sched_getaffinity(0)), max(cores)
    if server_core == load_core:
        raise SystemExit("two cores are needed: one for the server, one for the load")
    os.sched_setaffinity(0, {load_core})
    return server_core


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = [server.name for server in (FLOOR, *SERVERS)]
    shown = f"the floor always runs; default: {','.join(names)}"
    parser.add_argument("--servers", default=",".join(names), help=shown)
    parser.add_argument("--loads", default=LOADS, help="WORK@CONNECTIONS; default: %(default)s")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", default="2", help="of each load, such as 2,10")
    parser.add_argument("--name", default="serving", help="of the files with the results")
    options = parser.parse_args()
    wrk.require()
    servers = installed(chosen(options.servers, names))
    core = pinned()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # what was started is ended
    titles = {server.name: server.titled for server in (FLOOR, *servers)}
    figures = Figures(titles, cells_of(options.loads, options.seconds))
    versions = machine("perceptd", "torch", "onnxruntime", "fastapi", "uvicorn")
    seconds = options.seconds.replace(",", " and ")
    for number in range(1, options.rounds + 1):
        one_round(servers, figures, core)
        facts = f"medians of {number} rounds of loads of {seconds} s, in turn; one core for the"
        write(figures, options.name, f"{versions}; {facts} server, one for the load.")


if __name__ == "__main__":
    main()
