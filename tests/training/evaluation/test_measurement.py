"""`evaluate` measures checkpoints on the same rows, by the graph that serves."""

from pathlib import Path

import numpy as np
import pytest

from perceptd.models import checkpoint
from perceptd.models.checkpoint import WEIGHTS
from perceptd.training import description
from tests.command_line import perceptd

PRETRAINED = Path(checkpoint.__file__).parent / "pretrained"
DNN = PRETRAINED / "dnn"


def test_checkpoints_are_measured_in_their_order_on_the_same_rows(wide_dnn: Path) -> None:
    outcome = perceptd("evaluate", wide_dnn, DNN, "--progress", "json")

    assert (outcome.exit_code, outcome.stderr) == (0, "")
    wide, shipped = outcome.events
    meta = checkpoint.read(DNN)
    assert meta.dataset is not None
    assert [wide["path"], shipped["path"]] == [str(wide_dnn), str(DNN)]
    assert wide["event"] == shipped["event"] == "metrics"
    assert wide["dataset"] == shipped["dataset"] == meta.dataset.model_dump()
    assert wide["sha256"] == checkpoint.read(wide_dnn).weights_sha256
    assert shipped["sha256"] == meta.weights_sha256
    assert shipped["metrics"].keys() == description.describe("dnn", {}).metrics.keys()
    for name, value in meta.metrics["test"].items():
        assert shipped["metrics"][name] == pytest.approx(value, abs=1e-6)
    assert wide["metrics"]["accuracy"] < shipped["metrics"]["accuracy"]


def test_named_data_set_replaces_the_recipes(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text(
        "x,y,label,split\n0,0,1,train\n0,0,1,test\n0.1,0,1,test\n2,2,1,test\n0,2,1,test\n"
    )

    (event,) = perceptd("evaluate", DNN, "--dataset", path, "--progress", "json").events

    assert event["dataset"]["name"] == "mine.csv"
    assert event["dataset"]["rows"] == {"train": 1, "test": 4}
    assert event["metrics"]["accuracy"] == event["metrics"]["recall:1"] == 0.5
    assert "recall:0" not in event["metrics"]


def test_corrections_count_among_the_held_out_rows(tmp_path: Path) -> None:
    path = tmp_path / "feedback.npz"
    np.savez(path, inputs=np.zeros((10, 2), dtype=np.float32), labels=np.array(["0"] * 10))

    plain, corrected = (
        perceptd("evaluate", DNN, *options, "--progress", "json").events[0]
        for options in ((), ("--feedback", path))
    )

    assert corrected["dataset"]["name"] == "circles+feedback"
    assert corrected["dataset"]["rows"]["test"] == 1002
    assert corrected["metrics"]["recall:0"] == pytest.approx(
        plain["metrics"]["recall:0"] * 500 / 502
    )


def test_bar_prints_a_line_per_checkpoint(wide_dnn: Path) -> None:
    outcome = perceptd("evaluate", DNN, wide_dnn)

    first, second = outcome.stdout.splitlines()
    assert first == (
        f"{DNN} on 1,000 rows of circles: loss 0.1537, accuracy 0.9530, "
        "balanced_accuracy 0.9530, f1_macro 0.9530, recall:0 0.9440, recall:1 0.9620"
    )
    assert second.startswith(f"{wide_dnn} on 1,000 rows of circles: loss ")


@pytest.mark.mnist
@pytest.mark.parametrize("name", ["mnist-mlp", "mnist-cnn"])
def test_graph_reads_mnist_as_the_module_did(name: str, mnist_dir: Path) -> None:
    outcome = perceptd("evaluate", PRETRAINED / name, "--data-dir", mnist_dir, "--progress", "json")

    (event,) = outcome.events

    meta = checkpoint.read(PRETRAINED / name)
    assert event["metrics"]["accuracy"] == meta.metrics["test"]["accuracy"]
    assert event["metrics"]["loss"] == pytest.approx(meta.metrics["test"]["loss"], rel=1e-4)


@pytest.mark.parametrize(
    ("name", "old", "new", "reason"),
    [
        (
            "xor",
            "",
            "",
            "is a xor, {} a dnn: only checkpoints of one architecture are compared",
        ),
        ("dnn", '"0",\n   "1"', '"1",\n   "0"', "has another input or other labels than {}"),
        (
            "dnn",
            '"minimum": null',
            '"minimum": 0.0',
            "has another input or other labels than {}",
        ),
    ],
)
def test_checkpoints_of_another_architecture_input_or_labels_are_not_compared(
    name: str, old: str, new: str, reason: str, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    checkpoint.copy(PRETRAINED / name, other)
    text = (other / checkpoint.META).read_text()
    assert old in text
    (other / checkpoint.META).write_text(text.replace(old, new) if old else text)

    outcome = perceptd("evaluate", DNN, other)

    assert (outcome.exit_code, outcome.stdout) == (1, "")
    assert outcome.stderr == f"Error: {other} {reason.format(DNN)}\n"


def test_altered_checkpoint_is_refused_before_any_is_measured(tmp_path: Path) -> None:
    altered = tmp_path / "altered"
    checkpoint.copy(DNN, altered)
    (altered / WEIGHTS).write_bytes(b"altered")

    outcome = perceptd("evaluate", DNN, altered)

    assert (outcome.exit_code, outcome.stdout) == (1, "")
    assert outcome.stderr.startswith(f"Error: {altered}: {WEIGHTS} was altered")


@pytest.mark.parametrize(
    ("arguments", "exit_code", "said"),
    [
        ([], 2, "Missing argument 'CHECKPOINTS...'"),
        ([DNN, "--recipe", "nope"], 2, "dnn has no recipe 'nope' (known: reference, fast)"),
        ([DNN, "--dataset", "digits"], 1, "Error: digits holds 28 x 28 pictures of 10 classes"),
        ([DNN, "--feedback", "absent.npz"], 1, "Error: absent.npz does not exist"),
        (["absent"], 1, "Error: absent: meta.json cannot be read"),
    ],
)
def test_wrong_arguments_are_refused(
    arguments: list[str | Path], exit_code: int, said: str
) -> None:
    outcome = perceptd("evaluate", *arguments)

    assert (outcome.exit_code, outcome.stdout) == (exit_code, "")
    assert said in outcome.stderr
