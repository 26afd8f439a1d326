"""The shipped checkpoints on the test digits of MNIST, over HTTP."""

import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from perceptd.models import checkpoint, preprocessing
from perceptd.models.drift import Bins
from perceptd.service.auth import credentials
from perceptd.service.settings import Settings
from perceptd.service.store.repository import PRETRAINED
from tests.server import running, workers
from tests.waiting import eventually

FOLDER = "PERCEPTD_MNIST_DIR"
ROWS = 1000  # per request

pytestmark = pytest.mark.mnist


@pytest.fixture(scope="module")
def digits() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The 10,000 test digits (N, 28, 28) and their labels (N,)."""
    raw = Path(os.environ.get(FOLDER, "data")) / "MNIST" / "raw"
    if not raw.is_dir():
        pytest.skip(f"{raw} is absent: {FOLDER} names the folder that holds MNIST/raw")
    pictures = np.fromfile(raw / "t10k-images-idx3-ubyte", dtype=np.uint8, offset=16)
    labels = np.fromfile(raw / "t10k-labels-idx1-ubyte", dtype=np.uint8, offset=8)
    return pictures.reshape(-1, 28, 28), labels


def labels_of(client: httpx.Client, path: str, **request: Any) -> list[int]:
    response = client.post(path, **request)
    assert response.status_code == 200, response.text
    return [int(prediction["label"]) for prediction in response.json()["predictions"]]


def accuracy_of(
    client: httpx.Client, model: str, pictures: NDArray[np.uint8], labels: NDArray[np.uint8]
) -> float:
    answers: list[int] = []
    for first in range(0, len(pictures), ROWS):
        rows = pictures[first : first + ROWS].tolist()
        body = {"model": model, "dtype": "uint8", "inputs": rows}
        answers += labels_of(client, "/predict", json=body)
    return float(np.mean(np.array(answers) == labels))


@pytest.mark.parametrize(("model", "accuracy"), [("mnist-mlp", 0.977), ("mnist-cnn", 0.989)])
def test_predict_reaches_the_reference_accuracy_on_all_test_digits(
    client: httpx.Client,
    digits: tuple[NDArray[np.uint8], NDArray[np.uint8]],
    model: str,
    accuracy: float,
) -> None:
    pictures, labels = digits
    measured = accuracy_of(client, model, pictures, labels)
    recorded = client.get(f"/models/{model}").json()["metrics"]["test"]["accuracy"]
    print(f"{model}: {measured:.4f} of {len(labels):,} test digits through POST /predict")
    assert measured >= accuracy
    assert measured == pytest.approx(recorded, abs=1e-4)


def test_numbers_bytes_and_a_picture_of_a_digit_get_the_same_answer(
    client: httpx.Client, digits: tuple[NDArray[np.uint8], NDArray[np.uint8]]
) -> None:
    pictures, labels = digits
    right = 0
    for picture, label in zip(pictures[:300], labels[:300].tolist(), strict=True):
        scaled = (picture / 255).round(4).tolist()
        as_numbers = labels_of(client, "/predict", json={"model": "mnist-cnn", "inputs": [scaled]})
        raw = {
            "content": picture.tobytes(),
            "headers": {"Content-Type": "application/octet-stream"},
        }
        assert labels_of(client, "/predict/image", **raw) == as_numbers
        file = io.BytesIO()
        Image.fromarray(255 - picture).resize((140, 140)).save(file, "PNG")
        right += labels_of(client, "/predict/image", files={"file": file.getvalue()}) == [label]
    assert right >= 0.97 * 300


def send(client: httpx.Client, picture: NDArray[np.uint8]) -> None:
    headers = {"Content-Type": "application/octet-stream"}
    client.post("/predict/image", content=picture.tobytes(), headers=headers).raise_for_status()


def verdict(client: httpx.Client) -> str:
    return str(client.get("/models/mnist-cnn/drift").raise_for_status().json()["verdict"])


def test_negatives_are_drift_within_a_thousand_requests_and_the_digits_never(
    serve: Callable[[Settings], httpx.Client],
    digits: tuple[NDArray[np.uint8], NDArray[np.uint8]],
    tmp_path: Path,
) -> None:
    pictures, _ = digits
    client = serve(Settings(data_dir=tmp_path))

    for number, picture in enumerate(pictures):
        send(client, picture)
        if number % 50 == 49:
            assert verdict(client) != "drifted", number
    assert verdict(client) == "stable"
    for needed, picture in enumerate(255 - pictures[:1000], 1):
        send(client, picture)
        if needed % 50 == 0 and verdict(client) == "drifted":
            break
    print(f"drifted after {needed} requests")
    assert verdict(client) == "drifted"

    fresh = serve(Settings(data_dir=tmp_path / "fresh"))
    for picture in 255 - pictures[:320]:
        send(fresh, picture)
    assert verdict(fresh) == "drifted"


@pytest.mark.parametrize("rows", [200, 1000, 4000])
def test_no_part_of_the_test_digits_is_drift(
    digits: tuple[NDArray[np.uint8], NDArray[np.uint8]], rows: int
) -> None:
    pictures, labels = digits
    meta = checkpoint.read(PRETRAINED / "mnist-cnn")
    assert meta.drift
    bins = Bins(meta.drift)
    inputs = preprocessing.from_pixels(meta.spec.input, pictures)
    for first in range(0, len(inputs) - rows + 1, 50):
        part = slice(first, first + rows)
        counted = bins.count(meta.spec.input, inputs[part], labels[part].astype(np.intp))
        assert not any(one.drifted for one in bins.measure(*counted)), first


def test_feedback_and_one_job_teach_an_odd_style_without_loss_on_mnist(
    digits: tuple[NDArray[np.uint8], NDArray[np.uint8]], tmp_path: Path
) -> None:
    raw = Path(os.environ[FOLDER]).resolve() / "MNIST" / "raw"
    settings = Settings(data_dir=tmp_path, mnist_dir=raw.parents[1])
    pictures, labels = digits
    with running(settings) as client, workers(settings, 1):
        token = credentials.admin_token(settings).get_secret_value()
        client.headers["Authorization"] = f"Bearer {token}"
        mnist_before = accuracy_of(client, "mnist-cnn", pictures, labels)
        odd_before = accuracy_of(client, "mnist-cnn", underlined(pictures), labels)
        teach(client, raw)
        mnist_after = accuracy_of(client, "mnist-cnn", pictures, labels)
        odd_after = accuracy_of(client, "mnist-cnn", underlined(pictures), labels)

    assert odd_before < 0.7
    assert odd_after > 0.95
    assert mnist_after >= mnist_before


def underlined(pictures: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The pictures (N, 28, 28), each with a thick line under its digit, as on a form.

    The shipped CNN misreads more than a third of them.
    """
    odd = pictures.copy()
    odd[:, 24:27, 3:25] = 255  # an MNIST digit ends in row 23 or above
    return odd


def teach(client: httpx.Client, raw: Path) -> None:
    """Correct 300 underlined training digits, and have one job promote a version."""
    pictures = np.fromfile(raw / "train-images-idx3-ubyte", np.uint8, 300 * 28 * 28, offset=16)
    labels = np.fromfile(raw / "train-labels-idx1-ubyte", np.uint8, 300, offset=8)
    rows = {"dtype": "uint8", "inputs": underlined(pictures.reshape(-1, 28, 28)).tolist()}
    body = {"model": "mnist-cnn", **rows, "labels": [str(label) for label in labels]}
    client.post("/feedback", json=body).raise_for_status()
    job: dict[str, Any] = {"model": "mnist-cnn", "recipe": "fast"}
    job |= {"start_from": "production", "learning_rate": 0.0005, "include_feedback": True}
    number = client.post("/jobs", json=job).raise_for_status().json()["id"]
    eventually(
        lambda: client.get(f"/jobs/{number}").json()["finished_at"], "the job ends", seconds=600
    )
    found = client.get(f"/jobs/{number}").json()
    assert found["promotion"] == "promoted", found["reason"]
    eventually(
        lambda: client.get("/models/mnist-cnn").json()["version"] == found["version"],
        "the server takes over the promoted version",
    )
