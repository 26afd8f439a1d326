"""The command line: what it writes, what it tells, and what it refuses."""

import json
from contextlib import chdir
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from torch import nn

from perceptd.models import checkpoint, registry
from perceptd.models.checkpoint import META, WEIGHTS
from perceptd.training.data import datasets
from tests.training.conftest import SPIRAL, Outcome, Package, command


@pytest.fixture
def spiral_package(package: Package) -> None:
    """An installed package that brings an architecture with its recipe."""
    package(
        "spiral_plug_in",
        SPIRAL,
        models={"spiral": "spiral_plug_in:ARCHITECTURE"},
        recipes={"spiral": "spiral_plug_in:RECIPES"},
    )


def test_training_goes_to_the_next_free_folder(runs: tuple[Path, list[Outcome]]) -> None:
    folder, outcomes = runs

    assert [outcome.exit_code for outcome in outcomes] == [0, 0]
    assert [outcome.events[-1]["path"] for outcome in outcomes] == [
        "runs/perceptron/1",
        "runs/perceptron/2",
    ]
    assert sorted(path.name for path in (folder / "runs" / "perceptron").iterdir()) == ["1", "2"]


def test_two_runs_train_the_same_weights(runs: tuple[Path, list[Outcome]]) -> None:
    folder, outcomes = runs
    one, two = (checkpoint.read(folder / "runs" / "perceptron" / name) for name in ("1", "2"))

    assert one.weights_sha256 == two.weights_sha256
    assert one.curve == two.curve
    assert [outcome.events[-1]["sha256"] for outcome in outcomes] == [one.weights_sha256] * 2
    assert one.files == two.files  # the graph and the pictures, too


def test_json_progress_is_complete(runs: tuple[Path, list[Outcome]]) -> None:
    folder, (outcome, _) = runs
    meta = checkpoint.read(folder / "runs" / "perceptron" / "1")

    started, plane, *told, last = outcome.events

    assert [event["event"] for event in (started, plane, last)] == [
        "started",
        "plane",
        "checkpoint",
    ]
    assert {event["event"] for event in told} - {"step"} == {"epoch", "boundary"}
    epochs = [event for event in told if event["event"] == "epoch"]
    assert (started["model"], started["device"], started["epoch"]) == ("perceptron", "cpu", 0)
    assert started["recipe"] == meta.recipe
    assert meta.dataset is not None
    assert started["dataset"] == meta.dataset.model_dump()
    assert [event["epoch"] for event in epochs] == [point.epoch for point in meta.curve]
    assert (epochs[0]["epoch"], epochs[-1]["epoch"]) == (1, 1000)
    for event, point in zip(epochs, meta.curve, strict=True):
        assert {key: event[key] for key in point.model_dump()} == point.model_dump()
        assert event["epochs"] == 1000
        assert min(event["seconds"], event["seconds_left"]) >= 0
    assert last["metrics"] == meta.metrics
    assert outcome.stderr == ""


def test_json_progress_tells_the_plane_and_how_its_division_moves(
    runs: tuple[Path, list[Outcome]],
) -> None:
    folder, (outcome, _) = runs
    plots = folder / "runs" / "perceptron" / "1" / "plots"

    _, plane, *told, _ = outcome.events

    assert plane == {"event": "plane", **json.loads((plots / "boundary.json").read_text())}
    boundaries = [event for event in told if event["event"] == "boundary"]
    assert len(boundaries) == 40
    assert (boundaries[0]["epoch"], boundaries[-1]["epoch"]) == (1, 1000)
    for event in boundaries:
        before = told[told.index(event) - 1]
        assert (before["event"], before["epoch"]) == ("epoch", event["epoch"])
        assert event.keys() == {"event", "epoch", "size", "probabilities"}
        assert (event["size"], len(event["probabilities"])) == (32, 32 * 32)

    weights = checkpoint.read_weights(plots.parent)
    x, y = np.meshgrid(*(np.linspace(plane[axis][0], plane[axis][1], 32) for axis in ("x", "y")))
    z = np.stack([x, y], axis=-1) @ weights["linear.weight"][0] + weights["linear.bias"]
    of_class_1 = 255 / (1 + np.exp(-z.ravel()))
    np.testing.assert_allclose(boundaries[-1]["probabilities"], of_class_1, atol=0.51)


def test_people_are_told_neither_plane_nor_boundaries_and_train_the_same_weights(
    runs: tuple[Path, list[Outcome]], tmp_path: Path
) -> None:
    _, (outcome, _) = runs

    told = command("train", "perceptron", "--out", tmp_path / "out")

    assert len(told.stdout.splitlines()) == 2
    assert checkpoint.read(tmp_path / "out").weights_sha256 == outcome.events[-1]["sha256"]


def test_checkpoint_tells_where_it_comes_from(runs: tuple[Path, list[Outcome]]) -> None:
    folder, _ = runs
    meta = checkpoint.read(folder / "runs" / "perceptron" / "1")

    assert (meta.architecture, meta.config, meta.parent_sha256) == ("perceptron", {}, None)
    assert meta.spec == registry.load("perceptron").spec
    assert meta.recipe is not None
    assert (meta.recipe["dataset"], meta.recipe["epochs"], meta.recipe["seed"]) == (
        "blobs",
        1000,
        2,
    )
    data = datasets.load("blobs", meta.spec, Path("unused"))
    assert meta.dataset == data.ref
    assert meta.metrics.keys() == {"train", "test"}
    assert meta.libraries["torch"] == version("torch")
    assert {"python", "onnxruntime", "numpy"} <= meta.libraries.keys()
    assert meta.created_at.utcoffset() is not None


def test_metrics_are_those_of_the_weights_that_were_written(
    runs: tuple[Path, list[Outcome]],
) -> None:
    folder, _ = runs
    meta = checkpoint.read(folder / "runs" / "perceptron" / "1")
    weights = checkpoint.read_weights(folder / "runs" / "perceptron" / "1")
    test = datasets.load("blobs", meta.spec, Path("unused")).test

    z = test.inputs @ weights["linear.weight"][0] + weights["linear.bias"]

    assert meta.metrics["test"]["accuracy"] == ((z >= 0) == test.targets).mean()


def test_settings_of_the_network_are_recorded(wide_dnn: Path) -> None:
    meta = checkpoint.read(wide_dnn)

    assert meta.config == {"hidden": 8, "activation": "tanh"}
    assert meta.tensors["linear1.weight"] == [8, 2]


def test_bar_tells_people_what_is_done(tmp_path: Path) -> None:
    outcome = command("train", "perceptron", "--epochs", "3", "--out", tmp_path / "out")

    first, *_, last = outcome.stdout.splitlines()
    assert first == "perceptron on cpu: 100 rows of blobs, 3 epochs"
    assert last.startswith(f"{tmp_path / 'out'}: perceptron, train loss 0.6")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_training_from_a_checkpoint_goes_on_from_its_weights(
    wide_dnn: Path, tmp_path: Path
) -> None:
    parent = checkpoint.read(wide_dnn)

    outcome = command(
        *("train", "dnn", "--start-from", wide_dnn, "--epochs", "3"),
        *("--progress", "json", "--out", tmp_path / "out"),
    )

    assert outcome.exit_code == 0, outcome.stderr
    child = checkpoint.read(tmp_path / "out")
    assert child.parent_sha256 == parent.weights_sha256
    assert child.config == parent.config
    assert child.weights_sha256 != parent.weights_sha256
    # A full batch: the loss of the first epoch is that before the first step.
    assert child.curve[0].loss == pytest.approx(parent.metrics["train"]["loss"], rel=1e-6)
    assert child.metrics["train"]["loss"] < parent.metrics["train"]["loss"]


def test_training_from_another_models_checkpoint_is_refused(wide_dnn: Path, tmp_path: Path) -> None:
    outcome = command("train", "xor", "--start-from", wide_dnn, "--out", tmp_path / "out")

    assert (outcome.exit_code, outcome.stdout) == (1, "")
    assert outcome.stderr == f"Error: xor cannot start from {wide_dnn}, a checkpoint of dnn\n"
    assert list(tmp_path.iterdir()) == []


def test_training_from_an_altered_checkpoint_is_refused(wide_dnn: Path, tmp_path: Path) -> None:
    folder = tmp_path / "parent"
    checkpoint.copy(wide_dnn, folder)
    (folder / WEIGHTS).write_bytes(b"altered")

    outcome = command("train", "dnn", "--start-from", folder, "--out", tmp_path / "out")

    assert outcome.exit_code == 1
    assert outcome.stderr.startswith(f"Error: {folder}: {WEIGHTS} was altered")


def test_plug_in_is_trained_like_a_built_in(spiral_package: None, tmp_path: Path) -> None:
    outcome = command("train", "spiral", "--out", tmp_path / "out")

    assert outcome.exit_code == 0, outcome.stderr
    meta = checkpoint.read(tmp_path / "out")
    assert (meta.architecture, meta.spec.labels) == ("spiral", ("a", "b", "c"))
    assert meta.recipe is not None
    assert meta.recipe["dataset"] == "arms"
    assert meta.metrics["train"]["accuracy"] > 0.8
    assert [name for name in meta.files if name.startswith("plots/")] == [
        "plots/loss.png",
        "plots/loss.svg",
    ]
    assert "spiral" in command("train", "--help").stdout


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--epochs", "0"], "--epochs: Input should be greater than or equal to 1, got 0"),
        (["--epochs", "many"], "'--epochs': 'many' is not a valid integer"),
        (["--learning-rate", "-1"], "--learning-rate: Input should be greater than 0, got -1.0"),
        (["--learning-rate", "nan"], "--learning-rate: "),
        (["--batch-size", "0"], "--batch-size: Input should be greater than or equal to 1, got 0"),
        (["--seed", "-1"], "--seed: Input should be greater than or equal to 0, got -1"),
        (["--recipe", "nope"], "--recipe: dnn has no recipe 'nope' (known: reference, fast)"),
        (["--device", "nonsense"], "--device: 'nonsense': "),
        (["--device", "meta"], "--device: 'meta': "),
        (["--progress", "xml"], "'--progress': 'xml' is not one of 'bar', 'json'"),
        (["--set", "hidden"], "'--set': 'hidden': expected NAME=VALUE, such as hidden=8"),
        (["--set", "hidden=0"], "--set hidden: Input should be greater than or equal to 1, got 0"),
        (["--set", "activation=gelu"], "--set activation: Input should be 'sigmoid', 'tanh', "),
        (
            ["--set", "width=3"],
            "--set width: the model has no such setting (known: hidden, activation)",
        ),
    ],
)
def test_wrong_option_is_named_and_nothing_is_written(
    arguments: list[str], reason: str, tmp_path: Path
) -> None:
    outcome = command("train", "dnn", *arguments, "--out", tmp_path / "out")

    assert (outcome.exit_code, outcome.stdout) == (2, "")
    assert f"Invalid value for {reason}" in outcome.stderr
    assert list(tmp_path.iterdir()) == []


def test_setting_of_a_model_without_any_is_told() -> None:
    outcome = command("train", "perceptron", "--set", "hidden=8")

    assert outcome.exit_code == 2
    assert "the model has no such setting (known: none)" in outcome.stderr


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--out", "taken"], "taken exists, and a checkpoint is never overwritten"),
        (["--out", "taken/file"], "taken/file exists, and a checkpoint is never overwritten"),
        (
            ["--start-from", "absent"],
            "absent: meta.json cannot be read (No such file or directory)",
        ),
        (["--dataset", "cifar"], "no data set is called 'cifar'; known: "),
        (["--dataset", "absent.csv"], "absent.csv does not exist or is not a file"),
        (["--dataset", "digits"], "digits holds 28 x 28 pictures of 10 classes, the model takes "),
        (["--dataset", "taken/bad.csv"], "taken/bad.csv: rows: expected finite numbers, got NaN"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_nothing_is_written(
    arguments: list[str], reason: str, tmp_path: Path
) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").write_text("mine")
    (tmp_path / "taken" / "bad.csv").write_text("x,y,label\n1,nan,0\n")
    before = sorted(tmp_path.rglob("*"))

    with chdir(tmp_path):
        outcome = command("train", "dnn", *arguments)

    assert (outcome.exit_code, outcome.stdout) == (1, "")
    assert outcome.stderr.startswith(f"Error: {reason}")
    assert outcome.stderr.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_place_where_nothing_can_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")

    outcome = command("train", "perceptron", "--epochs", "2", "--out", tmp_path / "file" / "out")

    assert outcome.exit_code == 1
    assert outcome.stderr.startswith("Error: ")
    assert str(tmp_path / "file") in outcome.stderr
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.usefixtures("no_mnist_server")
def test_absent_mnist_is_told_and_leaves_no_trace(tmp_path: Path) -> None:
    outcome = command("train", "mnist-mlp", "--data-dir", tmp_path, "--out", tmp_path / "out")

    assert outcome.exit_code == 1
    assert outcome.stderr.startswith(f"Error: MNIST is not in {tmp_path} and cannot be downloaded")
    assert list(tmp_path.iterdir()) == []


def test_import_tells_programs_what_a_training_tells_them(
    runs: tuple[Path, list[Outcome]], tmp_path: Path
) -> None:
    folder, (training, _) = runs
    weights = folder / "runs" / "perceptron" / "1" / WEIGHTS

    outcome = command(
        *("import", "perceptron", weights, "--out", tmp_path / "out", "--progress", "json")
    )

    assert (outcome.exit_code, outcome.stderr) == (0, "")
    (event,) = outcome.events
    trained = training.events[-1]
    assert event.keys() == trained.keys()
    assert (event["event"], event["path"]) == ("checkpoint", str(tmp_path / "out"))
    assert (event["sha256"], event["metrics"]) == (trained["sha256"], trained["metrics"])


def test_import_tells_people_in_one_line(runs: tuple[Path, list[Outcome]], tmp_path: Path) -> None:
    folder, _ = runs
    weights = folder / "runs" / "perceptron" / "1" / WEIGHTS

    outcome = command("import", "perceptron", weights, "--out", tmp_path / "out")

    assert outcome.stdout.startswith(
        f"{tmp_path / 'out'}: perceptron (nothing to set) from {weights}, train loss 0.25"
    )
    assert outcome.stdout.count("\n") == 1


def test_imported_weights_become_a_checkpoint_with_metrics(tmp_path: Path) -> None:
    linear = nn.Linear(2, 1)
    state_dict = {"linear.weight": torch.tensor([[5.0, -5.0]]), "linear.bias": torch.zeros(1)}
    assert {f"linear.{key}" for key in linear.state_dict()} == set(state_dict)
    torch.save({"model_state_dict": state_dict}, tmp_path / "theirs.pt")

    outcome = command("import", "perceptron", tmp_path / "theirs.pt", "--out", tmp_path / "out")

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

    outcome = command(
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
        outcome = command("import", model, file, "--out", "out")

    assert (outcome.exit_code, outcome.stdout) == (1, "")
    assert outcome.stderr.startswith(f"Error: {reason}")
    assert [path.name for path in tmp_path.iterdir()] == ["dnn.pt"]


def test_checkpoint_folder_holds_nothing_but_its_files(wide_dnn: Path) -> None:
    meta = checkpoint.read(wide_dnn)

    found = {p.relative_to(wide_dnn).as_posix() for p in wide_dnn.rglob("*") if p.is_file()}
    assert found == {META, *meta.files}
    assert list(wide_dnn.parent.iterdir()) == [wide_dnn]
