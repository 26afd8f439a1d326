"""A model of one's own, exactly as the documentation shows it: installed, trained, served."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from perceptd.service.commands.common import existing_store, opened_store
from perceptd.service.jobs.trainables import Trainables
from perceptd.service.settings import Settings
from tests.documents.pages import file_of
from tests.waiting import eventually

pytestmark = pytest.mark.documents

PAGE = "docs/own-model.md"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the page's package was installed into by pip."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("installed")
    for name in ("spiral.py", "pyproject.toml"):
        (source / name).write_text(file_of(PAGE, f"spiral/{name}"))
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    options = ["--no-build-isolation", "--disable-pip-version-check", "--target", str(target)]
    subprocess.run([*pip, *options, str(source)], check=True)
    return target


def run(*args: str | Path, plugin: Path, cwd: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *map(str, args)],
        env={**os.environ, "PYTHONPATH": str(plugin)},
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def trained(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which the plug-in was trained, to runs/spiral/1."""
    folder = tmp_path_factory.mktemp("trained")
    printed = run("perceptd", "train", "spiral", plugin=installed, cwd=folder)
    assert float(printed.split("accuracy ")[-1].split(",")[0]) > 0.95
    return folder


def test_a_plugin_is_trained_and_served_without_a_change_here(
    installed: Path, trained: Path, serve: Callable[[Settings], httpx.Client]
) -> None:
    assert (trained / "runs/spiral/1/plots/loss.svg").exists()
    added = run("perceptd", "models", "add", "runs/spiral/1", plugin=installed, cwd=trained)
    assert added == "spiral version 1, production, in data\n"

    client = serve(Settings(data_dir=trained / "data"))

    assert "spiral" not in sys.modules
    answer = client.post("/predict_proba", json={"model": "spiral", "inputs": [[0.5, 0.5]]})
    (prediction,) = answer.json()["predictions"]
    assert prediction["probabilities"].keys() == {"red", "green", "blue"}
    assert prediction["label"] == max(
        prediction["probabilities"], key=prediction["probabilities"].__getitem__
    )
    document = client.get("/openapi.json").json()
    assert document["components"]["schemas"]["PredictSpiralRequest"]


def test_a_plugin_runs_on_torch_too(installed: Path, trained: Path) -> None:
    script = """
import sys
from pathlib import Path
import numpy as np
from perceptd.models import checkpoint
from perceptd.service.inference.runtimes import OnnxRuntime, TorchRuntime
folder = Path("runs/spiral/1")
meta = checkpoint.read(folder)
rows = np.random.default_rng(0).normal(size=(9, 2)).astype(np.float32)
torch = TorchRuntime(folder, meta, "cpu", 1, len(rows)).run(rows)
np.testing.assert_allclose(torch, OnnxRuntime(folder, meta, 1).run(rows), atol=1e-5)
"""
    (trained / "compare.py").write_text(script)
    run("compare", plugin=installed, cwd=trained)


def test_a_worker_says_that_a_plugin_can_be_trained_whatever_else_it_says(
    installed: Path, tmp_path: Path
) -> None:
    settings = Settings(data_dir=tmp_path / "data")
    worker = subprocess.Popen(
        [sys.executable, "-P", "-m", "perceptd", "worker"],
        # A package may warn when it is imported, on the same standard error.
        env={
            **os.environ,
            "PERCEPTD_DATA_DIR": str(settings.data_dir),
            "PYTHONPATH": str(installed),
            "PYTHONVERBOSE": "1",
        },
        stderr=subprocess.DEVNULL,
    )
    try:
        with opened_store(settings):
            pass
        with existing_store(settings) as database:
            trainables = Trainables(database)
            eventually(lambda: trainables.find("spiral"), "the worker knows spiral")
            spiral = trainables.find("spiral")
    finally:
        worker.terminate()
        worker.wait()
    assert spiral is not None
    assert spiral.recipes["reference"]["epochs"] == 300
    assert "recall:green" in spiral.metrics
