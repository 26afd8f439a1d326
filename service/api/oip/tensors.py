"""Tensors of the Open Inference Protocol: JSON or bytes <-> arrays."""

import functools
import math
import re
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
from msgspec import UNSET, Raw
from msgspec.json import Decoder
from numpy.typing import NDArray

from perceptd.models.preprocessing import FULL_INK, InputError, check_rows
from perceptd.models.spec import InputSpec
from perceptd.service.api.oip.requests import InputTensor, parse
from perceptd.service.inference.answers import Rows
from perceptd.service.inference.runtimes import Probabilities
from perceptd.service.schemas.validation import invalid

FP32, UINT8, BYTES = "FP32", "UINT8", "BYTES"
DTYPES: dict[str, np.dtype[Any]] = {FP32: np.dtype("<f4"), UINT8: np.dtype("u1")}
LENGTH = struct.Struct("<I")  # precedes each element of BYTES
OPENING = re.compile(rb"[\s\[]*")
Values = NDArray[np.float32] | list[str]  # elements of FP32 or BYTES, row by row
HEADER = "Inference-Header-Content-Length"


def datatypes_of(spec: InputSpec) -> tuple[str, ...]:
    """The datatypes of a model's input: for a picture also UINT8, 0..255."""
    return (FP32, UINT8) if spec.picture else (FP32,)


def row_shapes(spec: InputSpec) -> list[tuple[int, ...]]:
    """The shapes that a row may have; all have the same number of elements."""
    pictures = [(spec.size,), spec.picture, (1, *spec.picture)] if spec.picture else []
    return list(dict.fromkeys([spec.shape, *pictures]))


def read_rows(spec: InputSpec, tensor: InputTensor, behind: memoryview, max_rows: int) -> Rows:
    """The rows of a model's only input, from JSON or the bytes behind it: (N, *spec.shape).

    Raises `InvalidInputError`.
    """
    _check_shape(spec, tensor, max_rows)
    size = tensor.parameters.binary_data_size if tensor.parameters else None
    if len(behind) != (size or 0):
        expected = f"{size or 0} bytes after the JSON, whose length is in {HEADER}"
        raise invalid([], expected, f"{len(behind)}")
    data = None if tensor.data is UNSET or _is_null(tensor.data) else tensor.data
    if (data is None) == (size is None):
        expected = "numbers, or the parameter binary_data_size"
        raise invalid(_place(tensor, "data"), expected, "nothing" if size is None else "both")
    values = _from_json(tensor, data) if data is not None else _from_bytes(tensor, behind)
    try:
        return check_rows(spec, values)
    except InputError as error:
        pixels = f", or whole numbers in 0 to {FULL_INK} as {UINT8}" if spec.picture else ""
        raise invalid(_place(tensor, "data"), f"{error.expected}{pixels}", error.got) from None


def _check_shape(spec: InputSpec, tensor: InputTensor, max_rows: int) -> None:
    if tensor.datatype not in (known := datatypes_of(spec)):
        raise invalid(_place(tensor, "datatype"), " or ".join(known), f"{tensor.datatype[:60]!r}")
    shapes = row_shapes(spec)
    if tuple(tensor.shape[1:]) not in shapes or not 1 <= tensor.shape[0] <= max_rows:
        known_shapes = " or ".join(str(["N", *shape]).replace("'", "") for shape in shapes)
        expected = f"{known_shapes} with N in 1 to {max_rows}"
        raise invalid(_place(tensor, "shape"), expected, str(tensor.shape))


def _place(tensor: InputTensor, *field: str) -> tuple[str, ...]:
    return ("inputs", tensor.name, *field)


def _is_null(data: Raw) -> bool:
    return memoryview(data)[:5].tobytes() == b"null"


def _from_bytes(tensor: InputTensor, content: memoryview) -> NDArray[Any]:
    dtype = DTYPES[tensor.datatype]
    size = math.prod(tensor.shape) * dtype.itemsize
    if len(content) != size:
        expected = f"{size} bytes for {tensor.datatype} of shape {tensor.shape}"
        place = _place(tensor, "parameters", "binary_data_size")
        raise invalid(place, expected, f"{len(content)}")
    return np.frombuffer(content, dtype).reshape(tensor.shape)


def _from_json(tensor: InputTensor, data: Raw) -> NDArray[Any]:
    """Numbers, flat or nested as the shape says: float64, so that checks see them unrounded."""
    wanted = math.prod(tensor.shape)
    expected = f"{wanted} numbers, flat or nested as {tensor.shape}"
    if (count := bytes(data).count(b",") + 1) > wanted:  # before Python objects are made of them
        raise invalid(_place(tensor, "data"), expected, f"{count}")
    opening = OPENING.match(data)
    depth = min(opening[0].count(b"["), len(tensor.shape)) if opening else 0
    numbers = parse(_numbers(depth or 1), data, *_place(tensor, "data"))
    try:
        values = np.array(numbers, dtype=np.float64)
        got = f"numbers of shape {list(values.shape)}"
        fits = values.shape in ((wanted,), tuple(tensor.shape))
    except ValueError:
        got, fits = "arrays of different lengths", False
    if not fits:
        raise invalid(_place(tensor, "data"), expected, got)
    if tensor.datatype == UINT8:
        outside = (values < 0) | (values > FULL_INK) | (values != np.floor(values))
        if outside.any():
            expected = f"whole numbers in 0 to {FULL_INK} (numbers in 0 to 1 go as {FP32})"
            raise invalid(_place(tensor, "data"), expected, f"{values[outside][0]:g}")
        values = values.astype(np.uint8)
    return values.reshape(tensor.shape)


@functools.cache
def _numbers(depth: int) -> Decoder[Any]:
    """A decoder of numbers in arrays nested `depth` levels deep."""
    kind: Any = float
    for _ in range(depth):
        kind = list[kind]
    return Decoder(kind)


def classifications(
    probabilities: Probabilities, labels: Sequence[str], count: int
) -> list[list[str]]:
    """The `count` most likely labels of each row, in Triton's format `value:index:label`."""
    order = np.argsort(-probabilities, axis=1, kind="stable")[:, :count]
    return [
        [f"{row[index]:.6f}:{index}:{labels[index]}" for index in indices]
        for row, indices in zip(probabilities.tolist(), order.tolist(), strict=True)
    ]


def to_bytes(values: Values) -> bytes:
    """Little-endian; each element of BYTES follows its length."""
    if isinstance(values, np.ndarray):
        return values.astype(DTYPES[FP32], copy=False).tobytes()
    raw = (value.encode() for value in values)
    return b"".join(LENGTH.pack(len(element)) + element for element in raw)
