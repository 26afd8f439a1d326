"""The command line in this process, checkpoints that more than one test reads, and MNIST."""

import io
import json
import os
import signal
from contextlib import chdir, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from torchvision.datasets import MNIST

from perceptd.__main__ import main
from tests.plug_ins import SPIRAL as SPIRAL
from tests.plug_ins import Package as Package
from tests.plug_ins import package as package


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
