"""MNIST is read as published; missing or damaged files are refused."""

import struct
from pathlib import Path

import numpy as np
import pytest

from perceptd.models import registry
from perceptd.training.data.mnist import mnist
from perceptd.training.errors import DataError

FLAT = registry.load("mnist-mlp").spec


@pytest.mark.usefixtures("no_mnist_server")
def test_absent_mnist_without_a_network_is_one_sentence_and_leaves_no_trace(
    tmp_path: Path,
) -> None:
    with pytest.raises(DataError) as error:
        mnist(FLAT, tmp_path)

    text = str(error.value)
    assert text.startswith(f"MNIST is not in {tmp_path} and cannot be downloaded (")
    assert text.endswith(
        "name the folder that holds MNIST/raw with --data-dir or PERCEPTD_MNIST_DIR, "
        "or choose --dataset digits, which needs no download"
    )
    assert "\n" not in text
    assert list(tmp_path.iterdir()) == []


def write_mnist(data_dir: Path, pictures: int, labels: int, label: int = 0) -> None:
    """MNIST in its own format with a training set of blank pictures, and a tiny test set."""
    write_idx(data_dir, "train", pictures, labels, label)
    write_idx(data_dir, "t10k", 5, 5)


def write_idx(data_dir: Path, part: str, pictures: int, labels: int, label: int = 0) -> None:
    raw = data_dir / "MNIST" / "raw"
    raw.mkdir(parents=True, exist_ok=True)
    with (raw / f"{part}-images-idx3-ubyte").open("wb") as file:
        file.write(struct.pack(">4B3I", 0, 0, 8, 3, pictures, 28, 28))
        file.truncate(16 + pictures * 784)
    header = struct.pack(">4B1I", 0, 0, 8, 1, labels)
    (raw / f"{part}-labels-idx1-ubyte").write_bytes(header + bytes([label]) * labels)


def refusal(data_dir: Path) -> str:
    with pytest.raises(DataError) as error:
        mnist(FLAT, data_dir)
    text = str(error.value)
    assert str(data_dir / "MNIST" / "raw") in text
    assert "\n" not in text
    return text


@pytest.mark.parametrize(("pictures", "labels"), [(5, 5), (60_000, 59_999)])
def test_mnist_of_another_size_is_refused(tmp_path: Path, pictures: int, labels: int) -> None:
    write_mnist(tmp_path, pictures, labels)

    assert refusal(tmp_path).endswith(
        "should hold 60,000 labelled pictures of 28 x 28, "
        f"but has pictures of shape ({pictures}, 28, 28) and labels of shape ({labels},)"
    )


def test_mnist_with_labels_beyond_9_is_refused(tmp_path: Path) -> None:
    write_mnist(tmp_path, 60_000, 60_000, label=10)

    assert refusal(tmp_path).startswith("the training set in ")
    assert refusal(tmp_path).endswith("has labels beyond 0 to 9")


@pytest.mark.parametrize("file", ["train-images-idx3-ubyte", "train-labels-idx1-ubyte"])
@pytest.mark.parametrize("size", [0, 3, 10, 1000])
def test_truncated_mnist_is_refused(tmp_path: Path, file: str, size: int) -> None:
    write_mnist(tmp_path, 60_000, 60_000)
    with (tmp_path / "MNIST" / "raw" / file).open("r+b") as damaged:
        damaged.truncate(size)

    assert refusal(tmp_path).startswith("the training set in ")
    assert "is incomplete or damaged: " in refusal(tmp_path)


def test_mnist_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    write_mnist(tmp_path, 5, 5)
    raw = tmp_path / "MNIST" / "raw"
    (raw / "train-images-idx3-ubyte").write_bytes(b"<html>404 not found</html>")

    assert "is incomplete or damaged: " in refusal(tmp_path)


def test_folder_without_the_files_of_mnist_is_refused(tmp_path: Path) -> None:
    (tmp_path / "MNIST").mkdir()

    assert refusal(tmp_path).startswith("the training set in ")


@pytest.mark.mnist
def test_mnist_is_the_published_set(mnist_dir: Path) -> None:
    data = mnist(FLAT, mnist_dir)

    assert data.ref.rows == {"train": 60_000, "test": 10_000}
    assert data.train.inputs.shape == (60_000, 784)
    assert (data.test.inputs.min(), data.test.inputs.max()) == (0.0, 1.0)
    assert np.bincount(data.test.targets).tolist() == [
        980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009,
    ]  # fmt: skip
    assert data.ref.sha256 == "108d6b7de40591a98498f8660fcb315ddf04b645c535dadd3db4e19925b321ce"
