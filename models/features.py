"""Features for drift: a few numbers that summarise a row, the same in training and serving."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from perceptd.models.spec import InputSpec

MAX_NUMBERS = 16  # longer rows are summarised
PICTURE = ("ink", "contrast", "center_x", "center_y", "spread")
SUMMARIES = ("mean", "deviation", "minimum", "maximum")
CHUNK_ROWS = 64  # few enough pictures that BLAS does not wake other threads
DECIMALS = 4  # of a picture's features: their last bits depend on the number of rows in a chunk


def names(spec: InputSpec) -> tuple[str, ...]:
    """The column names of `features`."""
    if spec.picture:
        return PICTURE
    if spec.size <= MAX_NUMBERS:
        return tuple(f"{spec.name}[{index}]" for index in range(spec.size))
    return SUMMARIES


def features(spec: InputSpec, rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows (N, *spec.shape) -> (N, F), one column for each of `names`.

    A picture gives the mean and standard deviation of its pixels, the ink's centre of mass
    relative to the picture's middle and the ink's spread around that centre, both in pixels. A row
    of up to `MAX_NUMBERS` numbers gives these; a longer one its mean, standard deviation, minimum
    and maximum. Overflow gives infinities or NaN.
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
    for first in range(0, len(flat), CHUNK_ROWS):
        part = slice(first, first + CHUNK_ROWS)
        np.matmul(flat[part], weights, out=sums[part])
    size = flat.shape[1]
    mean = sums[:, 0] / size
    contrast = np.sqrt(np.maximum(np.einsum("np,np->n", flat, flat) / size - mean**2, 0))
    total = np.where(sums[:, 0] == 0, 1, sums[:, 0])  # a blank picture is centred
    x, y, distance = (sums[:, 1:] / total[:, np.newaxis]).T
    spread = np.sqrt(np.maximum(distance - x**2 - y**2, 0))
    found: NDArray[np.float32] = np.stack((mean, contrast, x, y, spread), axis=1)
    return found.round(DECIMALS)


@lru_cache
def _moments(picture: tuple[int, int]) -> NDArray[np.float32]:
    """Pixel weights (size, 4): 1, x, y and the squared distance from the picture's middle."""
    y, x = (axis.ravel() - axis.mean() for axis in np.indices(picture))
    return np.stack((np.ones_like(x), x, y, x**2 + y**2), axis=1).astype(np.float32)
