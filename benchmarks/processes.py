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
import os
import tempfile
from pathlib import Path
from statistics import median

from benchmarks import wrk
from benchmarks.lineup import AS_PERCEPTD
from benchmarks.report import machine, publish, spread, table
from benchmarks.servers import PORT, alone, perceptd
from benchmarks.works import Work, all_works

CONNECTIONS = {"W2": 64, "W3": 16}
PROCESSES = (1, 2)
CORES = 2
WARM_UP_S = 1

Found = dict[tuple[str, int], list[float]]  # answers per second by work and processes


def measure(works: list[Work], rounds: int, seconds: int) -> Found:
    found: Found = {}
    for _ in range(rounds):
        for processes in PROCESSES:
            with tempfile.TemporaryDirectory() as store:
                variables = {**alone(Path(store)), "PERCEPTD_PROCESSES": str(processes)}
                with perceptd(variables):
                    for work in works:
                        rate = loaded(work, seconds)
                        print(f"  {work.name}, {processes}: {rate:,.0f}", flush=True)
                        found.setdefault((work.name, processes), []).append(rate)
    return found


def loaded(work: Work, seconds: int) -> float:
    url, call, connections = f"http://127.0.0.1:{PORT}", AS_PERCEPTD(work), CONNECTIONS[work.name]
    wrk.rate(url, call, connections, WARM_UP_S)
    rate, errors = wrk.rate(url, call, connections, seconds)
    if errors:
        raise SystemExit(f"{work.name}: {errors} errors")
    return rate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=5)
    options = parser.parse_args()
    wrk.require()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])  # for all that it starts
    works = [work for work in all_works() if work.name in CONNECTIONS]
    found = measure(works, options.rounds, options.seconds)
    facts = f"medians of {options.rounds} rounds of {options.seconds} s each, in turn"
    head = ["request", "connections", "processes", "answers per second, median (min to max)"]
    rows = []
    for work in works:
        for processes in PROCESSES:
            rates = found[work.name, processes]
            ratio = median(rates) / median(found[work.name, 1])
            counts = [str(CONNECTIONS[work.name]), str(processes)]
            rows.append([f"{work.name}: {work.title}", *counts, spread(rates), f"{ratio:.2f}"])
    publish(
        "processes",
        f"{machine('onnxruntime', 'fastapi', 'uvicorn')}; {facts}.",
        table([*head, "answers, of one process"], rows),
    )


if __name__ == "__main__":
    main()
