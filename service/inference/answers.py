"""Rows of numbers, and what a model answers to them."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.float32]  # (N, *spec.input.shape)


class Answer(NamedTuple):
    """Class index (N,) and probabilities (N, K) of N rows.

    `finite` is False if any row of their batch overflowed.
    """

    indices: NDArray[np.intp]
    probabilities: NDArray[np.float32]
    finite: bool = True

    def part(self, first: int, end: int) -> "Answer":
        """The answer to rows `first` to `end`, exclusive."""
        return Answer(self.indices[first:end], self.probabilities[first:end], self.finite)


def joined(parts: Sequence[Answer]) -> Answer:
    """One answer to the rows of all parts, in order."""
    if len(parts) == 1:
        return parts[0]
    return Answer(
        np.concatenate([part.indices for part in parts]),
        np.concatenate([part.probabilities for part in parts]),
        all(part.finite for part in parts),
    )
