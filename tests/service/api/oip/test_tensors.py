"""Rows in every encoding of the Open Inference Protocol give the same array, or are refused."""

import json
import math
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from perceptd.models.networks.mnist import drawn_seven
from perceptd.models.preprocessing import from_numbers
from perceptd.models.spec import InputSpec
from perceptd.service.api.oip.requests import InferRequest
from perceptd.service.api.oip.tensors import (
    classifications,
    read_rows,
    row_shapes,
    to_bytes,
)
from perceptd.service.errors import InvalidInputError

PLANE = InputSpec(shape=(2,))
PICTURE = InputSpec(shape=(1, 28, 28), minimum=0, maximum=1, picture=(28, 28))
FLOAT32_MAX = float(np.finfo(np.float32).max)

finite = st.floats(-FLOAT32_MAX, FLOAT32_MAX, width=32)
planes = st.lists(st.tuples(finite, finite), min_size=1, max_size=9)


def read(spec: InputSpec, content: bytes = b"", **tensor: Any) -> NDArray[np.float32]:
    """The rows of a request whose only input is this, and these bytes behind it."""
    body = json.dumps({"inputs": [{"name": "x", "datatype": "FP32", **tensor}]})
    request = msgspec.json.decode(body, type=InferRequest)
    return read_rows(spec, request.inputs[0], memoryview(content), max_rows=9)


def in_all_encodings(
    spec: InputSpec, rows: NDArray[Any], datatype: str
) -> list[NDArray[np.float32]]:
    """The same rows nested, flat and as bytes, in every shape that they may have."""
    read_as = []
    for row in row_shapes(spec):
        tensor: dict[str, Any] = {"shape": [len(rows), *row], "datatype": datatype}
        size = {"binary_data_size": rows.nbytes}
        read_as += [
            read(spec, data=rows.reshape(tensor["shape"]).tolist(), **tensor),
            read(spec, data=rows.ravel().tolist(), **tensor),
            read(spec, rows.tobytes(), parameters=size, **tensor),
            read(spec, rows.tobytes(), parameters=size, data=None, **tensor),
        ]
    return read_as


@given(planes)
def test_numbers_are_the_same_to_the_last_bit_however_they_come(
    rows: list[tuple[float, float]],
) -> None:
    array = np.array(rows, dtype="<f4")
    for values in in_all_encodings(PLANE, array, "FP32"):
        assert values.dtype == np.float32
        assert values.tobytes() == array.tobytes()


@given(st.integers(0, 2**32 - 1), st.integers(1, 3))
@settings(max_examples=20, deadline=None)
def test_a_picture_is_the_same_however_it_comes(seed: int, count: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (count, 784), dtype=np.uint8)
    expected = from_numbers(PICTURE, pixels.tolist(), "uint8")
    for values in in_all_encodings(PICTURE, pixels, "UINT8"):
        assert values.shape == (count, 1, 28, 28)
        np.testing.assert_array_equal(values, expected)
    for values in in_all_encodings(PICTURE, expected, "FP32"):
        np.testing.assert_array_equal(values, expected)


def test_bytes_may_begin_anywhere() -> None:
    rows = np.array([[0.5, -2]], dtype="<f4")
    for before in range(8):
        behind = memoryview(b" " * before + rows.tobytes())[before:]
        request = msgspec.json.decode(
            b'{"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32",'
            b' "parameters": {"binary_data_size": 8}}]}',
            type=InferRequest,
        )
        np.testing.assert_array_equal(read_rows(PLANE, request.inputs[0], behind, 1), rows)


def test_a_whole_number_may_be_written_with_a_point() -> None:
    seven = np.array(drawn_seven(), dtype=np.float64).reshape(1, 784)
    whole = read(PICTURE, shape=[1, 784], datatype="UINT8", data=seven.astype(int).tolist())
    written = read(PICTURE, shape=[1, 784], datatype="UINT8", data=seven.tolist())
    np.testing.assert_array_equal(whole, written)


ONE = {"shape": [1, 2], "data": [0, 0]}
PIXELS = {"shape": [1, 784], "datatype": "UINT8"}
PARAMETERS = {"binary_data_size": 8}
WRONG: dict[str, tuple[InputSpec, dict[str, Any], bytes, str, str]] = {
    "another datatype": (PLANE, {**ONE, "datatype": "FP64"}, b"", "datatype", "FP32, got 'FP64'"),
    "pixels for the plane": (PLANE, {**ONE, "datatype": "UINT8"}, b"", "datatype", "FP32, got"),
    "no shape": (PLANE, {**ONE, "shape": []}, b"", "shape", "[N, 2] with N in 1 to 9, got []"),
    "no row axis": (PLANE, {**ONE, "shape": [2]}, b"", "shape", "got [2]"),
    "no row": (PLANE, {"shape": [0, 2], "data": []}, b"", "shape", "got [0, 2]"),
    "too many rows": (PLANE, {"shape": [10, 2], "data": [0] * 20}, b"", "shape", "got [10, 2]"),
    "rows of three": (PLANE, {"shape": [1, 3], "data": [0] * 3}, b"", "shape", "got [1, 3]"),
    "a picture of 27 rows": (
        PICTURE,
        {"shape": [1, 27, 28], "data": [0] * 756},
        b"",
        "shape",
        "[N, 1, 28, 28] or [N, 784] or [N, 28, 28] with N in 1 to 9, got [1, 27, 28]",
    ),
    "no data": (PLANE, {"shape": [1, 2]}, b"", "data", "got nothing"),
    "data null": (PLANE, {**ONE, "data": None}, b"", "data", "got nothing"),
    "data twice": (PLANE, {**ONE, "parameters": PARAMETERS}, bytes(8), "data", "got both"),
    "a number": (PLANE, {**ONE, "data": 5}, b"", "data", "an array, got a whole number"),
    "an object": (PLANE, {**ONE, "data": {}}, b"", "data", "an array, got an object"),
    "too few": (PLANE, {**ONE, "data": [1]}, b"", "data", "2 numbers, flat or nested as [1, 2]"),
    "too many": (PLANE, {**ONE, "data": [[1, 2], [3, 4]]}, b"", "data", "got 4"),
    "nested as another shape": (PLANE, {**ONE, "data": [[1], [2]]}, b"", "data", "shape [2, 1]"),
    "ragged": (PLANE, {"shape": [2, 2], "data": [[1], [2, 3]]}, b"", "data", "different lengths"),
    "too deep": (PLANE, {**ONE, "data": [[[1, 2]]]}, b"", "data.0.0", "a number, got an array"),
    "a truth": (PLANE, {**ONE, "data": [1, True]}, b"", "data.1", "a number, got a boolean"),
    "a text": (PLANE, {**ONE, "data": [["1", 2]]}, b"", "data.0.0", "a number, got a string"),
    "nothing among numbers": (PLANE, {**ONE, "data": [1, None]}, b"", "data.1", "got null"),
    "beyond float32": (PLANE, {**ONE, "data": [1, 1e39]}, b"", "data", "finite numbers"),
    "NaN in bytes": (
        PLANE,
        {"shape": [1, 2], "parameters": PARAMETERS},
        np.array([math.nan, 1], "<f4").tobytes(),
        "data",
        "finite numbers, got NaN or an infinity",
    ),
    "pixels as FP32": (
        PICTURE,
        {"shape": [1, 784], "data": [255] * 784},
        b"",
        "data",
        "numbers in 0.0 to 1.0, or whole numbers in 0 to 255 as UINT8",
    ),
    "hardly more than one": (
        PICTURE,
        {"shape": [1, 784], "data": [0] * 783 + [1.000000001]},
        b"",
        "data",
        "numbers in 0.0 to 1.0",
    ),
    "fractions as UINT8": (PICTURE, {**PIXELS, "data": [0.5] * 784}, b"", "data", "got 0.5"),
    "pixels beyond 255": (PICTURE, {**PIXELS, "data": [256] * 784}, b"", "data", "got 256"),
    "pixels below 0": (PICTURE, {**PIXELS, "data": [-1] * 784}, b"", "data", "got -1"),
    "too few bytes": (
        PLANE,
        {"shape": [1, 2], "parameters": {"binary_data_size": 7}},
        bytes(7),
        "parameters.binary_data_size",
        "8 bytes for FP32 of shape [1, 2], got 7",
    ),
    "four bytes for a pixel": (
        PICTURE,
        {**PIXELS, "parameters": {"binary_data_size": 3136}},
        bytes(3136),
        "parameters.binary_data_size",
        "784 bytes for UINT8 of shape [1, 784], got 3136",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_tensor_is_told_where_what_and_how(name: str) -> None:
    spec, tensor, content, field, words = WRONG[name]
    with pytest.raises(InvalidInputError) as raised:
        read(spec, content, **tensor)
    assert str(raised.value).startswith(f"inputs.x.{field}: expected ")
    assert words in str(raised.value)


@pytest.mark.parametrize(("size", "behind"), [(8, 7), (8, 9), (8, 0), (None, 1)])
def test_as_many_bytes_must_follow_as_are_declared(size: int | None, behind: int) -> None:
    tensor = {"shape": [1, 2], "parameters": {"binary_data_size": size}}
    with pytest.raises(InvalidInputError, match=f"body: expected {size or 0} bytes after the JSON"):
        read(PLANE, bytes(behind), **tensor)


def test_the_likeliest_labels_come_first_and_the_lower_index_on_a_tie() -> None:
    probabilities = np.array([[0.25, 0.5, 0.25], [0, 0, 1]], dtype=np.float32)
    assert classifications(probabilities, ("a", "b", "c"), 2) == [
        ["0.500000:1:b", "0.250000:0:a"],
        ["1.000000:2:c", "0.000000:0:a"],
    ]
    assert [len(row) for row in classifications(probabilities, ("a", "b", "c"), 9)] == [3, 3]


def test_each_text_goes_behind_its_length_in_bytes() -> None:
    assert to_bytes(["7", "", "é"]) == b"\1\0\0\0" + b"7" + b"\0\0\0\0" + b"\2\0\0\0\xc3\xa9"
    assert to_bytes(np.array([1], np.float32)) == b"\0\0\x80\x3f"
