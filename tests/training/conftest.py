"""The command line in this process, checkpoints that more than one test reads, and MNIST."""

import io
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import chdir, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from torchvision.datasets import MNIST

from perceptd.__main__ import main

Package = Callable[..., None]

SPIRAL = """
import numpy as np
from torch import nn

from perceptd.models.registry import Architecture
from perceptd.models.spec import Example, InputSpec, ModelConfig, ModelSpec
from perceptd.training.recipes import Recipe
from perceptd.training.data.splits import Dataset, hold_out

def arms(spec, data_dir):
    inputs = np.random.default_rng(0).normal(size=(60, 2)).astype(np.float32)
    return hold_out("arms", inputs, (inputs[:, 0] > 0).astype(np.int64) + (inputs[:, 1] > 0))

ARCHITECTURE = Architecture(
    name="spiral",
    module=lambda config: nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 3)),
    config=ModelConfig,
    spec=ModelSpec(
        description="Three arms.",
        input=InputSpec(shape=(2,)),
        labels=("a", "b", "c"),
        head="softmax",
        example=Example(inputs=[[0.0, 0.0]]),
    ),
)
RECIPES = {
    "reference": Recipe(
        dataset=arms, optimizer="adam", learning_rate=0.05, epochs=60, batch_size=16, seed=0
    )
}
"""


@dataclass(frozen=True)
class Outcome:
    """How a `perceptd` command ended."""

    exit_code: int
    stdout: str
    stderr: str

    @property
    def events(self) -> list[dict[str, Any]]:
        """What `--progress json` said, one object per line."""
        return [json.loads(line) for line in self.stdout.splitlines()]


def command(*arguments: str | Path) -> Outcome:
    """Run `perceptd` with these arguments, in this process."""
    stdout, stderr = io.StringIO(), io.StringIO()
    handler = signal.getsignal(signal.SIGTERM)
    exit_code = 0
    try:
        with redirect_stdout(stdout), redirect_stderr(stderr):
            main([*map(str, arguments)], prog_name="perceptd")
    except SystemExit as end:
        exit_code = int(end.code or 0)
    finally:
        signal.signal(signal.SIGTERM, handler)
    return Outcome(exit_code, stdout.getvalue(), stderr.getvalue())


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Outcome]]:
    """Two trainings of the perceptron by its reference recipe, to wherever they go by default."""
    folder = tmp_path_factory.mktemp("runs")
    with chdir(folder):
        return folder, [command("train", "perceptron", "--progress", "json") for _ in range(2)]


@pytest.fixture(scope="session")
def wide_dnn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a dnn with settings of its own."""
    target = tmp_path_factory.mktemp("wide") / "dnn"
    settings = ["--set", "hidden=8", "--set", "activation=tanh"]
    outcome = command("train", "dnn", "--epochs", "5", *settings, "--out", target)
    assert outcome.exit_code == 0, outcome.stderr
    return target


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Package]:
    """Install a package of one module with entry points, each group's by its last name."""
    installed = []

    def install(module: str, code: str, **groups: dict[str, str]) -> None:
        info = tmp_path / f"site-{module}" / f"{module}-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
        lines = [
            line
            for group, entries in groups.items()
            for line in (f"[perceptd.{group}]", *(f"{k} = {v}" for k, v in entries.items()))
        ]
        (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
        (info.parent / f"{module}.py").write_text(code)
        monkeypatch.syspath_prepend(info.parent)
        installed.append(module)

    yield install
    for module in installed:
        sys.modules.pop(module, None)


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
