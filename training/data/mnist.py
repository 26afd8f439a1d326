"""MNIST: 60,000 training and 10,000 test digits, read from a folder or downloaded into it."""

import math
import shutil
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from perceptd.models import preprocessing
from perceptd.models.spec import ModelSpec
from perceptd.training.data.splits import Dataset, Split
from perceptd.training.errors import DataError

BYTES = 8  # the code of unsigned bytes in an IDX file's header


def mnist(spec: ModelSpec, data_dir: Path) -> Dataset:
    """Read MNIST from `data_dir`/MNIST/raw; torchvision downloads it if it is missing.

    Raises `DataError`.
    """
    if not is_in(data_dir):
        _download(data_dir)
    return Dataset("mnist", _split(spec, data_dir, True), _split(spec, data_dir, False))


def is_in(data_dir: Path) -> bool:
    """Whether the folder holds MNIST, complete or not: a download never overwrites it."""
    return (data_dir / "MNIST").exists()


def _download(data_dir: Path) -> None:
    """Download into a temporary folder and rename, so a failed download leaves nothing behind."""
    from torchvision.datasets import MNIST  # takes five seconds to import

    data_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".mnist-", dir=data_dir) as folder:
        try:
            MNIST(folder, download=True)
        except (RuntimeError, OSError) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise DataError(
                f"MNIST is not in {data_dir} and cannot be downloaded ({reason}); "
                "name the folder that holds MNIST/raw with --data-dir or PERCEPTD_MNIST_DIR, "
                "or choose --dataset digits, which needs no download"
            ) from error
        shutil.move(Path(folder) / "MNIST", data_dir / "MNIST")


def _split(spec: ModelSpec, data_dir: Path, train: bool) -> Split:
    part, stem, rows = ("training", "train", 60_000) if train else ("test", "t10k", 10_000)
    raw = data_dir / "MNIST" / "raw"
    try:
        pictures = _read_idx(raw / f"{stem}-images-idx3-ubyte", 3)
        labels = _read_idx(raw / f"{stem}-labels-idx1-ubyte", 1)
    except (OSError, ValueError) as error:
        raise DataError(f"the {part} set in {raw} is incomplete or damaged: {error}") from error
    if pictures.shape != (rows, 28, 28) or labels.shape != (rows,):
        raise DataError(
            f"the {part} set in {raw} should hold {rows:,} labelled pictures of 28 x 28, "
            f"but has pictures of shape {pictures.shape} and labels of shape {labels.shape}"
        )
    if labels.max() > 9:
        raise DataError(f"the {part} set in {raw} has labels beyond 0 to 9")
    return Split(preprocessing.from_pixels(spec.input, pictures), labels.astype(np.int64))


def _read_idx(path: Path, axes: int) -> NDArray[np.uint8]:
    """An array in IDX format: a header of big-endian sizes, then the bytes."""
    content = path.read_bytes()
    if content[:4] != bytes([0, 0, BYTES, axes]):
        raise ValueError(f"{path.name} is not an IDX file of bytes with {axes} axes")
    header = 4 + 4 * axes
    shape = [int(size) for size in np.frombuffer(content[4:header], ">u4")]
    if len(shape) != axes or len(content) - header != math.prod(shape):
        raise ValueError(f"{path.name} has {len(content):,} bytes, its header promises others")
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)
