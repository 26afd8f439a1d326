"""What drift is measured on: a few numbers that sum up a row, the same in training and serving."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from perceptd.models.spec import InputSpec

MAX_NUMBERS = 16  # of a row that are looked at one by one
PICTURE = ("ink", "contrast", "center_x", "center_y", "spread")
SUMMARIES = ("mean", "deviation", "minimum", "maximum")
AT_ONCE = 64  # pictures: too little work for BLAS to wake other threads for
DECIMALS = 4  # of a picture's figures: the last bits depend on how many pictures come together


def names(spec: InputSpec) -> tuple[str, ...]:
    """What the columns of `features` are called."""
    if spec.picture:
        return PICTURE
    if spec.size <= MAX_NUMBERS:
        return tuple(f"{spec.name}[{index}]" for index in range(spec.size))
    return SUMMARIES


def features(spec: InputSpec, rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows (N, *spec.shape) -> (N, F), one column for each of `names`.

    Of a picture: the mean of its pixels, their standard deviation, where the middle of the ink is
    and how far the ink lies from it, in pixels. Of a row of few numbers: these. Of any other: mean,
    standard deviation, least and greatest. What overflows is infinite or NaN.
    """
    flat = rows.reshape(len(rows), spec.size)  # (N, size)
    with np.errstate(all="ignore"):
        if spec.picture:
            return _of_pictures(flat, spec.picture)
        if spec.size <= MAX_NUMBERS:
            return flat
        wide = flat.astype(np.float64)
        columns = (wide.mean(axis=1), wide.std(axis=1), wide.min(axis=1), wide.max(axis=1))
        return np.stack(columns, axis=1).astype(np.float32)


def _of_pictures(flat: NDArray[np.float32], picture: tuple[int, int]) -> NDArray[np.float32]:
    weights = _moments(picture)
    sums = np.empty((len(flat), weights.shape[1]), dtype=np.float32)  # (N, 4)
    for first in range(0, len(flat), AT_ONCE):
        part = slice(first, first + AT_ONCE)
        np.matmul(flat[part], weights, out=sums[part])
    size = flat.shape[1]
    mean = sums[:, 0] / size
    contrast = np.sqrt(np.maximum(np.einsum("np,np->n", flat, flat) / size - mean**2, 0))
    total = np.where(sums[:, 0] == 0, 1, sums[:, 0])  # a blank picture's middle is the middle
    x, y, distance = (sums[:, 1:] / total[:, np.newaxis]).T
    spread = np.sqrt(np.maximum(distance - x**2 - y**2, 0))
    found: NDArray[np.float32] = np.stack((mean, contrast, x, y, spread), axis=1)
    return found.round(DECIMALS)


@lru_cache
def _moments(picture: tuple[int, int]) -> NDArray[np.float32]:
    """Weights of the pixels: 1, x, y, and the square of the distance from the middle, (size, 4)."""
    y, x = (axis.ravel() - axis.mean() for axis in np.indices(picture))
    return np.stack((np.ones_like(x), x, y, x**2 + y**2), axis=1).astype(np.float32)
