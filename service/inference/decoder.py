"""Reads bodies of predictions by simdjson into an array, in under half of pydantic's time.

It takes bodies as clients usually write them, and none that the published schema refuses. A body
that it does not take may still be valid: `schemas/requests.py` reads it, or says what is wrong.
"""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from perceptd.models.preprocessing import from_numbers, from_pixels
from perceptd.models.spec import InputSpec, ModelSpec
from perceptd.service.inference.answers import Rows
from perceptd.service.schemas.requests import PredictRequest, RequestSchemas
from perceptd.service.schemas.rows import dtypes_of, number_bounds

try:
    import simdjson
except ImportError:  # no build for this Python or machine: pydantic reads everything
    simdjson = None  # type: ignore[assignment] # in place of a module

LARGE_BYTES = 2**20  # a larger body is read in a thread
REFUSALS = (LookupError, TypeError, ValueError, RuntimeError)  # of simdjson, or of a dict here
FIELDS = frozenset(PredictRequest.model_fields)
MODEL = re.compile(rb'\{\s{0,9}"model"\s{0,9}:\s{0,9}"([\w.-]{1,100})"')
VERSION = b'"version"'
END_BYTES = 256  # at either end of a body, where clients write all fields but the rows

Shape = tuple[int, ...]


class Decoded(NamedTuple):
    """A valid body. `rows` is (N, *spec.input.shape)."""

    model: str
    version: int | None
    rows: Rows


class _Input(NamedTuple):
    """A model's input, looked up once: `InputSpec` computes its properties at each access."""

    spec: InputSpec
    bounds: dict[Any, tuple[float, float]]  # by dtype
    rows: dict[Shape, int]  # the shapes that a row may have, with their numbers of JSON arrays

    def arrays_in(self, rows: Any) -> int:
        """How many JSON arrays the rows have in all; 0 unless all have one of the shapes."""
        for shape, arrays in self.rows.items():
            found = 0
            for row in rows:
                if not _has(row, shape):
                    break
                found += arrays
            else:
                return found
        return 0


class Decoder:
    """Reads bodies for the models that serve: large ones in any thread, others in one thread only.

    A parser keeps ten times the memory of its largest body, so each large body has its own.
    """

    def __init__(self, specs: Mapping[str, ModelSpec], max_rows: int) -> None:
        self._inputs = {name: _input(spec.input) for name, spec in specs.items()}
        self._max_rows = max_rows
        self._parser = simdjson.Parser() if simdjson else None

    def decode(self, body: bytes) -> Decoded | None:
        """None for a body that is invalid or unusual."""
        # simdjson would skip a byte order mark.
        if self._parser is None or not body.startswith(b"{"):
            return None
        parser = self._parser if len(body) <= LARGE_BYTES else simdjson.Parser()
        try:
            return self._read(parser.parse(body), body)
        except REFUSALS:
            return None

    def _read(self, content: Any, body: bytes) -> Decoded | None:
        model, rows, dtype, version = content["model"], content["inputs"], "float32", None
        if len(content) > 2:  # no field but these two
            fields = list(content.keys())
            if len(set(fields)) < len(fields) or not FIELDS.issuperset(fields):
                return None
            dtype, version = content.get("dtype", dtype), content.get("version")
            if version is not None and not (type(version) is int and version > 0):
                return None
        takes = self._inputs[model]
        low, high = takes.bounds[dtype]
        count = len(rows)
        if not 1 <= count <= self._max_rows:
            return None
        arrays = takes.arrays_in(rows)
        # Counting the brackets finds arrays nested too deep in a row; in a valid body no string has
        # a bracket.
        if not arrays or not _occurs(b"[", 1 + arrays, body):
            return None
        numbers = np.frombuffer(rows.as_buffer(of_type="d"))  # all of them, however deep
        if np.minimum.reduce(numbers) < low or np.maximum.reduce(numbers) > high:
            return None
        if dtype == "uint8":
            pixels = numbers.astype(np.uint8)
            if not np.array_equal(pixels, numbers):  # a number had a fraction
                return None
            return Decoded(model, version, from_pixels(takes.spec, pixels.reshape(count, -1)))
        return Decoded(model, version, numbers.astype(np.float32).reshape(count, *takes.spec.shape))


def read(body: bytes, decoder: Decoder, schemas: RequestSchemas) -> Decoded:
    """What a body asks for: by simdjson, else by pydantic, which words the errors.

    Raises `InvalidInputError`, `ModelNotFoundError`, `ModelUnavailableError`.
    """
    if decoded := decoder.decode(body):
        return decoded
    asked = schemas.parse(body, PredictRequest)
    rows = from_numbers(schemas.specs[asked.model].input, asked.inputs, asked.dtype)
    return Decoded(asked.model, asked.version, rows)


def model_of(body: bytes) -> str | None:
    """The model that a body begins with, as clients write it."""
    found = MODEL.match(body)
    return found[1].decode() if found else None


def production_model(*parts: bytes) -> str | None:
    """The model whose production version a body asks for, from the whole body or from its ends.

    None if the body has to be read to know.
    """
    return None if any(VERSION in part for part in parts) else model_of(parts[0])


def _input(spec: InputSpec) -> _Input:
    shapes: list[Shape] = [(spec.size,), spec.picture] if spec.picture else [spec.shape]
    return _Input(
        spec,
        {dtype: number_bounds(spec, dtype) for dtype in dtypes_of(spec)},
        {shape: _arrays_in(shape) for shape in shapes},
    )


def _arrays_in(shape: Shape) -> int:
    """How many JSON arrays one array of this shape has, itself included."""
    return 1 + (shape[0] * _arrays_in(shape[1:]) if len(shape) > 1 else 0)


def _has(row: Any, shape: Shape) -> bool:
    if not isinstance(row, simdjson.Array) or len(row) != shape[0]:
        return False
    return len(shape) == 1 or all(_has(inner, shape[1:]) for inner in row)


def _occurs(sign: bytes, times: int, body: bytes) -> bool:
    """Whether `sign` occurs exactly so many times; `bytes.count` is slower if it is rare."""
    place = -1
    for _ in range(times):
        if (place := body.find(sign, place + 1)) < 0:
            return False
    return body.find(sign, place + 1) < 0
