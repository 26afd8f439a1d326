"""Resident memory over two million predictions at full speed.

    python -m benchmarks.endurance [--millions 2]

The requests of the serving benchmark take turns over 64 connections. Memory is read after each
turn; it may still grow during the first two rounds.
"""

import argparse
import tempfile
from pathlib import Path

from benchmarks.lineup import AS_PERCEPTD
from benchmarks.load import load, require_wrk
from benchmarks.machine import describe
from benchmarks.servers import PORT, SERVE, alone, is_ready, resident_mb, running, until
from benchmarks.works import all_works

RESULTS = Path(__file__).parent / "results" / "endurance.md"
URL = f"http://127.0.0.1:{PORT}"
CONNECTIONS = 64
GROWING_ROUNDS = 2
TURN_S = {"W1": 12, "W2": 6, "W3": 3, "W4": 6}


def measure(requests: float) -> tuple[int, int, list[float]]:
    """Requests sent, those without a good answer, and megabytes after each turn."""
    sent, errors, megabytes = 0, 0, []
    with (
        tempfile.TemporaryDirectory() as store,
        running(SERVE, alone(Path(store))) as process,
    ):
        until(process, lambda: is_ready(URL))
        while sent < requests:
            for work in all_works():
                taken = load(URL, AS_PERCEPTD(work), CONNECTIONS, TURN_S[work.name])
                sent += round(taken.per_second * TURN_S[work.name])
                errors += taken.errors
                megabytes.append(resident_mb(process.pid))
                print(f"  {sent:,} requests, {megabytes[-1]:.0f} MB", flush=True)
    return sent, errors, megabytes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--millions", type=float, default=2)
    require_wrk()
    sent, errors, megabytes = measure(1e6 * parser.parse_args().millions)
    settled = megabytes[GROWING_ROUNDS * len(TURN_S) - 1 :]
    change = max(abs(size / settled[0] - 1) for size in settled)
    text = (
        f"{describe('onnxruntime', 'uvicorn')}; one process, {CONNECTIONS} connections.\n\n"
        "| predictions | without a good answer | MB after two rounds | MB at the end "
        "| largest change |\n| ---: | ---: | ---: | ---: | ---: |\n"
        f"| {sent:,} | {errors} | {settled[0]:.0f} | {settled[-1]:.0f} | {change:.1%} |\n"
    )
    RESULTS.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
