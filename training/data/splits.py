"""A data set: rows to train on, and held-out rows to evaluate on."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from perceptd.models.checkpoint import DatasetRef, sha256_of
from perceptd.training.errors import DataError

HELD_OUT_SHARE = 0.2


@dataclass(frozen=True)
class Split:
    """Input rows and their class indices."""

    inputs: NDArray[np.float32]  # (N, *spec.input.shape)
    targets: NDArray[np.int64]  # (N,)

    def __len__(self) -> int:
        return len(self.targets)


@dataclass(frozen=True)
class Dataset:
    """Training rows, and test rows that training never sees.

    `feedback` holds the corrected rows among the test rows; they get metrics of their own.
    """

    name: str
    train: Split
    test: Split
    feedback: Split | None = None
    ref: DatasetRef = field(init=False)

    def __post_init__(self) -> None:
        digest = sha256_of(
            array for split in self.splits.values() for array in (split.inputs, split.targets)
        )
        rows = {name: len(split) for name, split in self.splits.items()}
        object.__setattr__(self, "ref", DatasetRef(name=self.name, sha256=digest, rows=rows))

    @property
    def splits(self) -> dict[str, Split]:
        """The splits to measure a model on, by name."""
        feedback = {"feedback": self.feedback} if self.feedback else {}
        return {"train": self.train, "test": self.test, **feedback}


def hold_out(name: str, inputs: NDArray[np.float32], targets: NDArray[np.int64]) -> Dataset:
    """Hold out a fifth of each class, the same rows each time. Raises `DataError`."""
    from sklearn.model_selection import train_test_split

    try:
        train, test = train_test_split(
            np.arange(len(targets)), test_size=HELD_OUT_SHARE, stratify=targets, random_state=0
        )
    except ValueError as error:
        raise DataError(f"{name}: a fifth of each class cannot be held out: {error}") from error
    return Dataset(name, Split(inputs[train], targets[train]), Split(inputs[test], targets[test]))
