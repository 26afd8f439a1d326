"""The speed of `/predict` alone, while a job retrains the CNN, and while a thread trains it.

    python -m benchmarks.retraining [--rounds 3] [--seconds 8]

The load is wrk with one thread and keep-alive connections; a request is one image for the CNN as
784 JSON numbers. Three variants take turns:

- `alone`: perceptd, its worker idle.
- `job`: the same server while its worker runs a job of the CNN on MNIST.
- `thread`: the same application while a thread of its own process runs the same training loop.

MNIST is read from PERCEPTD_MNIST_DIR.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from benchmarks.load import Call, Load, load, require_wrk
from benchmarks.machine import describe
from benchmarks.servers import perceptd
from perceptd.models.networks.mnist import drawn_seven
from perceptd.service.auth import credentials
from perceptd.service.settings import Settings

RESULTS = Path(__file__).parent / "results" / "retraining.md"
CONNECTIONS = (1, 16)


@contextmanager
def job(url: str, token: str) -> Iterator[None]:
    """A job that trains the CNN and has finished its first epoch; cancelled after the block."""
    with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}) as client:
        body = {"model": "mnist-cnn", "epochs": 1000, "gate": "never"}
        number = client.post("/jobs", json=body).raise_for_status().json()["id"]
        while not client.get(f"/jobs/{number}").json()["progress"]:
            time.sleep(0.5)
        yield
        print("  epochs of the job:", epoch_seconds(client, number), flush=True)
        client.post(f"/jobs/{number}/cancel").raise_for_status()
        while client.get(f"/jobs/{number}").json()["status"] != "cancelled":
            time.sleep(0.1)


def epoch_seconds(client: httpx.Client, number: int) -> str:
    progress = client.get(f"/jobs/{number}").json()["progress"]
    return f"{progress['epoch']} in {progress['seconds']:.0f} s"


def measure(rounds: int, seconds: int) -> dict[tuple[str, int], list[Load]]:
    found: dict[tuple[str, int], list[Load]] = {}
    pixels = [round(value / 255, 4) for row in drawn_seven() for value in row]
    call = Call("/predict", json.dumps({"model": "mnist-cnn", "inputs": [pixels]}).encode())

    def take(name: str, url: str) -> None:
        for connections in CONNECTIONS:
            result = load(url, call, connections, seconds)
            print(f"  {name}, {connections}: {result}", flush=True)
            found.setdefault((name, connections), []).append(result)

    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder)
        for _ in range(rounds):
            with perceptd(store) as (url, _process):
                token = credentials.admin_token(Settings(data_dir=store)).get_secret_value()
                time.sleep(5)  # until the worker has registered and is idle
                take("alone", url)
                with job(url, token):
                    take("job", url)
            thread = [sys.executable, "-m", __spec__.name, "--thread"]
            with perceptd(store, thread) as (url, process):
                assert process.stdout
                process.stdout.readline()  # the first epoch has ended
                take("thread", url)
    return found


def serve_and_train() -> None:
    """Run the application, and a training in a thread of the same process."""
    import torch
    import uvicorn

    from perceptd.models import registry
    from perceptd.service.app import create_app
    from perceptd.training import recipes
    from perceptd.training.data import datasets
    from perceptd.training.train import train

    settings = Settings()

    def training() -> None:
        architecture = registry.load("mnist-cnn")
        recipe = recipes.of("mnist-cnn")["reference"].model_copy(update={"epochs": 1000})
        folder = Path(os.environ.get("PERCEPTD_MNIST_DIR", "data"))
        data = datasets.load("mnist", architecture.spec, folder)
        train(
            architecture,
            architecture.config(),
            recipe,
            data,
            device=torch.device("cpu"),
            report=lambda progress: print(progress.point.epoch, flush=True),
        )

    threading.Thread(target=training, daemon=True).start()
    uvicorn.run(create_app(settings), port=settings.port, log_level="warning", access_log=False)


def table(found: dict[tuple[str, int], list[Load]]) -> str:
    lines = [
        "| beside `/predict` | connections | answers per second | p50 ms | p99 ms "
        "| answers, of alone | p99, of alone | errors |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    titles = {
        "alone": "nothing",
        "job": "a job retrains the CNN",
        "thread": "a thread of the service trains it",
    }
    for (name, connections), loads in sorted(found.items(), key=lambda item: item[0][1]):
        alone = found["alone", connections]
        rate, p50, p99 = (
            statistics.median(getattr(one, figure) for one in loads)
            for figure in ("per_second", "p50_ms", "p99_ms")
        )
        base_rate = statistics.median(one.per_second for one in alone)
        base_p99 = statistics.median(one.p99_ms for one in alone)
        lines.append(
            f"| {titles[name]} | {connections} | {rate:,.0f} | {p50:.2f} | {p99:.2f} "
            f"| {rate / base_rate:.2f} | {p99 / base_p99:.2f} "
            f"| {sum(one.errors for one in loads)} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=8)
    parser.add_argument("--thread", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.thread:
        serve_and_train()
        return
    require_wrk()
    found = measure(options.rounds, options.seconds)
    facts = f"medians of {options.rounds} rounds of {options.seconds} s each, in turn"
    text = f"{describe('torch', 'onnxruntime', 'fastapi')}; {facts}.\n\n{table(found)}\n"
    RESULTS.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
