"""Arrays of any shape and dtype become the right tensor or an error with a text."""

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from perceptd.models.preprocessing import (
    InputError,
    check_rows,
    from_bytes,
    from_numbers,
    to_pixels,
)
from perceptd.models.spec import InputSpec
from perceptd.service.api.oip.requests import InputParameters, InputTensor
from perceptd.service.api.oip.tensors import read_rows
from perceptd.service.errors import InvalidInputError, PerceptdError
from perceptd.service.schemas.requests import PredictRequest, RequestSchemas
from tests.fuzz.amounts import counted, tries
from tests.fuzz.requests import MODELS, SPECS, trees

pytestmark = pytest.mark.fuzz

specs = st.sampled_from([SPECS[model].input for model in MODELS])
SIZES = st.sampled_from([0, 1, 2, 3, 28, 783, 784])
shapes = st.sampled_from(
    [(1, 2), (2, 2), (3, 784), (1, 28, 28), (2, 1, 28, 28), (1, 1, 784), (0, 784)]
) | st.lists(SIZES, max_size=3).map(tuple).filter(lambda shape: math.prod(shape) <= 10_000)
kinds = st.one_of(
    arrays.floating_dtypes(endianness="?"),
    arrays.integer_dtypes(endianness="?"),
    arrays.unsigned_integer_dtypes(),
    arrays.boolean_dtypes(),
    arrays.complex_number_dtypes(),
    st.sampled_from([np.dtype("S3"), np.dtype("U2"), np.dtype("M8[s]"), np.dtype("m8[s]"),
                     np.dtype([("a", "f4")]), np.dtype("V4")]),
)  # fmt: skip


@st.composite
def tables(draw: st.DrawFn) -> NDArray[Any]:
    """An array of some dtype and shape: random bytes or one repeated number."""
    kind, shape = draw(kinds), draw(shapes)
    count = int(np.prod(shape, dtype=int))
    if draw(st.booleans()) and kind.kind in "fiu":
        with np.errstate(all="ignore"):
            one = np.array(draw(st.sampled_from([0, 1, 0.5, 127, 255, 1e30]))).astype(kind)
            return np.full(shape, one)
    seed = np.random.default_rng(draw(st.integers(0, 2**32)))
    return np.frombuffer(seed.bytes(count * kind.itemsize), kind, count).reshape(shape)


def is_right(spec: InputSpec, rows: NDArray[np.float32]) -> None:
    """Assert that a model accepts these rows."""
    assert rows.dtype == np.float32
    assert rows.shape[1:] == spec.shape
    assert len(rows) > 0
    assert np.isfinite(rows).all()
    if spec.picture:
        assert rows.min() >= 0
        assert rows.max() <= 1


def test_arrays_of_any_kind_become_rows_or_are_refused() -> None:
    with counted() as count:

        @tries(1000)
        @given(specs, tables())
        def attack(spec: InputSpec, table: NDArray[Any]) -> None:
            count.inputs += 1
            try:
                with np.errstate(invalid="ignore"):
                    is_right(spec, check_rows(spec, table))
            except InputError as error:
                assert error.expected
                assert error.got

        attack()


def test_bytes_become_the_pixels_that_they_are() -> None:
    with counted() as count:

        @tries(500)
        @given(specs, st.binary(max_size=9) | st.binary(min_size=783, max_size=785))
        def attack(spec: InputSpec, body: bytes) -> None:
            count.inputs += 1
            try:
                rows = from_bytes(spec, body)
            except InputError:
                assert len(body) != spec.size
                return
            if spec.picture:
                is_right(spec, rows)
                assert to_pixels(rows).tobytes() == body

        attack()


def test_any_value_in_a_body_becomes_rows_or_is_refused() -> None:
    schemas = RequestSchemas(SPECS, {}, 64)
    with counted() as count:

        @tries(1000)
        @given(st.fixed_dictionaries(
            {"model": st.sampled_from(MODELS) | trees(), "inputs": trees()},
            optional={"dtype": st.sampled_from(("uint8", "float32")) | trees(), "version": trees()},
        ))  # fmt: skip
        def attack(content: dict[str, Any]) -> None:
            count.inputs += 1
            try:
                asked = schemas.parse(json.dumps(content).encode(), PredictRequest)
            except PerceptdError as error:
                assert str(error)
                return
            spec = SPECS[asked.model].input
            is_right(spec, from_numbers(spec, asked.inputs, asked.dtype))

        attack()


def test_any_tensor_becomes_rows_or_is_refused() -> None:
    datatypes = st.sampled_from(["FP32", "UINT8", "FP64", "BYTES", "", "\u00e9"])
    with counted() as count:

        @tries(1000)
        @given(
            specs,
            st.lists(st.integers(0, 3) | st.sampled_from([28, 784, 2**31, 2**62]), max_size=8),
            datatypes,
            st.binary(max_size=64) | st.binary(min_size=784, max_size=784),
        )
        def attack(spec: InputSpec, shape: list[int], datatype: str, behind: bytes) -> None:
            count.inputs += 1
            tensor = InputTensor("x", shape, datatype, InputParameters(len(behind)))
            try:
                is_right(spec, read_rows(spec, tensor, memoryview(behind), 64))
            except InvalidInputError as error:
                assert error.errors

        attack()
