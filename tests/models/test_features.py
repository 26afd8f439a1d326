"""The features for drift: a few numbers that summarise a row."""

import numpy as np
import pytest
from numpy.typing import NDArray

from perceptd.models.features import PICTURE, SUMMARIES, features, names
from perceptd.models.spec import InputSpec

DIGIT = InputSpec(shape=(1, 28, 28), picture=(28, 28))
SIDE = 13.5  # from the middle to the middle of an outermost pixel


def picture(*pixels: tuple[int, int]) -> NDArray[np.float32]:
    """One row with full ink at those (row, column)."""
    row = np.zeros((1, 1, 28, 28), dtype=np.float32)
    for place in pixels:
        row[0, 0, *place] = 1
    return row


def figures(row: NDArray[np.float32]) -> dict[str, float]:
    (values,) = features(DIGIT, row).tolist()
    return dict(zip(names(DIGIT), values, strict=True))


def test_picture_is_summarised_by_its_ink_and_position() -> None:
    corner = figures(picture((0, 27)))
    assert corner["ink"] == pytest.approx(1 / 784, abs=1e-4)
    assert corner["contrast"] == pytest.approx(np.sqrt(1 / 784 - 1 / 784**2), abs=1e-4)
    assert (corner["center_x"], corner["center_y"], corner["spread"]) == (SIDE, -SIDE, 0)

    edges = figures(picture((13, 0), (14, 27)))
    assert (edges["center_x"], edges["center_y"]) == (0, 0)
    assert edges["spread"] == pytest.approx(np.hypot(13.5, 0.5), abs=1e-3)


def test_blank_picture_has_features() -> None:
    assert figures(picture()) == dict.fromkeys(PICTURE, 0)


def test_features_of_a_picture_do_not_depend_on_the_batch() -> None:
    rows = np.random.default_rng(0).random((64, 1, 28, 28), dtype=np.float32)
    alone = np.concatenate([features(DIGIT, rows[index : index + 1]) for index in range(64)])
    together = features(DIGIT, rows)
    assert np.abs(together - alone).max() < 2e-4
    assert (together == alone).mean() > 0.95


def test_short_row_is_taken_as_it_is_and_long_row_is_summarised() -> None:
    few, many = InputSpec(shape=(2, 2)), InputSpec(shape=(17,))
    assert names(few) == ("x[0]", "x[1]", "x[2]", "x[3]")
    assert features(few, np.arange(4, dtype=np.float32).reshape(1, 2, 2)).tolist() == [[0, 1, 2, 3]]
    assert names(many) == SUMMARIES
    row = np.arange(17, dtype=np.float32).reshape(1, 17)
    assert features(many, row).tolist() == [[8, pytest.approx(np.sqrt(24)), 0, 16]]


def test_overflow_gives_no_warning() -> None:
    huge = np.full((1, 1, 28, 28), 3e38, dtype=np.float32)
    assert not np.isfinite(features(DIGIT, huge)).all()
