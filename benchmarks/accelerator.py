"""Predictions and trainings of the CNN on an accelerator, beside the CPU of the same machine.

    python -m benchmarks.accelerator [--device cuda] [--rounds 2] [--seconds 2] [--repeats 3]

Serving: `/predict` of one server per variant, over loopback, with requests of 1, 64 and 1,024
images as whole numbers in JSON. Clients are processes of their own, each with its share of the
connections, and send the next request as soon as the last one is answered. The limits of the queue
are raised, so that the CPU also answers every request.

Forward pass: the runtime alone, without HTTP, per batch size.

Training: the recipe `fast` on MNIST, until the test accuracy is 0.989; seconds are counted from
reading the files to the end of that epoch. It is left out where PERCEPTD_MNIST_DIR is not set.
"""

import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import torch

from benchmarks.load import Call
from benchmarks.machine import describe
from benchmarks.open_loop import OpenLoop, Seen
from benchmarks.servers import PORT, SERVE, alone, is_ready, running, until
from benchmarks.training import TARGETS, Reached, by_recipe, first, seeded
from benchmarks.works import PRETRAINED, digits
from perceptd.models import checkpoint
from perceptd.service.inference import runtimes
from perceptd.service.inference.runtimes import Device, RuntimeName
from perceptd.training import recipes

RESULTS = Path(__file__).parent / "results" / "accelerator.md"
MODEL = "mnist-cnn"
LOADS = ((1, 1), (1, 64), (1, 1024), (64, 1), (64, 64), (1024, 1), (1024, 4))  # rows, connections
BATCHES = (1, 64, 256, 1024)
PASSES = 20  # forward passes per measurement
MAX_CLIENTS = 6  # processes
TIMEOUT_S = 20.0
WARM_UP_S = 1.0


@dataclass(frozen=True)
class Variant:
    """A server: where the model runs, and in how many processes."""

    device: Device
    processes: int

    @property
    def title(self) -> str:
        return f"{self.device}, {self.processes} process" + ("es" if self.processes > 1 else "")


@dataclass(frozen=True)
class Load:
    """What the clients saw of one round."""

    rows_per_s: float
    p50_ms: float
    p99_ms: float
    errors: int


def body(rows: int) -> bytes:
    inputs = digits(rows).tolist()
    return json.dumps({"model": MODEL, "dtype": "uint8", "inputs": inputs}).encode()


def clients(rows: int, connections: int, warm_s: float, seconds: float) -> Seen:
    """What one process of clients saw."""
    return OpenLoop(PORT, Call("/predict", body(rows)), TIMEOUT_S).run_closed(
        connections, warm_s, seconds
    )


def load(pool: ProcessPoolExecutor, rows: int, connections: int, seconds: float) -> Load:
    """Load the server over that many connections."""
    count = min(connections, MAX_CLIENTS, max(1, (os.cpu_count() or 1) - 1))
    shares = [connections // count + (one < connections % count) for one in range(count)]
    futures = [pool.submit(clients, rows, share, WARM_UP_S, seconds) for share in shares]
    seen = [future.result() for future in futures]
    latencies = sorted(latency for one in seen for latency in one.latencies)
    if len(latencies) < 2:
        return Load(len(latencies) * rows / seconds, float("nan"), float("nan"), 1)
    cuts = statistics.quantiles(latencies, n=100)
    errors = sum(one.lost + one.refused for one in seen)
    return Load(len(latencies) * rows / seconds, 1000 * cuts[49], 1000 * cuts[98], errors)


def serving(
    variants: Sequence[Variant], rounds: int, seconds: float
) -> dict[tuple[int, int, Variant], list[Load]]:
    """Load each variant in turn, round after round."""
    found: dict[tuple[int, int, Variant], list[Load]] = {}
    spawn = get_context("spawn")
    with (
        tempfile.TemporaryDirectory() as store,
        ProcessPoolExecutor(MAX_CLIENTS, mp_context=spawn) as pool,
    ):
        for _ in range(rounds):
            for variant in variants:
                environment = {
                    **alone(Path(store)),
                    "PERCEPTD_DEVICE": variant.device,
                    "PERCEPTD_PROCESSES": str(variant.processes),
                    "PERCEPTD_MAX_QUEUE_WAIT_MS": "60000",
                    "PERCEPTD_MAX_QUEUE_SIZE": "100000",
                }
                with running(SERVE, environment) as process:
                    until(process, lambda: is_ready(f"http://127.0.0.1:{PORT}"))
                    for rows, connections in LOADS:
                        one = load(pool, rows, connections, seconds)
                        print(f"  {variant.title}, {rows} x {connections}: {one}", flush=True)
                        found.setdefault((rows, connections, variant), []).append(one)
    return found


def serving_table(found: dict[tuple[int, int, Variant], list[Load]], floor: Variant) -> str:
    lines = [
        "| images per request | connections | server | predictions per second, median (min to max) "
        "| p50 ms | p99 ms | ratio to the CPU, one process | errors |",
        "| ---: | ---: | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for (rows, connections, variant), loads in sorted(found.items(), key=lambda item: item[0][:2]):
        rates = [one.rows_per_s for one in loads]
        base = statistics.median(one.rows_per_s for one in found[rows, connections, floor])
        lines.append(
            f"| {rows:,} | {connections:,} | {variant.title} | {spread(rates)} "
            f"| {statistics.median(one.p50_ms for one in loads):.2f} "
            f"| {statistics.median(one.p99_ms for one in loads):.2f} "
            f"| {statistics.median(rates) / base:.2f} | {sum(one.errors for one in loads)} |"
        )
    return "\n".join(lines)


def spread(figures: Sequence[float]) -> str:
    low, high = min(figures), max(figures)
    return f"{statistics.median(figures):,.0f} ({low:,.0f} to {high:,.0f})"


def forward_passes(devices: Sequence[Device], rounds: int) -> Iterator[str]:
    """A table of images per second that the runtimes compute, per batch size."""
    folder = PRETRAINED / MODEL
    meta = checkpoint.read(folder)
    names = {"cpu": "ONNX Runtime on the CPU, one thread"}
    yield "| images per batch | runtime | images per second, median (min to max) |"
    yield "| ---: | --- | ---: |"
    for size in BATCHES:
        shape = (-1, *meta.spec.input.shape)
        rows = (digits(size) / 255).astype("float32").reshape(shape)  # (N, 1, 28, 28)
        for device in devices:
            name: RuntimeName = "onnx" if device == "cpu" else "torch"
            runtime = runtimes.load(folder, meta, device, name, threads=1, max_batch_size=size)
            rates = []
            for _ in range(max(rounds, 3)):
                began = time.perf_counter()
                for _ in range(PASSES):
                    runtime.run(rows)
                rates.append(size * PASSES / (time.perf_counter() - began))
            title = names.get(device, f"torch on {device}")
            yield f"| {size:,} | {title} | {spread(rates)} |"


def trainings(devices: Sequence[Device], folder: Path, repeats: int) -> Iterator[str]:
    """A table of the time to the target accuracy, on each device."""
    target = TARGETS[MODEL]
    yield (
        f"| device | runs | seconds until the test accuracy is {target}, median (min to max) "
        "| test accuracy at the end |"
    )
    yield "| --- | ---: | ---: | ---: |"
    recipe = recipes.of(MODEL)["fast"]
    for device in devices:
        reached: list[Reached] = []
        ends = []
        for repeat in range(repeats):
            points = by_recipe(MODEL, seeded(recipe, repeat), folder, torch.device(device))
            print(f"  {device} {points}", flush=True)
            ends.append(points[-1].accuracy)
            if point := first(points, target):
                reached.append(point)
        seconds = [point.seconds for point in reached]
        times = (
            f"{statistics.median(seconds):.1f} ({min(seconds):.1f} to {max(seconds):.1f})"
            if seconds
            else "not reached"
        )
        accuracies = f"{statistics.median(ends):.4f} ({min(ends):.4f} to {max(ends):.4f})"
        yield f"| {device} | {len(reached)} of {repeats} | {times} | {accuracies} |"


def accelerator(device: Device) -> str:
    """The name of the device and its driver."""
    if device != "cuda":
        return device
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    driver = subprocess.run(query, capture_output=True, text=True, check=False).stdout.split()
    versions = f"driver {driver[0] if driver else 'unknown'}, CUDA {torch.version.cuda}"
    return f"{torch.cuda.get_device_name()}, {versions}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda", choices=["cuda", "mps", "cpu"])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--repeats", type=int, default=3, help="trainings per device")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    devices: list[Device] = list(dict.fromkeys([options.device, "cpu"]))
    floor = Variant("cpu", 1)
    variants = list(dict.fromkeys([Variant(options.device, 1), floor, Variant("cpu", 4)]))

    served = serving_table(serving(variants, options.rounds, options.seconds), floor)
    passes = "\n".join(forward_passes(devices, options.rounds))
    facts = f"medians of {options.rounds} rounds of {options.seconds:g} s each, in turn"
    sections = [
        f"{accelerator(options.device)}; {describe('torch', 'onnxruntime', 'uvicorn')}; {facts}.",
        served,
        passes,
    ]
    if folder := os.environ.get("PERCEPTD_MNIST_DIR"):
        sections.append("\n".join(trainings(devices, Path(folder), options.repeats)))
    else:
        print("PERCEPTD_MNIST_DIR is not set: no training is measured")
    text = "\n\n".join(sections) + "\n"
    options.results.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
