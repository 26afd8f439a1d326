"""Data sets by name: `blobs`, `circles`, `xor` and `digits` are made, `mnist` is downloaded.

Files of one's own are read by `training/files.py`.
"""

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits, make_blobs, make_circles
from sklearn.model_selection import train_test_split

from models import preprocessing
from models.digit import fit, place
from models.spec import ModelSpec
from training import files
from training.splits import DataError, Dataset, Split, hold_out

Maker = Callable[[ModelSpec, Path], Dataset]

DATA_SEED = 123


def load(dataset: str | Maker, spec: ModelSpec, data_dir: Path) -> Dataset:
    """The data set of that name, in that file (.csv, .npz) or made by that function.

    Raises `DataError`, whose text says what to mend.
    """
    if callable(dataset):
        return dataset(spec, data_dir)
    if dataset in MAKERS:
        return MAKERS[dataset](spec, data_dir)
    path = Path(dataset)
    if path.suffix in files.SUFFIXES:
        return files.read(spec, path)
    raise DataError(
        f"no data set is called {dataset!r}; known: {', '.join(MAKERS)}, or a file that ends in "
        f"{' or '.join(files.SUFFIXES)}"
    )


def blobs(spec: ModelSpec, data_dir: Path) -> Dataset:
    """Two clouds of points: 100 to train on, 1,000 others to be judged on."""

    def split(rows: int, seed: int) -> Split:
        centers = [[-0.5, 0.5], [0.5, -0.5]]
        points, targets = make_blobs(rows, centers=centers, cluster_std=0.4, random_state=seed)
        return _plane(spec, points, targets)

    return Dataset("blobs", split(100, DATA_SEED), split(1000, DATA_SEED + 1))


def circles(spec: ModelSpec, data_dir: Path) -> Dataset:
    """A ring (0) around a disc (1): 500 points to train on, 1,000 others to be judged on."""

    def split(rows: int, seed: int) -> Split:
        points, targets = make_circles(rows, random_state=seed, noise=0.2, factor=0.3)
        return _plane(spec, points, targets)

    return Dataset("circles", split(500, DATA_SEED), split(1000, DATA_SEED + 1))


def xor(spec: ModelSpec, data_dir: Path) -> Dataset:
    """Four clouds, class 1 where the signs differ: 80 points to train on, 20 to be judged on."""
    centers = [[1, 1], [-1, -1], [1, -1], [-1, 1]]
    points, clouds = make_blobs(100, centers=centers, cluster_std=0.3, random_state=DATA_SEED)
    points, held_out, clouds, held_out_clouds = train_test_split(
        points, clouds, train_size=80, random_state=DATA_SEED
    )
    return Dataset(
        "xor", _plane(spec, points, clouds >= 2), _plane(spec, held_out, held_out_clouds >= 2)
    )


def digits(spec: ModelSpec, data_dir: Path) -> Dataset:
    """scikit-learn's 1,797 handwritten digits of 8 x 8, brought to 28 x 28 as MNIST's were."""
    _need_picture(spec, "digits")
    small, targets = load_digits(return_X_y=True)
    ink = small.reshape(-1, 8, 8).astype(np.float32) / 16
    pictures = np.stack([place(fit(digit)) for digit in ink])
    return hold_out("digits", preprocessing.from_pixels(spec.input, pictures), targets)


def mnist(spec: ModelSpec, data_dir: Path) -> Dataset:
    """MNIST, 60,000 and 10,000 digits, read from `data_dir`/MNIST/raw or downloaded there."""
    _need_picture(spec, "mnist")
    if not has_mnist(data_dir):
        _download_mnist(data_dir)
    return Dataset("mnist", _mnist_split(spec, data_dir, True), _mnist_split(spec, data_dir, False))


def has_mnist(data_dir: Path) -> bool:
    """Whether the folder holds MNIST, whole or not: nothing is downloaded over what is there."""
    return (data_dir / "MNIST").exists()


def _plane(spec: ModelSpec, points: NDArray[np.float64], targets: NDArray[Any]) -> Split:
    if spec.input.shape != (2,) or len(spec.labels) != 2:
        raise DataError(
            f"this data set has 2 numbers per row and 2 classes, the model takes rows of shape "
            f"{spec.input.shape} and has {len(spec.labels)} classes"
        )
    return Split(points.astype(np.float32), targets.astype(np.int64))


def _need_picture(spec: ModelSpec, name: str) -> None:
    if spec.input.picture != (28, 28) or len(spec.labels) != 10:
        raise DataError(
            f"{name} holds 28 x 28 pictures of 10 classes, the model takes rows of shape "
            f"{spec.input.shape} and has {len(spec.labels)} classes"
        )


def _download_mnist(data_dir: Path) -> None:
    """Download beside the place and rename, so that a broken download leaves nothing behind."""
    from torchvision.datasets import MNIST

    data_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".mnist-", dir=data_dir) as folder:
        try:
            MNIST(folder, download=True)
        except (RuntimeError, OSError) as error:
            raise DataError(
                f"MNIST is not in {data_dir} and cannot be downloaded ({_one_line(error)}); "
                f"name the folder that holds MNIST/raw with --data-dir"
            ) from error
        shutil.move(Path(folder) / "MNIST", data_dir / "MNIST")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _mnist_split(spec: ModelSpec, data_dir: Path, train: bool) -> Split:
    from torchvision.datasets import MNIST

    part, rows = ("training", 60_000) if train else ("test", 10_000)
    try:
        data = MNIST(data_dir, train=train)
    except Exception as error:  # torchvision raises whatever the damaged file provokes
        raise DataError(
            f"the {part} set in {data_dir / 'MNIST' / 'raw'} is incomplete or damaged: "
            f"{_one_line(error)}"
        ) from error
    pictures, targets = data.data.numpy(), data.targets.numpy()
    if pictures.shape != (rows, 28, 28) or targets.shape != (rows,):
        raise DataError(
            f"the {part} set in {data_dir / 'MNIST' / 'raw'} should hold {rows:,} pictures of "
            f"28 x 28 with labels, but holds {pictures.shape} with {targets.shape}"
        )
    if not np.isin(targets, range(10)).all():
        raise DataError(f"the {part} set in {data_dir / 'MNIST' / 'raw'} has labels beyond 0 to 9")
    return Split(preprocessing.from_pixels(spec.input, pictures), targets.astype(np.int64))


MAKERS: dict[str, Maker] = {
    "blobs": blobs,
    "circles": circles,
    "xor": xor,
    "digits": digits,
    "mnist": mnist,
}
