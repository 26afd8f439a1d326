"""Training on CUDA, from the command line and as a job."""

from pathlib import Path

import httpx
import numpy as np
import pytest

from perceptd.models import checkpoint
from perceptd.service.inference.runtimes import OnnxRuntime
from perceptd.training.data import datasets
from tests.accelerator.conftest import no_free_memory
from tests.command_line import perceptd
from tests.service.served import Served
from tests.waiting import eventually

pytestmark = pytest.mark.cuda

ENDED = ("succeeded", "failed", "cancelled")
ADMIN_TOKEN = "an-admin-token-of-a-test"


def test_a_model_trained_on_cuda_predicts_on_the_cpu(tmp_path: Path) -> None:
    outcome = perceptd(
        *("train", "mnist-cnn", "--dataset", "digits", "--recipe", "fast", "--epochs", "8"),
        *("--device", "cuda", "--out", tmp_path / "cnn"),
    )
    assert outcome.exit_code == 0, outcome.stderr
    assert "mnist-cnn on cuda" in outcome.stdout + outcome.stderr
    meta = checkpoint.read(tmp_path / "cnn")
    assert meta.metrics["test"]["accuracy"] > 0.9
    data = datasets.load("digits", meta.spec, tmp_path)
    runtime = OnnxRuntime(tmp_path / "cnn", meta, threads=1)
    predicted = runtime.run(data.test.inputs).argmax(axis=1)
    accuracy = float(np.mean(predicted == data.test.targets))
    assert accuracy == pytest.approx(meta.metrics["test"]["accuracy"], abs=0.005)


def test_a_training_without_device_memory_fails_with_one_sentence(tmp_path: Path) -> None:
    with no_free_memory():
        outcome = perceptd(
            *("train", "mnist-cnn", "--dataset", "digits", "--recipe", "fast", "--epochs", "1"),
            *("--device", "cuda", "--out", tmp_path / "cnn"),
        )
    assert outcome.exit_code != 0
    assert "not enough memory" in outcome.stderr
    assert "Traceback" not in outcome.stderr
    assert not (tmp_path / "cnn").exists()


def test_a_job_beside_a_server_on_cuda_trains_and_its_version_serves_there(tmp_path: Path) -> None:
    served = Served(
        tmp_path,
        *("--device", "cuda"),
        PERCEPTD_PROCESSES="1",
        PERCEPTD_WORKERS="1",
        PERCEPTD_ADMIN_TOKEN=ADMIN_TOKEN,
    )
    try:
        headers = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
        with httpx.Client(base_url=served.url, headers=headers, timeout=30) as client:
            body = {"model": "dnn", "recipe": "fast", "seed": 1, "gate": "always"}
            job = client.post("/jobs", json=body).raise_for_status().headers["location"]
            eventually(
                lambda: client.get(job).json()["status"] in ENDED, "the job ends", log=served.log
            )
            ended = client.get(job).json()
            assert (ended["status"], ended["promotion"]) == ("succeeded", "promoted"), ended
            model = client.get("/models/dnn").json()
            assert (model["device"], model["runtime"]) == ("cuda", "torch")
            example = model["example"]
            eventually(
                lambda: client.post("/predict", json=example).json()["version"] == 2,
                "version 2 serves",
                seconds=10,
                log=served.log,
            )
    finally:
        served.end()
