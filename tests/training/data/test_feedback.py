"""Corrected labels: which train, which are held out, and what they change."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from perceptd.models import checkpoint, registry
from perceptd.training.data import datasets
from perceptd.training.data.feedback import repeats, with_feedback
from perceptd.training.errors import DataError
from tests.command_line import perceptd

PLANE = registry.load("dnn").spec
CIRCLES = datasets.load("circles", PLANE, Path("unused"))


@pytest.fixture
def corrections(tmp_path: Path) -> Path:
    """Twelve corrections, numbered in the order they came: two of them are held out."""
    return write(tmp_path / "feedback.npz", 12)


def write(path: Path, count: int, **arrays: Any) -> Path:
    inputs = np.arange(2 * count, dtype=np.float32).reshape(count, 2)
    labels = np.array([str(row % 2) for row in range(count)])
    np.savez(path, **{"inputs": inputs, "labels": labels, **arrays})
    return path


def test_every_fifth_correction_is_held_out_and_the_others_train(corrections: Path) -> None:
    data = with_feedback(PLANE, CIRCLES, corrections)

    assert data.feedback is not None
    assert data.feedback.inputs[:, 0].tolist() == [8, 18]
    assert data.feedback.targets.tolist() == [0, 1]
    assert_array_equal(data.test.inputs[:-2], CIRCLES.test.inputs)
    assert_array_equal(data.test.inputs[-2:], data.feedback.inputs)
    assert_array_equal(data.train.inputs[:500], CIRCLES.train.inputs)
    learned = data.train.inputs[500:, 0].reshape(-1, 10)
    assert learned.tolist() == [[0, 2, 4, 6, 10, 12, 14, 16, 20, 22]] * 5
    assert_array_equal(data.train.targets[500:510], [0, 1, 0, 1, 1, 0, 1, 0, 0, 1])


@pytest.mark.parametrize(
    ("rows", "corrections", "times"), [(60_000, 240, 25), (500, 1, 50), (100, 1000, 1)]
)
def test_few_corrections_are_repeated(rows: int, corrections: int, times: int) -> None:
    assert repeats(rows, corrections) == times


def test_name_and_rows_show_the_corrections(corrections: Path) -> None:
    data = with_feedback(PLANE, CIRCLES, corrections)

    assert data.ref.name == "circles+feedback"
    assert data.ref.rows == {"train": len(data.train), "test": 1002, "feedback": 2}
    assert data.ref == with_feedback(PLANE, CIRCLES, corrections).ref
    assert data.ref.sha256 != CIRCLES.ref.sha256


def test_hash_covers_the_corrections(corrections: Path, tmp_path: Path) -> None:
    labels = np.array(["1"] * 12)
    other = write(tmp_path / "other.npz", 12, labels=labels)

    one, two = (with_feedback(PLANE, CIRCLES, path).ref for path in (corrections, other))

    assert one.sha256 != two.sha256


def test_later_corrections_leave_earlier_ones_where_they_were(tmp_path: Path) -> None:
    earlier, later = (
        with_feedback(PLANE, CIRCLES, write(tmp_path / f"{count}.npz", count)).feedback
        for count in (12, 40)
    )

    assert earlier is not None
    assert later is not None
    assert_array_equal(later.inputs[:2], earlier.inputs)


def test_fewer_than_five_corrections_all_train(tmp_path: Path) -> None:
    data = with_feedback(PLANE, CIRCLES, write(tmp_path / "four.npz", 4))

    assert data.feedback is None
    assert data.ref.rows.keys() == {"train", "test"}
    assert len(data.test) == 1000


def test_checkpoint_has_metrics_of_held_out_corrections(corrections: Path, tmp_path: Path) -> None:
    outcome = perceptd(
        *("train", "dnn", "--epochs", "3", "--feedback", corrections),
        *("--out", tmp_path / "out", "--progress", "json"),
    )

    assert outcome.exit_code == 0, outcome.stderr
    meta = checkpoint.read(tmp_path / "out")
    assert meta.metrics.keys() == {"train", "test", "feedback"}
    assert meta.metrics["feedback"]["accuracy"] in (0, 0.5, 1)
    assert meta.dataset == with_feedback(PLANE, CIRCLES, corrections).ref
    assert outcome.events[0]["dataset"] == meta.dataset.model_dump()
    assert outcome.events[-1]["metrics"] == meta.metrics


@pytest.mark.parametrize(
    ("arrays", "reason"),
    [
        ({"labels": np.array(["2"] * 12)}, "inputs 1: label '2' is none of 0, 1"),
        ({"inputs": np.zeros((12, 3))}, "inputs: expected rows of 2 numbers"),
        ({"labels": np.array([{}] * 12)}, "it is no NPZ, or holds Python objects"),
    ],
)
def test_damaged_corrections_are_refused_in_one_line_and_leave_no_trace(
    arrays: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    path = write(tmp_path / "feedback.npz", 12, **arrays)

    outcome = perceptd("train", "dnn", "--feedback", path, "--out", tmp_path / "out")

    assert (outcome.exit_code, outcome.stdout) == (1, "")
    assert outcome.stderr.startswith(f"Error: {path}")
    assert reason in outcome.stderr
    assert outcome.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == [path]


def test_missing_corrections_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"feedback\.npz does not exist"):
        with_feedback(PLANE, CIRCLES, tmp_path / "feedback.npz")
