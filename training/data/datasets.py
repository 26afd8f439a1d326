"""Data sets by name: `blobs`, `circles`, `xor` and `digits` are generated, `mnist` is downloaded.

`mnist.py` reads MNIST and `files.py` reads a user's files. scikit-learn takes two seconds to
import, so only the functions that need it import it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perceptd.models import preprocessing
from perceptd.models.pictures.digit import fit, place
from perceptd.models.spec import ModelSpec
from perceptd.training.data import files
from perceptd.training.data.mnist import is_in, mnist
from perceptd.training.data.splits import Dataset, Split, hold_out
from perceptd.training.errors import DataError
from perceptd.training.plotting.plane import has_plane

Maker = Callable[[ModelSpec, Path], Dataset]

DATA_SEED = 123


def load(dataset: str | Maker, spec: ModelSpec, data_dir: Path) -> Dataset:
    """The data set of that name, in that file (.csv, .npz) or returned by that function.

    Raises `DataError`.
    """
    if callable(dataset):
        return dataset(spec, data_dir)
    if named := NAMED.get(dataset):
        if not named.fits(spec):
            raise DataError(
                f"{dataset} holds {named.holds}, the model takes rows of shape "
                f"{spec.input.shape} and has {len(spec.labels)} classes"
            )
        return named.make(spec, data_dir)
    path = Path(dataset)
    if path.suffix in files.SUFFIXES:
        return files.read(spec, path)
    raise DataError(
        f"no data set is called {dataset!r}; known: {', '.join(NAMED)}, or a file that ends in "
        f"{' or '.join(files.SUFFIXES)}"
    )


def load_present(dataset: str | Maker, spec: ModelSpec, data_dir: Path) -> Dataset:
    """As `load`, but never downloads."""
    if dataset == "mnist" and not is_in(data_dir):
        raise DataError(f"MNIST is not in {data_dir}; --dataset mnist downloads it")
    return load(dataset, spec, data_dir)


def fitting(spec: ModelSpec) -> list[str]:
    """The names of the data sets that fit a model."""
    return [name for name, named in NAMED.items() if named.fits(spec)]


def blobs(spec: ModelSpec, data_dir: Path) -> Dataset:
    """Two clouds of points: 100 to train on, 1,000 others to test on."""
    from sklearn.datasets import make_blobs

    def split(rows: int, seed: int) -> Split:
        centers = [[-0.5, 0.5], [0.5, -0.5]]
        points, targets = make_blobs(rows, centers=centers, cluster_std=0.4, random_state=seed)
        return _plane(points, targets)

    return Dataset("blobs", split(100, DATA_SEED), split(1000, DATA_SEED + 1))


def circles(spec: ModelSpec, data_dir: Path) -> Dataset:
    """A ring (0) around a disc (1): 500 points to train on, 1,000 others to test on."""
    from sklearn.datasets import make_circles

    def split(rows: int, seed: int) -> Split:
        points, targets = make_circles(rows, random_state=seed, noise=0.2, factor=0.3)
        return _plane(points, targets)

    return Dataset("circles", split(500, DATA_SEED), split(1000, DATA_SEED + 1))


def xor(spec: ModelSpec, data_dir: Path) -> Dataset:
    """Four clouds, class 1 where the signs differ: 80 points to train on, 20 to test on."""
    from sklearn.datasets import make_blobs
    from sklearn.model_selection import train_test_split

    centers = [[1, 1], [-1, -1], [1, -1], [-1, 1]]
    points, clouds = make_blobs(100, centers=centers, cluster_std=0.3, random_state=DATA_SEED)
    points, held_out, clouds, held_out_clouds = train_test_split(
        points, clouds, train_size=80, random_state=DATA_SEED
    )
    return Dataset("xor", _plane(points, clouds >= 2), _plane(held_out, held_out_clouds >= 2))


def digits(spec: ModelSpec, data_dir: Path) -> Dataset:
    """scikit-learn's 1,797 handwritten digits of 8 x 8, scaled to 28 x 28 as MNIST's were."""
    from sklearn.datasets import load_digits

    small, targets = load_digits(return_X_y=True)
    ink = small.reshape(-1, 8, 8).astype(np.float32) / 16
    pictures = np.stack([place(fit(digit)) for digit in ink])
    return hold_out("digits", preprocessing.from_pixels(spec.input, pictures), targets)


def _plane(points: NDArray[np.float64], targets: NDArray[Any]) -> Split:
    return Split(points.astype(np.float32), targets.astype(np.int64))


@dataclass(frozen=True)
class Named:
    """A data set by name: how it is made, what it holds and which models it fits."""

    make: Maker
    holds: str
    fits: Callable[[ModelSpec], bool]


def _takes_digits(spec: ModelSpec) -> bool:
    return spec.input.picture == (28, 28) and len(spec.labels) == 10


POINTS = "points of 2 numbers in 2 classes"
PICTURES = "28 x 28 pictures of 10 classes"
NAMED = {
    "blobs": Named(blobs, POINTS, has_plane),
    "circles": Named(circles, POINTS, has_plane),
    "xor": Named(xor, POINTS, has_plane),
    "digits": Named(digits, PICTURES, _takes_digits),
    "mnist": Named(mnist, PICTURES, _takes_digits),
}
