"""Predictions and trainings of the CNN on an accelerator, beside the CPU of the same machine.

    python -m benchmarks.accelerator [--device cuda] [--rounds 5] [--seconds 2] [--repeats 5]

Serving: `/predict` of one server per variant, over loopback, with requests of 1, 64 and 1,024
images as whole numbers in JSON. Each client sends the next request as soon as the last one is
answered. The limits of the queue are raised, so that the CPU also answers every request.

Forward pass: the runtime alone, without HTTP, per batch size.

Training: the recipe `fast` on MNIST, until the test accuracy is 0.989; seconds are counted from
reading the files to the end of that epoch. It is left out where PERCEPTD_MNIST_DIR is not set.
"""

import argparse
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch

from benchmarks import closed_loop
from benchmarks.load import Call, Load
from benchmarks.report import machine, publish, spread, table
from benchmarks.servers import PORT, alone, perceptd
from benchmarks.training import TARGETS, by_recipe, first, seeded
from benchmarks.works import PRETRAINED, digits
from perceptd.models import checkpoint
from perceptd.service.inference import runtimes
from perceptd.service.inference.runtimes import Device, RuntimeName
from perceptd.training import recipes

MODEL = "mnist-cnn"
LOADS = ((1, 1), (1, 64), (1, 1024), (64, 1), (64, 64), (1024, 1), (1024, 4))  # rows, connections
BATCHES = (1, 64, 256, 1024)
PASSES = 20  # forward passes per measurement
WARM_UP_S = 1.0


@dataclass(frozen=True)
class Variant:
    """A server: where the model runs, and in how many processes."""

    device: Device
    processes: int

    @property
    def title(self) -> str:
        return f"{self.device}, {self.processes} process" + ("es" if self.processes > 1 else "")


Served = dict[tuple[int, int, Variant], list[Load]]  # by rows, connections and server


def body(rows: int) -> bytes:
    inputs = digits(rows).tolist()
    return json.dumps({"model": MODEL, "dtype": "uint8", "inputs": inputs}).encode()


def serving(variants: Sequence[Variant], rounds: int, seconds: float) -> Served:
    """Load each variant in turn, round after round."""
    found: Served = {}
    with tempfile.TemporaryDirectory() as store:
        for _ in range(rounds):
            for variant in variants:
                environment = {
                    **alone(Path(store)),
                    "PERCEPTD_DEVICE": variant.device,
                    "PERCEPTD_PROCESSES": str(variant.processes),
                    "PERCEPTD_MAX_QUEUE_WAIT_MS": "60000",
                    "PERCEPTD_MAX_QUEUE_SIZE": "100000",
                }
                with perceptd(environment):
                    for rows, connections in LOADS:
                        call = Call("/predict", body(rows))
                        seen = closed_loop.run(PORT, call, connections, seconds, WARM_UP_S)
                        print(f"  {variant.title}, {rows} x {connections}: {seen.load}", flush=True)
                        found.setdefault((rows, connections, variant), []).append(seen.load)
    return found


def serving_table(found: Served, floor: Variant) -> str:
    head = "images per request|connections|server|predictions per second, median (min to max)"
    columns = [*head.split("|"), "p50 ms", "p99 ms", "ratio to the CPU, one process", "errors"]
    lines = []
    for (rows, connections, variant), loads in sorted(found.items(), key=lambda item: item[0][:2]):
        rates = [one.per_second for one in loads]
        base = median(one.per_second for one in found[rows, connections, floor])
        figures = [
            spread([rows * rate for rate in rates]),
            f"{median(one.p50_ms for one in loads):.2f}",
            f"{median(one.p99_ms for one in loads):.2f}",
            f"{median(rates) / base:.2f}",
            str(sum(one.errors for one in loads)),
        ]
        lines.append([f"{rows:,}", f"{connections:,}", variant.title, *figures])
    return table(columns, lines, texts=3)


def forward_passes(devices: Sequence[Device], rounds: int) -> str:
    """A table of images per second that the runtimes compute, per batch size."""
    folder = PRETRAINED / MODEL
    meta = checkpoint.read(folder)
    names = {"cpu": "ONNX Runtime on the CPU, one thread"}
    lines = []
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
            lines.append([f"{size:,}", title, spread(rates)])
    head = ["images per batch", "runtime", "images per second, median (min to max)"]
    return table(head, lines, texts=2)


def trainings(devices: Sequence[Device], folder: Path, repeats: int) -> str:
    """A table of the time to the target accuracy, on each device."""
    target = TARGETS[MODEL]
    recipe = recipes.of(MODEL)["fast"]
    lines = []
    for device in devices:
        seconds, ends = [], []
        for repeat in range(repeats):
            points = by_recipe(MODEL, seeded(recipe, repeat), folder, torch.device(device))
            print(f"  {device} {points}", flush=True)
            ends.append(points[-1].accuracy)
            if point := first(points, target):
                seconds.append(point.seconds)
        times = spread(seconds, ".1f") if seconds else "not reached"
        lines.append([device, f"{len(seconds)} of {repeats}", times, spread(ends, ".4f")])
    reached = f"seconds until the test accuracy is {target}, median (min to max)"
    return table(["device", "runs", reached, "test accuracy at the end"], lines)


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
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--repeats", type=int, default=5, help="trainings per device")
    options = parser.parse_args()
    devices: list[Device] = list(dict.fromkeys([options.device, "cpu"]))
    floor = Variant("cpu", 1)
    variants = list(dict.fromkeys([Variant(options.device, 1), floor, Variant("cpu", 4)]))

    facts = f"medians of {options.rounds} rounds of {options.seconds:g} s each, in turn"
    sections = [
        f"{accelerator(options.device)}; {machine('torch', 'onnxruntime', 'uvicorn')}; {facts}.",
        serving_table(serving(variants, options.rounds, options.seconds), floor),
        forward_passes(devices, options.rounds),
    ]
    if folder := os.environ.get("PERCEPTD_MNIST_DIR"):
        sections.append(trainings(devices, Path(folder), options.repeats))
    else:
        print("PERCEPTD_MNIST_DIR is not set: no training is measured")
    publish("accelerator", *sections)


if __name__ == "__main__":
    main()
