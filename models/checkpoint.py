"""A checkpoint: a folder with weights, exported graph, plots and `meta.json`.

`write` fills a temporary folder, flushes it to disk and renames it: a checkpoint is complete or
absent. `read` verifies every file's SHA-256 and the weights' keys and shapes. Imports no torch.
"""

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, FiniteFloat, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save_file

from perceptd.models.drift import Reference
from perceptd.models.spec import ModelSpec

WEIGHTS = "model.safetensors"
GRAPH = "model.onnx"
META = "meta.json"
PLOTS = ("loss", "boundary", "predictions")
PLOT_FORMATS = ("svg", "png")
BOUNDARY_DATA = "plots/boundary.json"  # extent and points of the boundary plot
MAX_PLANE_POINTS = 500  # larger training sets are sampled
FILES = re.compile(
    rf"{re.escape(WEIGHTS)}|{re.escape(GRAPH)}|{re.escape(BOUNDARY_DATA)}|"
    rf"plots/({'|'.join(PLOTS)})\.({'|'.join(PLOT_FORMATS)})"
)


class CheckpointError(ValueError):
    """The folder is not a complete, unaltered checkpoint. The message says why."""


class DatasetRef(BaseModel):
    """The data set of a training: rows per split, SHA-256 over inputs and targets."""

    name: str
    sha256: str
    rows: dict[str, int]


class CurvePoint(BaseModel):
    """Loss and accuracy after one epoch, counted from 1. `loss` is the mean over its steps."""

    epoch: int
    loss: FiniteFloat
    test_loss: FiniteFloat
    test_accuracy: FiniteFloat


class Provenance(BaseModel):
    """Origin and quality of a checkpoint, as the code that writes it states them."""

    model_config = ConfigDict(extra="forbid")

    architecture: str
    config: dict[str, Any]
    spec: ModelSpec
    metrics: dict[str, dict[str, FiniteFloat]]
    curve: list[CurvePoint]
    recipe: dict[str, Any] | None
    dataset: DatasetRef | None
    parent_sha256: str | None
    libraries: dict[str, str]
    git_commit: str | None
    created_at: datetime
    drift: Reference | None = None  # served inputs are compared with it


class Meta(Provenance):
    """The content of `meta.json`: the provenance, the tensors' shapes and the files' SHA-256."""

    format: Literal[1] = 1
    tensors: dict[str, list[int]]
    files: dict[str, str]

    @property
    def weights_sha256(self) -> str:
        return self.files[WEIGHTS]


def write(
    target: Path,
    provenance: Provenance,
    weights: Mapping[str, NDArray[Any]],
    fill: Callable[[Path], None],
) -> Meta:
    """Write a checkpoint to `target`, which must not exist.

    `fill` gets the temporary folder, which holds the weights, and adds graph and plots. If
    anything fails, the folder is removed.
    """
    with _unfinished(target) as folder:
        save_file(dict(weights), folder / WEIGHTS)
        fill(folder)
        meta = Meta(
            **provenance.model_dump(),
            tensors={key: list(array.shape) for key, array in weights.items()},
            files={name: _sha256(folder / name) for name in _files_in(folder)},
        )
        _write_meta(folder, meta)
    return meta


def copy(source: Path, target: Path, drift: Reference | None = None) -> Meta:
    """Verify a checkpoint and copy it to `target`, which must not exist.

    `drift`, if given, replaces the drift reference in the copy.
    """
    meta = read(source)
    with _unfinished(target) as folder:
        for name in [META, *meta.files]:
            (folder / name).parent.mkdir(exist_ok=True)
            shutil.copyfile(source / name, folder / name)
        if drift:
            meta = meta.model_copy(update={"drift": drift})
            _write_meta(folder, meta)
        read(folder)
    return meta


def read(folder: Path) -> Meta:
    """Verify a checkpoint and return its meta. Raises `CheckpointError`."""
    if (folder / META).exists() and not ((folder / META).is_file() or (folder / META).is_dir()):
        # Reading a named pipe would block.
        raise CheckpointError(f"{folder}: {META} is not a regular file")
    try:
        meta = Meta.model_validate_json((folder / META).read_bytes())
    except OSError as error:
        raise CheckpointError(f"{folder}: {META} cannot be read ({error.strerror})") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise CheckpointError(f"{folder}: {META} is damaged: {where}: {first['msg']}") from error
    for name in (WEIGHTS, GRAPH):
        if name not in meta.files:
            raise CheckpointError(f"{folder}: {META} does not list {name}")
    for name, expected in meta.files.items():
        if not FILES.fullmatch(name):
            raise CheckpointError(f"{folder}: {META} lists a file it must not: {name!r}")
        if not (folder / name).is_file():
            raise CheckpointError(f"{folder}: {name} is missing")
        try:
            actual = _sha256(folder / name)
        except OSError as error:
            raise CheckpointError(f"{folder}: {name} cannot be read ({error.strerror})") from error
        if actual != expected:
            raise CheckpointError(
                f"{folder}: {name} was altered: SHA-256 is {actual}, {META} says {expected}"
            )
    _check_tensors(folder, meta)
    return meta


def read_weights(folder: Path) -> dict[str, NDArray[Any]]:
    """The state_dict of a checkpoint that `read` has verified, as arrays."""
    weights: dict[str, NDArray[Any]] = load_file(folder / WEIGHTS)
    return weights


def tensor_offsets(weights_file: Path) -> dict[str, tuple[int, int]]:
    """Where each tensor lies in a safetensors file: key -> (offset, length), in bytes."""
    with weights_file.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    header.pop("__metadata__", None)
    return {
        key: (8 + length + start, end - start)
        for key, (start, end) in ((key, entry["data_offsets"]) for key, entry in header.items())
    }


def _check_tensors(folder: Path, meta: Meta) -> None:
    try:
        with safe_open(folder / WEIGHTS, framework="np") as file:
            found = {key: list(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118 - not iterable itself
    except SafetensorError as error:
        raise CheckpointError(f"{folder}: {WEIGHTS} is not a safetensors file: {error}") from error
    if difference := describe_difference(meta.tensors, found):
        raise CheckpointError(f"{folder}: {WEIGHTS} does not fit {META}: {difference}")


def describe_difference(
    expected: Mapping[str, list[int]], found: Mapping[str, list[int]]
) -> str | None:
    """How two sets of tensor shapes differ, in one line; None if they are equal."""
    parts = []
    if missing := sorted(expected.keys() - found.keys()):
        parts.append(f"missing {', '.join(missing)}")
    if unexpected := sorted(found.keys() - expected.keys()):
        parts.append(f"unexpected {', '.join(unexpected)}")
    parts += [
        f"{key} has shape {found[key]}, expected {shape}"
        for key, shape in expected.items()
        if key in found and found[key] != shape
    ]
    return "; ".join(parts) or None


def _write_meta(folder: Path, meta: Meta) -> None:
    (folder / META).write_text(meta.model_dump_json(indent=1) + "\n")


@contextmanager
def _unfinished(target: Path) -> Iterator[Path]:
    """A temporary folder that is renamed to `target` if the block succeeds."""
    if target.exists():
        raise CheckpointError(f"{target} exists, and a checkpoint is never overwritten")
    target.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{target.name}.unfinished-", dir=target.parent))
    try:
        (folder / "plots").mkdir()
        yield folder
        for path in [*folder.rglob("*"), folder]:
            path.chmod(0o755 if path.is_dir() else 0o644)
            _flush(path)
        folder.rename(target)
        _flush(target.parent)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def remove_unfinished(target: Path) -> None:
    """Remove temporary folders that a killed writer of `target` left behind."""
    for folder in target.parent.glob(f".{target.name}.unfinished-*"):
        shutil.rmtree(folder, ignore_errors=True)


def _files_in(folder: Path) -> list[str]:
    return sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
    )


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_of(arrays: Iterator[NDArray[Any]]) -> str:
    """SHA-256 over the types, shapes and bytes of some arrays, in order."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(repr((array.dtype.str, array.shape)).encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
