"""The effect of 300 corrections and one job on a digit style that the shipped CNN misreads.

    python -m benchmarks.corrections

All steps go through a running service: predict underlined digits, send 300 correct labels to
`POST /feedback`, run one job that starts from production, and predict again. MNIST is read from
PERCEPTD_MNIST_DIR.
"""

import os
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray

from benchmarks.machine import describe
from benchmarks.odd_digits import underlined
from benchmarks.servers import perceptd
from perceptd.service.auth import credentials
from perceptd.service.settings import Settings

RESULTS = Path(__file__).parent / "results" / "corrections.md"
MODEL = "mnist-cnn"
CORRECTIONS = 300
ROWS = 1000  # per request
JOB = {
    "model": MODEL,
    "recipe": "fast",
    "start_from": "production",
    "learning_rate": 0.0005,
    "include_feedback": True,
}

Pictures = NDArray[np.uint8]  # (N, 28, 28)
Labels = NDArray[np.uint8]  # (N,)


@dataclass(frozen=True)
class Result:
    """Accuracy through `POST /predict`, (before, after) the job, and the API's job object."""

    mnist: tuple[float, float]
    odd: tuple[float, float]
    job: dict[str, Any]


def read(raw: Path, part: str) -> tuple[Pictures, Labels]:
    """MNIST's pictures and labels, as in its files."""
    pictures = np.fromfile(raw / f"{part}-images-idx3-ubyte", dtype=np.uint8, offset=16)
    labels = np.fromfile(raw / f"{part}-labels-idx1-ubyte", dtype=np.uint8, offset=8)
    return pictures.reshape(-1, 28, 28), labels


def odd(pictures: Pictures) -> Pictures:
    ink = (pictures / np.float32(255)).astype(np.float32)
    return (underlined(ink) * 255).round().astype(np.uint8)


def accuracy(client: httpx.Client, pictures: Pictures, labels: Labels) -> float:
    answers: list[str] = []
    for first in range(0, len(pictures), ROWS):
        rows = pictures[first : first + ROWS].tolist()
        body = {"model": MODEL, "dtype": "uint8", "inputs": rows}
        predictions = client.post("/predict", json=body).raise_for_status().json()["predictions"]
        answers += [prediction["label"] for prediction in predictions]
    return float(np.mean(np.array(answers).astype(int) == labels))


def teach(client: httpx.Client, raw: Path) -> Result:
    """Send corrections for underlined training digits, retrain once, measure before and after."""
    tests, labels = read(raw, "t10k")
    mnist_before, odd_before = (accuracy(client, p, labels) for p in (tests, odd(tests)))

    pictures, right = (part[:CORRECTIONS] for part in read(raw, "train"))
    body = {
        "model": MODEL,
        "dtype": "uint8",
        "inputs": odd(pictures).tolist(),
        "labels": [str(label) for label in right],
    }
    client.post("/feedback", json=body).raise_for_status()
    number = client.post("/jobs", json=JOB).raise_for_status().json()["id"]
    while not (job := client.get(f"/jobs/{number}").json())["finished_at"]:
        time.sleep(0.5)
    if job["promotion"] != "promoted":
        raise SystemExit(f"the job was not promoted: {job['reason']}")
    while client.get(f"/models/{MODEL}").json()["version"] != job["version"]:
        time.sleep(0.1)
    mnist_after, odd_after = (accuracy(client, p, labels) for p in (tests, odd(tests)))
    return Result((mnist_before, mnist_after), (odd_before, odd_after), job)


def table(result: Result) -> str:
    gate = result.job["gate"]
    return "\n".join(
        (
            "| accuracy of the CNN | before | after |",
            "| --- | ---: | ---: |",
            f"| 10,000 MNIST test digits | {result.mnist[0]:.4f} | {result.mnist[1]:.4f} |",
            f"| the same, underlined | {result.odd[0]:.4f} | {result.odd[1]:.4f} |",
            f"| the gate: {gate['rows']:,} held-out rows of {gate['dataset']} "
            f"| {gate['production']:.4f} | {gate['candidate']:.4f} |",
        )
    )


def main() -> None:
    raw = Path(os.environ.get("PERCEPTD_MNIST_DIR", "data")) / "MNIST" / "raw"
    with TemporaryDirectory() as folder, perceptd(Path(folder)) as (url, _):
        token = credentials.admin_token(Settings(data_dir=Path(folder))).get_secret_value()
        headers = {"Authorization": f"Bearer {token}"}
        with httpx.Client(base_url=url, headers=headers, timeout=60) as client:
            result = teach(client, raw)
    facts = f"{CORRECTIONS} corrections, one job of {result.job['runtime_s']:.0f} s"
    text = f"{describe('torch', 'onnxruntime')}; {facts}.\n\n{table(result)}\n"
    RESULTS.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
