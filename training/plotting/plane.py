"""The plane of a model with two classes of 2-D points, and the model's decision boundary."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perceptd.models.checkpoint import MAX_PLANE_POINTS
from perceptd.models.spec import ModelSpec
from perceptd.training.data.splits import Split

Classifier = Callable[[NDArray[np.float32]], NDArray[np.float32]]  # rows -> probabilities (N, K)

MARGIN = 0.3  # how far the plane extends beyond the outermost point
DECIMALS = 4  # of a reported coordinate
SIZE = 32  # grid points per axis of a reported boundary
FULL = 255  # reported for a probability of 1


@dataclass(frozen=True)
class Boundary:
    """The probability of the second label, in 255ths, on a square grid over a plane.

    Rows run from low y to high y, each from low x to high x. The grid includes the corners.
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
        # Far from zero, float32 is too coarse for the margin.
        points = self.split.inputs.astype(np.float64)  # (N, 2)
        return points.min(axis=0) - MARGIN, points.max(axis=0) + MARGIN

    def facts(self) -> dict[str, Any]:
        """Extent, points and targets, as JSON for clients that draw the plane."""
        (x_low, y_low), (x_high, y_high) = (_rounded(corner) for corner in self.extent)
        chosen = evenly(len(self.split), MAX_PLANE_POINTS)
        return {
            "x": [x_low, x_high],
            "y": [y_low, y_high],
            "points": _rounded(self.split.inputs[chosen]),
            "targets": self.split.targets[chosen].tolist(),
        }

    def sample(
        self, classify: Classifier, size: int
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float32]]:
        """x, y and the probability of the second label on a grid over the plane, (size, size)."""
        x, y = np.meshgrid(*np.linspace(*self.extent, size).T)
        rows = np.stack([x.ravel(), y.ravel()], axis=1, dtype=np.float32)  # (size * size, 2)
        field = classify(rows)[:, 1]  # (size * size,)
        return x, y, field.reshape(x.shape)

    def boundary(self, classify: Classifier) -> Boundary | None:
        """The decision boundary of a model; None if it returns NaN or infinities."""
        _, _, field = self.sample(classify, SIZE)
        if not np.isfinite(field).all():
            return None
        return Boundary(SIZE, np.rint(FULL * field).astype(int).ravel().tolist())


def has_plane(spec: ModelSpec) -> bool:
    """Whether the model takes 2-D points and has two labels."""
    return spec.input.shape == (2,) and len(spec.labels) == 2


def plane_of(spec: ModelSpec, split: Split) -> Plane | None:
    """The plane around the training rows; None if the model has none.

    None also if all points share a coordinate so large that adding the margin does not change it.
    """
    if not has_plane(spec):
        return None
    low, high = (plane := Plane(split)).extent
    return plane if (low < high).all() else None


def evenly(count: int, limit: int) -> list[int]:
    """At most `limit` of the indices below `count`, evenly spaced, with the first and the last."""
    chosen: list[int] = np.linspace(0, count - 1, min(count, limit)).round().astype(int).tolist()
    return chosen


def _rounded(coordinates: NDArray[np.floating[Any]]) -> list[Any]:
    rounded: list[Any] = coordinates.astype(np.float64).round(DECIMALS).tolist()
    return rounded
