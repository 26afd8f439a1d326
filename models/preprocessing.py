"""Raw numbers, bytes and pictures -> the float32 array a model takes, in training and serving."""

import struct
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perceptd.models.pictures.digit import read_digit
from perceptd.models.spec import Dtype, InputSpec

FULL_INK = 255


class InputError(ValueError):
    """The model does not accept the rows. `expected` and `got` say why."""

    def __init__(self, expected: str, got: str) -> None:
        super().__init__(f"expected {expected}, got {got}")
        self.expected = expected
        self.got = got


def from_numbers(spec: InputSpec, rows: Sequence[Any], dtype: Dtype) -> NDArray[np.float32]:
    """Validated rows of numbers, each flat or nested -> (N, *spec.shape). `uint8` is 0..255."""
    pack = packer(spec.size).pack_into
    values = np.empty((len(rows), *spec.shape), dtype=np.float32)
    for row, value in zip(rows, values, strict=True):
        pack(value, 0, *flat(row))
    return values / np.float32(FULL_INK) if dtype == "uint8" else values


@lru_cache
def packer(size: int) -> struct.Struct:
    """A packer of `size` numbers as float32. For a list it takes a third of numpy's time."""
    return struct.Struct(f"{size}f")


def flat(row: Sequence[Any]) -> Sequence[Any]:
    """The numbers of a row, however deeply nested."""
    while isinstance(row[0], list):
        row = [number for inner in row for number in inner]
    return row


def from_pixels(spec: InputSpec, pixels: NDArray[Any]) -> NDArray[np.float32]:
    """Pictures of whole numbers 0..255, (N, height, width) or flat -> (N, *spec.shape) in 0..1."""
    return pixels.reshape(len(pixels), *spec.shape).astype(np.float32) / np.float32(FULL_INK)


def to_pixels(rows: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The inverse of `from_pixels`: rows (N, *shape) in 0..1 -> (N, size) in 0..255."""
    return np.rint(rows * FULL_INK).astype(np.uint8).reshape(len(rows), -1)


def from_bytes(spec: InputSpec, body: bytes) -> NDArray[np.float32]:
    """One picture as grey bytes, 0 background, 255 ink -> (1, *spec.shape). Raises `InputError`."""
    if len(body) != spec.size:
        raise InputError(f"{spec.size} bytes, one per pixel", f"{len(body)} bytes")
    return from_pixels(spec, np.frombuffer(body, dtype=np.uint8).reshape(1, -1))


def from_picture(spec: InputSpec, body: bytes, *, max_pixels: int) -> NDArray[np.float32]:
    """One PNG or JPEG -> (1, *spec.shape). Raises `PictureError`."""
    return from_pixels(spec, read_digit(body, max_pixels=max_pixels)[np.newaxis])


def check_rows(spec: InputSpec, rows: NDArray[Any]) -> NDArray[np.float32]:
    """Rows of an untrusted array -> (N, *spec.shape). Raises `InputError`.

    Pictures are uint8 in 0..255 or floats in 0..1.
    """
    if not np.issubdtype(rows.dtype, np.number) or np.iscomplexobj(rows):
        raise InputError("numbers", f"an array of {rows.dtype}")
    if rows.ndim == 0 or len(rows) == 0:
        raise InputError("at least one row", "none")
    if rows[0].size != spec.size:
        raise InputError(
            f"rows of {spec.size} numbers (shape {spec.shape})", f"rows of shape {rows.shape[1:]}"
        )
    if spec.picture and rows.dtype == np.uint8:
        return from_pixels(spec, rows)
    with np.errstate(over="ignore"):  # what overflows float32 becomes infinite and is refused below
        values = rows.reshape(len(rows), *spec.shape).astype(np.float32)
    if not np.isfinite(values).all():
        raise InputError("finite numbers", "NaN or an infinity")
    low, high = float(rows.min()), float(rows.max())  # before rounding to float32
    if (spec.minimum is not None and low < spec.minimum) or (
        spec.maximum is not None and high > spec.maximum
    ):
        whole = spec.picture and np.issubdtype(rows.dtype, np.integer)
        pixels = " (whole numbers in 0 to 255 as uint8)" if whole else ""
        raise InputError(
            f"numbers in {spec.minimum} to {spec.maximum}{pixels}",
            f"numbers in {low:g} to {high:g}",
        )
    return values
