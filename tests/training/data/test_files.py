"""A data set in a user's file is read, or refused with what to fix."""

import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from perceptd.models import registry
from perceptd.training.data import datasets, files
from perceptd.training.data.splits import Dataset
from perceptd.training.errors import DataError

PLANE = registry.load("dnn").spec
FLAT = registry.load("mnist-mlp").spec
SQUARE = registry.load("mnist-cnn").spec

BALANCED = "".join(f"{i},{-i},{i % 2}\n" for i in range(20))


@pytest.fixture
def csv(tmp_path: Path) -> Callable[..., Dataset]:
    def read(text: str | bytes, spec: Any = PLANE) -> Dataset:
        path = tmp_path / "mine.csv"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return files.read(spec, path)

    return read


@pytest.fixture
def npz(tmp_path: Path) -> Callable[..., Dataset]:
    def read(spec: Any = PLANE, **arrays: Any) -> Dataset:
        np.savez(tmp_path / "mine.npz", **arrays)
        return files.read(spec, tmp_path / "mine.npz")

    return read


def refusal(path: Path, read: Callable[[], object]) -> str:
    """Why the file is refused; every refusal is one line that begins with the file."""
    with pytest.raises(DataError) as error:
        read()
    text = str(error.value)
    assert "\n" not in text
    assert text.startswith((str(path), path.name))
    return text.removeprefix(str(path)).removeprefix(path.name).removeprefix(": ").strip()


def test_csv_without_splits_has_a_fifth_of_each_class_held_out(csv: Callable[..., Dataset]) -> None:
    data = csv("x,y,label\n" + BALANCED)

    assert data.ref.name == "mine.csv"
    assert data.ref.rows == {"train": 16, "test": 4}
    assert np.bincount(data.test.targets).tolist() == [2, 2]
    for split in (data.train, data.test):
        assert_array_equal(split.inputs[:, 0], -split.inputs[:, 1])
        assert_array_equal(split.inputs[:, 0] % 2, split.targets)


def test_csv_with_splits_is_split_as_it_says(csv: Callable[..., Dataset]) -> None:
    data = csv("split,x,label,y\ntrain,1,0,2\ntest,3,1,4\ntrain,5,1,6\n")

    assert data.train.inputs.tolist() == [[1, 2], [5, 6]]
    assert data.train.targets.tolist() == [0, 1]
    assert data.test.inputs.tolist() == [[3, 4]]
    assert data.test.targets.tolist() == [1]


@pytest.mark.parametrize(
    "text",
    [
        'x,y,label,split\n1,2,"0",train\n3,4,"1",test\n',
        '"x","y","label","split"\n"1","2","0","train"\n"3","4","1","test"\n',
        "\ufeffx,y,label,split\n1,2,0,train\n3,4,1,test\n",
        '\ufeff"label","x","y","split"\r\n"0",1,2,"train"\r\n"1",3,4,"test"\r\n',
        "x,y,label,split\r\n1,2,0,train\r\n3,4,1,test\r\n",
        "x,y,label,split\n1,2,0,train\n\n3,4,1,test\n\n",
        "x,y,label,split\n1,2,0,train\n3,4,1,test",
        "x,y,label,split\n1.0,2e0,0,train\n 3 ,+4,1,test\n",
    ],
)
def test_every_dialect_of_csv_is_read_the_same(csv: Callable[..., Dataset], text: str) -> None:
    data = csv(text)

    assert (data.train.inputs.tolist(), data.train.targets.tolist()) == ([[1, 2]], [0])
    assert (data.test.inputs.tolist(), data.test.targets.tolist()) == ([[3, 4]], [1])


def picture_csv(pixels: list[Any]) -> str:
    """Each picture twice, once per split, of pixels that are all of one value."""
    header = ",".join(["label", "split", *(f"p{i}" for i in range(784))])
    rows = [
        ",".join(["7", split, *[str(pixel)] * 784])
        for pixel in pixels
        for split in ("train", "test")
    ]
    return "\n".join([header, *rows])


@pytest.mark.parametrize("spec", [FLAT, SQUARE])
@pytest.mark.parametrize("pixels", [[0, 51, 255], [0, 0.2, 1]])
def test_pixels_in_a_csv_may_be_0_to_255_or_0_to_1(
    csv: Callable[..., Dataset], spec: Any, pixels: list[Any]
) -> None:
    data = csv(picture_csv(pixels), spec)

    assert data.train.inputs.shape == (3, *spec.input.shape)
    assert data.train.targets.tolist() == [7, 7, 7]
    expected = np.array([0, 0.2, 1], np.float32)
    assert_array_equal(data.train.inputs.reshape(3, 784), np.repeat(expected, 784).reshape(3, 784))
    assert_array_equal(data.train.inputs, data.test.inputs)


@pytest.mark.parametrize("pixel", [256, 1.5, -1])
def test_pixel_that_is_no_grey_value_is_refused(
    csv: Callable[..., Dataset], pixel: float, tmp_path: Path
) -> None:
    text = picture_csv([255, pixel])

    assert refusal(tmp_path / "mine.csv", lambda: csv(text, FLAT)) == (
        f"pixels must be in 0..1, or whole numbers in 0..255; got {pixel:g}"
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "the header needs one column 'label', it has [] ..."),
        (
            "x,y,class\n1,2,0\n",
            "the header needs one column 'label', it has ['x', 'y', 'class'] ...",
        ),
        ("x;y;label\n1;2;0\n", "the header needs one column 'label', it has ['x;y;label'] ..."),
        (
            "x,y,z,label,split\n1,2,3,0,test\n",
            "the model takes 2 numbers per row, the header has 3 columns besides label and split",
        ),
        ("x,y,label\n\n\n", "rows: expected at least one row, got none"),
        ("x,y,label\n1,two,0\n", "could not convert string 'two'"),
        ("x,y,label\n1,2,0\n1,2\n", "line 3 has 2 columns, the header has 3"),
        ("x,y,label\n1,2,0\n1,2,0,4\n", "line 3 has 4 columns, the header has 3"),
        ("x,y,label\n1,nan,0\n", "rows: expected finite numbers, got NaN or an infinity"),
        ("x,y,label\n1,2,0\n1,2,maybe\n", "rows 2: label 'maybe' is none of 0, 1"),
        ("x,y,label\n1,2,#0\n", "rows 1: label '#0' is none of 0, 1"),
        (
            "x,y,label,split\n1,2,0,train\n1,2,0,validation\n",
            "the column split says 'validation', expected train or test",
        ),
        (
            "x,y,label,split\n1,2,0,train\n",
            "expected rows of both splits, got 1 train rows and 0 test rows",
        ),
        (
            "x,y,label,split\n1,2,0,test\n",
            "expected rows of both splits, got 0 train rows and 1 test rows",
        ),
        (
            "x,y,label\n" + BALANCED.replace(",1\n", ",0\n", 9),
            "a fifth of each class cannot be held out",
        ),
        (b"x,y,label\n1,2,\xff\n", "is not UTF-8 text"),
    ],
)
def test_wrong_csv_is_refused_with_the_reason(
    csv: Callable[..., Dataset], text: str | bytes, reason: str, tmp_path: Path
) -> None:
    assert refusal(tmp_path / "mine.csv", lambda: csv(text)).startswith(reason)


def test_npz_without_test_rows_has_a_fifth_of_each_class_held_out(
    npz: Callable[..., Dataset],
) -> None:
    inputs = np.arange(40.0).reshape(20, 2)

    data = npz(inputs=inputs, labels=np.arange(20) % 2)

    assert data.ref.name == "mine.npz"
    assert data.ref.rows == {"train": 16, "test": 4}
    assert np.bincount(data.test.targets).tolist() == [2, 2]


def test_npz_with_test_rows_is_split_as_it_says(npz: Callable[..., Dataset]) -> None:
    data = npz(
        inputs=np.array([[1, 2], [3, 4]]),
        labels=np.array([0, 1]),
        test_inputs=np.array([[5, 6]]),
        test_labels=np.array([1]),
    )

    assert (data.train.inputs.tolist(), data.train.targets.tolist()) == ([[1, 2], [3, 4]], [0, 1])
    assert (data.test.inputs.tolist(), data.test.targets.tolist()) == ([[5, 6]], [1])


@pytest.mark.parametrize("dtype", [np.int64, np.uint8, np.float64, np.str_])
def test_labels_of_an_npz_may_be_numbers_or_text(npz: Callable[..., Dataset], dtype: Any) -> None:
    labels = np.array([0, 1] * 5).astype(dtype)

    data = npz(inputs=np.zeros((10, 2)), labels=labels)

    assert np.bincount(data.train.targets).tolist() == [4, 4]


@pytest.mark.parametrize("spec", [FLAT, SQUARE])
@pytest.mark.parametrize("shape", [(20, 784), (20, 28, 28), (20, 1, 28, 28)])
def test_pixels_in_an_npz_may_be_bytes_or_floats_of_any_layout(
    npz: Callable[..., Dataset], spec: Any, shape: tuple[int, ...]
) -> None:
    pixels = (np.arange(20 * 784) % 256).astype(np.uint8).reshape(shape)
    labels = np.repeat([3, 4], 10)

    whole = npz(spec, inputs=pixels, labels=labels)
    scaled = npz(spec, inputs=pixels.astype(np.float32) / np.float32(255), labels=labels)

    assert whole.train.inputs.shape == (16, *spec.input.shape)
    assert whole.train.inputs.max() == 1.0
    assert whole.ref == scaled.ref


ZEROS = np.zeros((4, 2))


@pytest.mark.parametrize(
    ("arrays", "reason"),
    [
        ({"labels": np.zeros(4)}, "no array 'inputs'; it has labels"),
        ({"inputs": ZEROS}, "no array 'labels'; it has inputs"),
        ({}, "no array 'inputs'; it has none"),
        (
            {"inputs": ZEROS, "labels": np.zeros(4), "test_inputs": ZEROS},
            "no array 'test_labels'; it has inputs, labels, test_inputs",
        ),
        ({"inputs": ZEROS, "labels": np.zeros(3)}, "4 inputs but labels of shape (3,)"),
        ({"inputs": ZEROS, "labels": np.zeros((4, 1))}, "4 inputs but labels of shape (4, 1)"),
        (
            {
                "inputs": ZEROS,
                "labels": np.zeros(4),
                "test_inputs": ZEROS,
                "test_labels": np.zeros(5),
            },
            "4 test_inputs but labels of shape (5,)",
        ),
        (
            {"inputs": ZEROS, "labels": np.array([0, 1, 2, 0])},
            "inputs 3: label '2' is none of 0, 1",
        ),
        ({"inputs": ZEROS, "labels": np.full(4, 0.5)}, "inputs 1: label '0.5' is none of 0, 1"),
        (
            {"inputs": np.zeros((4, 3)), "labels": np.zeros(4)},
            "inputs: expected rows of 2 numbers (shape (2,)), got rows of shape (3,)",
        ),
    ],
)
def test_wrong_npz_is_refused_with_the_reason(
    npz: Callable[..., Dataset], arrays: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    assert refusal(tmp_path / "mine.npz", lambda: npz(**arrays)) == reason


class Executed:
    """Creates a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return os.system, (f"touch '{self.marker}'",)


@pytest.mark.parametrize("form", ["an array in an NPZ", "a pickle named NPZ"])
def test_pickle_is_refused_and_not_executed(form: str, tmp_path: Path) -> None:
    path, marker = tmp_path / "mine.npz", tmp_path / "executed"
    if form == "an array in an NPZ":
        np.savez(path, inputs=np.array([Executed(marker)]), labels=np.zeros(1))
    else:
        path.write_bytes(pickle.dumps(Executed(marker)))

    assert "is not a readable NPZ file" in refusal(path, lambda: files.read(PLANE, path))
    assert not marker.exists()

    loaded = np.load(path, allow_pickle=True)  # the file is as malicious as it is meant to be
    assert loaded["inputs"].size if form == "an array in an NPZ" else loaded == 0
    assert marker.exists()


@pytest.mark.parametrize("damage", ["empty", "garbage", "truncated", "scrambled", "npy"])
def test_damaged_npz_is_refused(damage: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.npz"
    np.savez_compressed(
        path, inputs=np.random.default_rng(0).random((500, 2)), labels=np.zeros(500)
    )
    whole = path.read_bytes()
    if damage == "npy":
        with path.open("wb") as file:
            np.save(file, ZEROS)
    else:
        scrambled = whole[:200] + bytes(20) + whole[220:]
        contents = {"empty": b"", "garbage": b"hello", "truncated": whole[:-99]}
        path.write_bytes(contents.get(damage, scrambled))

    assert "is not a readable NPZ file" in refusal(path, lambda: files.read(PLANE, path))


def test_zip_of_other_files_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.npz"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("inputs", "not an array")
        file.writestr("labels", "not an array")

    assert "expected numbers" in refusal(path, lambda: files.read(PLANE, path))


@pytest.mark.parametrize("name", ["absent.csv", "absent.npz", "folder.csv"])
def test_missing_file_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "folder.csv").mkdir()

    with pytest.raises(DataError) as error:
        datasets.load(str(tmp_path / name), PLANE, tmp_path)

    assert str(error.value) == f"{tmp_path / name} does not exist or is not a file"
