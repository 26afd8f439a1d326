"""Corrected labels: rows that a model answered wrongly, with the answers it should have given."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from perceptd.models.spec import ModelSpec
from perceptd.training.data import files
from perceptd.training.data.splits import Dataset, Split

SUFFIX = "+feedback"  # of the name of a data set with corrections
HELD_OUT_EVERY = 5
# How many repeated corrections there are for each other training row. With 300 underlined digits
# beside MNIST's, 0.1 reads more of the held-out ones than 0.02 (0.963 to 0.949 after one epoch),
# and no fewer of MNIST's own than before.
SHARE = 0.1


def with_feedback(spec: ModelSpec, dataset: Dataset, path: Path) -> Dataset:
    """The data set and the corrections in an NPZ of `inputs` and `labels`, in the order they came.

    Every fifth is held out and joins the test rows; the others join the training rows. The same
    corrections go to the same side however many come after them. Raises `DataError`.
    """
    rows = files.read_rows(spec, path)
    held_out = np.arange(len(rows)) % HELD_OUT_EVERY == HELD_OUT_EVERY - 1
    learned, judged = _chosen(rows, ~held_out), _chosen(rows, held_out)
    times = repeats(len(dataset.train), len(learned))
    return Dataset(
        f"{dataset.name}{SUFFIX}",
        _joined(dataset.train, *[learned] * times),
        _joined(dataset.test, judged),
        feedback=judged if len(judged) else None,
    )


def repeats(rows: int, corrections: int) -> int:
    """How often each correction is learned from in an epoch, to count among so many other rows."""
    return max(1, round(SHARE * rows / corrections))


def _chosen(split: Split, mask: NDArray[np.bool_]) -> Split:
    return Split(split.inputs[mask], split.targets[mask])


def _joined(*splits: Split) -> Split:
    return Split(
        np.concatenate([split.inputs for split in splits]),
        np.concatenate([split.targets for split in splits]),
    )
