"""A data set in a user's file: CSV or NPZ.

**CSV**: a header line, then one row per line. The column `label` holds one of the model's labels,
an optional column `split` holds `train` or `test`; all other columns, in their order, are the
numbers of one input row.

**NPZ**: arrays `inputs` (N, ...) and `labels` (N,); optionally `test_inputs` and `test_labels`.

Pictures are numbers in 0..1, or whole numbers 0..255 (uint8 in an NPZ; in a CSV, a file whose
largest number exceeds 1). Without test rows, a fifth of each class is held out.
"""

import csv
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perceptd.models.preprocessing import FULL_INK, InputError, check_rows
from perceptd.models.spec import ModelSpec
from perceptd.training.data.splits import Dataset, Split, hold_out
from perceptd.training.errors import DataError

WHOLE = re.compile(r"\d+\.0*")
SUFFIXES = (".csv", ".npz")


def read(spec: ModelSpec, path: Path) -> Dataset:
    """Read a user's data set for a model. Raises `DataError`, whose message says what to fix."""
    _check_there(path)
    return _read_csv(spec, path) if path.suffix == ".csv" else _read_npz(spec, path)


def read_rows(spec: ModelSpec, path: Path) -> Split:
    """The arrays `inputs` and `labels` of an NPZ, in file order. Raises `DataError`."""
    _check_there(path)
    return _split(spec, path, _load_npz(path), "")


def _check_there(path: Path) -> None:
    if not path.is_file():
        raise DataError(f"{path} does not exist or is not a file")


def _read_csv(spec: ModelSpec, path: Path) -> Dataset:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = csv.reader(file)
            header = next(lines, [])
            for line in lines:
                if line and len(line) != len(header):
                    raise DataError(
                        f"{path}: line {lines.line_num} has {len(line)} columns, "
                        f"the header has {len(header)}"
                    )
        if header.count("label") != 1:
            raise DataError(f"{path}: the header needs one column 'label', it has {header[:5]} ...")
        numbers = [i for i, name in enumerate(header) if name not in ("label", "split")]
        if len(numbers) != spec.input.size:
            raise DataError(
                f"{path}: the model takes {spec.input.size} numbers per row, "
                f"the header has {len(numbers)} columns besides label and split"
            )
        rows = _load_columns(path, numbers, float)
        labels = _load_columns(path, [header.index("label")], str)[:, 0]
        splits = (
            _load_columns(path, [header.index("split")], str)[:, 0] if "split" in header else None
        )
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text: {error}") from error
    except (ValueError, csv.Error) as error:
        raise error if isinstance(error, DataError) else DataError(f"{path}: {error}") from error
    if spec.input.picture and rows.max(initial=0) > 1:
        rows = _as_pixels(path, rows)
    inputs, targets = _checked(spec, path, "rows", rows, labels)
    if splits is None:
        return hold_out(path.name, inputs, targets)
    if unknown := sorted(set(splits.tolist()) - {"train", "test"}):
        raise DataError(f"{path}: the column split says {unknown[0]!r}, expected train or test")
    train, test = splits == "train", splits == "test"
    return _both(path, Split(inputs[train], targets[train]), Split(inputs[test], targets[test]))


def _load_columns(path: Path, columns: list[int], kind: type) -> NDArray[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about blank lines and empty files
        return np.loadtxt(
            path,
            delimiter=",",
            skiprows=1,
            usecols=columns,
            dtype=kind,
            encoding="utf-8-sig",
            quotechar='"',
            comments=None,
            ndmin=2,
        )


def _as_pixels(path: Path, rows: NDArray[np.float64]) -> NDArray[np.uint8]:
    wrong = (rows < 0) | (rows > FULL_INK) | (rows != np.round(rows))
    if wrong.any():
        raise DataError(
            f"{path}: pixels must be in 0..1, or whole numbers in 0..{FULL_INK}; "
            f"got {rows[wrong][0]:g}"
        )
    return rows.astype(np.uint8)


def _read_npz(spec: ModelSpec, path: Path) -> Dataset:
    arrays = _load_npz(path)
    train = _split(spec, path, arrays, "")
    if "test_inputs" not in arrays and "test_labels" not in arrays:
        return hold_out(path.name, train.inputs, train.targets)
    return _both(path, train, _split(spec, path, arrays, "test_"))


def _load_npz(path: Path) -> dict[str, NDArray[Any]]:
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            return {name: np.asarray(file[name]) for name in file.files}
    except Exception as error:  # a damaged file makes numpy and zipfile raise any type
        reason = "it is no NPZ, or holds Python objects" if "pickle" in str(error) else error
        raise DataError(f"{path} is not a readable NPZ file of plain arrays: {reason}") from error


def _split(spec: ModelSpec, path: Path, arrays: dict[str, NDArray[Any]], prefix: str) -> Split:
    inputs, labels = f"{prefix}inputs", f"{prefix}labels"
    if missing := {inputs, labels} - arrays.keys():
        found = ", ".join(arrays) or "none"
        raise DataError(f"{path}: no array {min(missing)!r}; it has {found}")
    return Split(*_checked(spec, path, inputs, arrays[inputs], arrays[labels]))


def _checked(
    spec: ModelSpec, path: Path, name: str, rows: NDArray[Any], labels: NDArray[Any]
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    try:
        inputs = check_rows(spec.input, rows)
    except InputError as error:
        raise DataError(f"{path}: {name}: {error}") from error
    if labels.shape != (len(inputs),):
        raise DataError(f"{path}: {len(inputs)} {name} but labels of shape {labels.shape}")
    index = {label: i for i, label in enumerate(spec.labels)}
    targets = np.empty(len(labels), dtype=np.int64)
    for row, label in enumerate(labels.tolist()):
        text = str(label)
        if text not in index and WHOLE.fullmatch(text):  # some programs write 1 as 1.0
            text = text.partition(".")[0]
        if text not in index:
            raise DataError(
                f"{path}: {name} {row + 1}: label {text!r} is none of {', '.join(spec.labels)}"
            )
        targets[row] = index[text]
    return inputs, targets


def _both(path: Path, train: Split, test: Split) -> Dataset:
    if not len(train) or not len(test):
        got = f"{len(train)} train rows and {len(test)} test rows"
        raise DataError(f"{path}: expected rows of both splits, got {got}")
    return Dataset(path.name, train, test)
