"""What a data set is: rows to train on, and rows held out to be judged on."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from perceptd.models.checkpoint import DatasetRef, sha256_of
from perceptd.training.errors import DataError

HELD_OUT_SHARE = 0.2


@dataclass(frozen=True)
class Split:
    """Rows of one model and their class indices."""

    inputs: NDArray[np.float32]  # (N, *spec.input.shape)
    targets: NDArray[np.int64]  # (N,)

    def __len__(self) -> int:
        return len(self.targets)


@dataclass(frozen=True)
class Dataset:
    """What a model trains on, and what it is judged on and never sees in training.

    `feedback` holds the corrected rows among the test rows, to be judged on alone as well.
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
        """The splits that a model has metrics of, by name."""
        feedback = {"feedback": self.feedback} if self.feedback else {}
        return {"train": self.train, "test": self.test, **feedback}


def hold_out(name: str, inputs: NDArray[np.float32], targets: NDArray[np.int64]) -> Dataset:
    """Keep a fifth of each class aside for judging, the same rows each time."""
    from sklearn.model_selection import train_test_split

    try:
        train, test = train_test_split(
            np.arange(len(targets)), test_size=HELD_OUT_SHARE, stratify=targets, random_state=0
        )
    except ValueError as error:
        raise DataError(f"{name}: a fifth of each class cannot be held out: {error}") from error
    return Dataset(name, Split(inputs[train], targets[train]), Split(inputs[test], targets[test]))
