"""`perceptd train`: the checkpoint it writes and the progress it reports."""

import json
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest

from perceptd.models import checkpoint, registry
from perceptd.models.checkpoint import META
from perceptd.training.data import datasets
from tests.command_line import Outcome, perceptd
from tests.training.conftest import SPIRAL, Package


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


def test_json_progress_has_the_plane_and_its_boundaries(
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


def test_bar_shows_neither_plane_nor_boundaries_and_the_weights_are_the_same(
    runs: tuple[Path, list[Outcome]], tmp_path: Path
) -> None:
    _, (outcome, _) = runs

    told = perceptd("train", "perceptron", "--out", tmp_path / "out")

    assert len(told.stdout.splitlines()) == 2
    assert checkpoint.read(tmp_path / "out").weights_sha256 == outcome.events[-1]["sha256"]


def test_checkpoint_names_its_recipe_data_and_libraries(runs: tuple[Path, list[Outcome]]) -> None:
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


def test_bar_shows_the_epochs_and_the_result(tmp_path: Path) -> None:
    outcome = perceptd("train", "perceptron", "--epochs", "3", "--out", tmp_path / "out")

    first, *_, last = outcome.stdout.splitlines()
    assert first == "perceptron on cpu: 100 rows of blobs, 3 epochs"
    assert last.startswith(f"{tmp_path / 'out'}: perceptron, train loss 0.6")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_training_from_a_checkpoint_goes_on_from_its_weights(
    wide_dnn: Path, tmp_path: Path
) -> None:
    parent = checkpoint.read(wide_dnn)

    outcome = perceptd(
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


def test_plug_in_is_trained_like_a_built_in(spiral_package: None, tmp_path: Path) -> None:
    outcome = perceptd("train", "spiral", "--out", tmp_path / "out")

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
    assert "spiral" in perceptd("train", "--help").stdout


def test_checkpoint_folder_holds_nothing_but_its_files(wide_dnn: Path) -> None:
    meta = checkpoint.read(wide_dnn)

    found = {p.relative_to(wide_dnn).as_posix() for p in wide_dnn.rglob("*") if p.is_file()}
    assert found == {META, *meta.files}
    assert list(wide_dnn.parent.iterdir()) == [wide_dnn]
