"""`perceptd import`: the checkpoint it writes, the progress it reports and what it refuses."""

from contextlib import chdir
from pathlib import Path

import pytest
import torch
from numpy.testing import assert_array_equal
from torch import nn

from perceptd.models import checkpoint, registry
from perceptd.models.checkpoint import WEIGHTS
from tests.command_line import Outcome, perceptd


def test_import_reports_json_like_a_training(
    runs: tuple[Path, list[Outcome]], tmp_path: Path
) -> None:
    folder, (training, _) = runs
    weights = folder / "runs" / "perceptron" / "1" / WEIGHTS

    outcome = perceptd(
        *("import", "perceptron", weights, "--out", tmp_path / "out", "--progress", "json")
    )

    assert (outcome.exit_code, outcome.stderr) == (0, "")
    (event,) = outcome.events
    trained = training.events[-1]
    assert event.keys() == trained.keys()
    assert (event["event"], event["path"]) == ("checkpoint", str(tmp_path / "out"))
    assert (event["sha256"], event["metrics"]) == (trained["sha256"], trained["metrics"])


def test_import_prints_one_line(runs: tuple[Path, list[Outcome]], tmp_path: Path) -> None:
    folder, _ = runs
    weights = folder / "runs" / "perceptron" / "1" / WEIGHTS

    outcome = perceptd("import", "perceptron", weights, "--out", tmp_path / "out")

    assert outcome.stdout.startswith(
        f"{tmp_path / 'out'}: perceptron (nothing to set) from {weights}, train loss 0.25"
    )
    assert outcome.stdout.count("\n") == 1


def test_imported_weights_become_a_checkpoint_with_metrics(tmp_path: Path) -> None:
    linear = nn.Linear(2, 1)
    state_dict = {"linear.weight": torch.tensor([[5.0, -5.0]]), "linear.bias": torch.zeros(1)}
    assert {f"linear.{key}" for key in linear.state_dict()} == set(state_dict)
    torch.save({"model_state_dict": state_dict}, tmp_path / "theirs.pt")

    outcome = perceptd("import", "perceptron", tmp_path / "theirs.pt", "--out", tmp_path / "out")

    assert outcome.exit_code == 0, outcome.stderr
    meta = checkpoint.read(tmp_path / "out")
    assert (meta.recipe, meta.curve) == (None, [])
    assert meta.dataset is not None
    assert meta.dataset.name == "blobs"  # what the reference recipe trains on
    assert meta.metrics["test"]["accuracy"] > 0.95
    weights = checkpoint.read_weights(tmp_path / "out")
    assert_array_equal(weights["linear.weight"], [[5, -5]])
    assert {path.name for path in (tmp_path / "out" / "plots").iterdir()} == {
        "boundary.json",
        "boundary.png",
        "boundary.svg",
    }


@pytest.mark.usefixtures("no_mnist_server")
def test_import_without_data_is_not_evaluated_and_says_so(tmp_path: Path) -> None:
    architecture = registry.load("mnist-mlp")
    module = architecture.module(architecture.config.model_validate({"hidden": 4}))
    torch.save(module.state_dict(), tmp_path / "theirs.pt")

    outcome = perceptd(
        *("import", "mnist-mlp", tmp_path / "theirs.pt", "--set", "hidden=4"),
        *("--data-dir", tmp_path / "data", "--out", tmp_path / "out"),
    )

    assert outcome.exit_code == 0, outcome.stderr
    assert "Not evaluated: MNIST is not in" in outcome.stderr
    meta = checkpoint.read(tmp_path / "out")
    assert (meta.metrics, meta.dataset, meta.config["hidden"]) == ({}, None, 4)


@pytest.mark.parametrize(
    ("model", "file", "reason"),
    [
        ("perceptron", "absent.pt", "absent.pt does not exist"),
        ("perceptron", "dnn.pt", "dnn.pt does not fit perceptron with {}: missing linear.bias"),
    ],
)
def test_import_that_does_not_fit_is_refused_and_nothing_is_written(
    model: str, file: str, reason: str, tmp_path: Path
) -> None:
    architecture = registry.load("dnn")
    torch.save(architecture.module(architecture.config()).state_dict(), tmp_path / "dnn.pt")

    with chdir(tmp_path):
        outcome = perceptd("import", model, file, "--out", "out")

    assert (outcome.exit_code, outcome.stdout) == (1, "")
    assert outcome.stderr.startswith(f"Error: {reason}")
    assert [path.name for path in tmp_path.iterdir()] == ["dnn.pt"]
