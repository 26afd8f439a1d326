"""The plane of a model that tells two classes of points apart, and how the model divides it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perceptd.models.checkpoint import MAX_PLANE_POINTS
from perceptd.models.spec import ModelSpec
from perceptd.training.data.splits import Split

Classifier = Callable[[NDArray[np.float32]], NDArray[np.float32]]  # rows -> probabilities (N, K)

MARGIN = 0.3  # how far the plane is shown beyond the outermost point
DECIMALS = 4  # of a coordinate that is told
SIZE = 32  # points per axis at which a training asks its model
FULL = 255  # how a probability of 1 is told


@dataclass(frozen=True)
class Boundary:
    """The probability of the second label, in 255ths, on a square grid over a plane.

    Row by row from low y to high y, each from low x to high x, the corners included.
    """

    size: int  # points per axis
    probabilities: list[int]


@dataclass(frozen=True)
class Plane:
    """The points of a 2-D model's training set, and the part of the plane around them."""

    split: Split

    @property
    def extent(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The lower left and the upper right corner, (2,) each."""
        # Far from zero a float32 has no room for the margin.
        points = self.split.inputs.astype(np.float64)  # (N, 2)
        return points.min(axis=0) - MARGIN, points.max(axis=0) + MARGIN

    def facts(self) -> dict[str, Any]:
        """What somebody who draws the plane needs to know of it, as JSON has it."""
        (x_low, y_low), (x_high, y_high) = (_rounded(corner) for corner in self.extent)
        chosen = evenly(len(self.split), MAX_PLANE_POINTS)
        return {
            "x": [x_low, x_high],
            "y": [y_low, y_high],
            "points": _rounded(self.split.inputs[chosen]),
            "targets": self.split.targets[chosen].tolist(),
        }

    def ask(
        self, classify: Classifier, size: int
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float32]]:
        """x, y and the probability of the second label on a grid over the plane, (size, size)."""
        x, y = np.meshgrid(*np.linspace(*self.extent, size).T)
        rows = np.stack([x.ravel(), y.ravel()], axis=1, dtype=np.float32)  # (size * size, 2)
        field = classify(rows)[:, 1]  # (size * size,)
        return x, y, field.reshape(x.shape)

    def boundary(self, classify: Classifier) -> Boundary | None:
        """How a model divides the plane; None where it answers with what is no number."""
        _, _, field = self.ask(classify, SIZE)
        if not np.isfinite(field).all():
            return None
        return Boundary(SIZE, np.rint(FULL * field).astype(int).ravel().tolist())


def has_plane(spec: ModelSpec) -> bool:
    """Whether the model takes points of the plane and has two labels for them."""
    return spec.input.shape == (2,) and len(spec.labels) == 2


def plane_of(spec: ModelSpec, split: Split) -> Plane | None:
    """The plane around the training rows of a model that has one.

    None also where they are so far out, all at one coordinate, that no number lies beside them.
    """
    if not has_plane(spec):
        return None
    low, high = (plane := Plane(split)).extent
    return plane if (low < high).all() else None


def evenly(count: int, most: int) -> list[int]:
    """At most so many of the indices up to `count`, evenly, the first and the last among them."""
    chosen: list[int] = np.linspace(0, count - 1, min(count, most)).round().astype(int).tolist()
    return chosen


def _rounded(coordinates: NDArray[np.floating[Any]]) -> list[Any]:
    rounded: list[Any] = coordinates.astype(np.float64).round(DECIMALS).tolist()
    return rounded
