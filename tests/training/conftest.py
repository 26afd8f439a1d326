"""Checkpoints that more than one test reads, and MNIST."""

import os
from contextlib import chdir
from pathlib import Path

import pytest
from torchvision.datasets import MNIST

from tests.command_line import Outcome, perceptd
from tests.plug_ins import SPIRAL as SPIRAL
from tests.plug_ins import Package as Package
from tests.plug_ins import package as package


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Outcome]]:
    """Two trainings of the perceptron by its reference recipe, to wherever they go by default."""
    folder = tmp_path_factory.mktemp("runs")
    with chdir(folder):
        return folder, [perceptd("train", "perceptron", "--progress", "json") for _ in range(2)]


@pytest.fixture(scope="session")
def wide_dnn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a dnn with settings of its own."""
    target = tmp_path_factory.mktemp("wide") / "dnn"
    settings = ["--set", "hidden=8", "--set", "activation=tanh"]
    outcome = perceptd("train", "dnn", "--epochs", "5", *settings, "--out", target)
    assert outcome.exit_code == 0, outcome.stderr
    return target


@pytest.fixture
def no_mnist_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """A download of MNIST fails at once, with or without a network."""
    monkeypatch.setattr(MNIST, "mirrors", ["http://127.0.0.1:9/"])


@pytest.fixture(scope="session")
def mnist_dir() -> Path:
    """The folder that holds MNIST/raw; skips where there is none."""
    folder = os.environ.get("PERCEPTD_MNIST_DIR")
    if not folder or not (Path(folder) / "MNIST" / "raw").is_dir():
        pytest.skip("PERCEPTD_MNIST_DIR names no folder with MNIST/raw in it")
    return Path(folder)
