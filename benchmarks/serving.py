"""Throughput and latency of perceptd, of a floor without a model, and of other model servers.

    python -m benchmarks.serving [--servers floor,perceptd] [--works W1,W2]
                                 [--connections 1,16,64] [--rounds 3] [--seconds 3]
                                 [--name serving]    # of the files in benchmarks/results
    python -m benchmarks.serving --table-only        # write the tables from the saved figures

A server with all its processes has one core, the load generator has another. Each load on a server
comes right after the same load on the floor, so both figures of a ratio are measured under the same
conditions. Before and after each load, the server's answer is compared with that of the shipped
checkpoint; a server that gives a wrong answer or dies gets no figures. The servers take turns in
each round. `make bench-peers` installs the other servers.
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
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from subprocess import STDOUT, CalledProcessError

import httpx

from benchmarks import serving_tables
from benchmarks.figures import Figures, Pair, Start
from benchmarks.lineup import FLOOR, ROOT, SERVERS, Server
from benchmarks.load import Load, load, require_wrk
from benchmarks.machine import describe
from benchmarks.servers import ServerError, frozen, resident_mb, running, until
from benchmarks.works import Work, all_works, difference

RESULTS = Path(__file__).parent / "results"
WARM_UP_S = 1
MEASURED_START = "W2"  # the work whose first answer ends a start
FAILURES = (ServerError, httpx.HTTPError, CalledProcessError)
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


@dataclass(frozen=True)
class Plan:
    """The loads on each server in a round."""

    works: Sequence[Work]
    connections: Sequence[int]
    seconds: int
    core: int


def one_round(servers: Sequence[Server], plan: Plan, figures: Figures) -> None:
    with started(FLOOR, first_asked(plan.works), plan.core) as (floor, seconds):
        for server in servers:
            if server.name in figures.failures:
                continue
            try:
                turn(server, plan, figures)
            except FAILURES as error:
                figures.failures[server.name] = str(error)
                print(f"{server.name} FAILED: {error}", file=sys.stderr, flush=True)
        figures.starts.append(Start(FLOOR.name, seconds, resident_mb(floor)))


def turn(server: Server, plan: Plan, figures: Figures) -> None:
    """A server's loads, each right after the floor's. Raises `FAILURES`."""
    for _, group in groupby(plan.works, server.environment):
        works = list(group)
        first = first_asked(works)
        with started(server, first, plan.core) as (pid, seconds):
            for work in works:
                loaded(server, work, plan.connections[0], WARM_UP_S)
                for connections in plan.connections:
                    with frozen(pid):  # some servers use the processor while idle
                        floor = loaded(FLOOR, work, connections, plan.seconds)
                    found = loaded(server, work, connections, plan.seconds)
                    print(f"  {server.name} {work.name} {connections}: {found}", flush=True)
                    if found.per_second and floor.per_second:  # else the load was too short
                        pair = Pair(server.name, work.name, connections, found, floor)
                        figures.pairs.append(pair)
            if first.name == MEASURED_START:
                figures.starts.append(Start(server.name, seconds, resident_mb(pid)))


def first_asked(works: Sequence[Work]) -> Work:
    """The work that measures a server's start."""
    return next((work for work in works if work.name == MEASURED_START), works[0])


def loaded(server: Server, work: Work, connections: int, seconds: int) -> Load:
    """Load a server. Raises `ServerError` if its answer before or after the load is wrong.

    The answer after the load comes once the server has finished the requests that wrk abandoned,
    so one load does not disturb the next.
    """
    check(server, work)
    found = load(server.url, server.call(work), connections, seconds)
    check(server, work)
    return found


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


def write(figures: Figures, name: str) -> None:
    short = f"{figures.facts}\n\n{serving_tables.short(figures)}\n"
    (RESULTS / f"{name}.md").write_text(short)
    (RESULTS / f"{name}-details.md").write_text(serving_tables.detailed(figures))
    print(short)


def chosen(names: str, known: Sequence[str]) -> list[str]:
    """The names of a comma-separated list, in the order of `known`."""
    wanted = names.split(",")
    if unknown := set(wanted) - set(known):
        raise SystemExit(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(known)}")
    return [name for name in known if name in wanted]


def installed(names: Sequence[str]) -> list[Server]:
    """The servers of these names that can start here. Prints which cannot."""
    servers = []
    for server in SERVERS:
        if server.name in names:
            if server.missing:
                print(f"{server.name} is left out: {server.missing}", file=sys.stderr)
            else:
                servers.append(server)
    return servers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = [server.name for server in (FLOOR, *SERVERS)]
    works = all_works()
    kinds = [work.name for work in works]
    shown = f"the floor always runs; default: {','.join(names)}"
    parser.add_argument("--servers", default=",".join(names), help=shown)
    parser.add_argument("--works", default=",".join(kinds), help="default: %(default)s")
    parser.add_argument("--connections", default="1,16,64", help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=3, help="of each load")
    parser.add_argument("--name", default="serving", help="of the files with the results")
    parser.add_argument("--table-only", action="store_true", help="write the tables anew")
    options = parser.parse_args()
    kept = RESULTS / f"{options.name}.json"
    if options.table_only:
        write(Figures.read(kept), options.name)
        return

    require_wrk()
    servers = installed(chosen(options.servers, names))
    server_core, load_core = min(cores := os.sched_getaffinity(0)), max(cores)
    if server_core == load_core:
        raise SystemExit("two cores are needed: one for the server, one for the load")
    os.sched_setaffinity(0, {load_core})  # wrk inherits it
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # what was started is ended

    wanted = chosen(options.works, kinds)
    plan = Plan(
        works=[work for work in works if work.name in wanted],
        connections=sorted(map(int, options.connections.split(","))),
        seconds=options.seconds,
        core=server_core,
    )
    figures = Figures(
        facts=f"{describe('perceptd', 'torch', 'onnxruntime', 'fastapi', 'uvicorn')}; medians of "
        f"{options.rounds} rounds of {options.seconds} s each, in turn; one core for the server, "
        "one for the load.",
        titles={server.name: server.titled for server in (FLOOR, *servers)},
        works={work.name: work.title for work in plan.works},
        connections=list(plan.connections),
    )
    for number in range(options.rounds):
        print(f"round {number + 1} of {options.rounds}", flush=True)
        one_round(servers, plan, figures)
        figures.save(kept)
    write(figures, options.name)


if __name__ == "__main__":
    main()
