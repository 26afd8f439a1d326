"""Raw input becomes the array that a model takes, the same in training and serving."""

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

from perceptd.models import registry
from perceptd.models.preprocessing import (
    InputError,
    check_rows,
    from_bytes,
    from_numbers,
    from_pixels,
    to_pixels,
)
from perceptd.models.spec import InputSpec

PLANE = registry.load("dnn").spec.input
FLAT = registry.load("mnist-mlp").spec.input
SQUARE = registry.load("mnist-cnn").spec.input


@pytest.fixture
def pixels() -> NDArray[np.uint8]:
    """Three pictures of 28 x 28 with every grey value in them."""
    return (np.arange(3 * 784) % 256).astype(np.uint8).reshape(3, 28, 28)


def test_plane_rows_keep_their_numbers() -> None:
    rows = from_numbers(PLANE, [[0.1, -0.2], [3, 4]], "float32")

    assert rows.dtype == np.float32
    assert_array_equal(rows, np.array([[0.1, -0.2], [3, 4]], dtype=np.float32))


@pytest.mark.parametrize("spec", [FLAT, SQUARE])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_flat_and_nested_pictures_are_the_same(
    spec: InputSpec, dtype: Any, pixels: NDArray[np.uint8]
) -> None:
    pictures = pixels if dtype == "uint8" else pixels.astype(np.float32) / 255
    nested, flat = pictures.tolist(), pictures.reshape(3, 784).tolist()

    rows = from_numbers(spec, nested, dtype)

    assert rows.shape == (3, *spec.shape)
    assert rows.dtype == np.float32
    assert_array_equal(rows, from_numbers(spec, flat, dtype))
    assert_array_equal(rows, from_numbers(spec, [nested[0], flat[1], nested[2]], dtype))


def test_every_way_in_scales_pixels_as_training_does(pixels: NDArray[np.uint8]) -> None:
    trained_on = from_pixels(SQUARE, pixels)

    assert (trained_on.min(), trained_on.max()) == (0.0, 1.0)
    assert_array_equal(trained_on[:, 0], pixels / np.float32(255))
    assert_array_equal(from_numbers(SQUARE, pixels.tolist(), "uint8"), trained_on)
    assert_array_equal(check_rows(SQUARE, pixels), trained_on)
    assert_array_equal(
        np.concatenate([from_bytes(SQUARE, p.tobytes()) for p in pixels]), trained_on
    )


@pytest.mark.parametrize("shape", [(784,), (1, 28, 28), (1, 8, 98)])
def test_to_pixels_inverts_from_pixels(shape: tuple[int, ...], pixels: NDArray[np.uint8]) -> None:
    rows = from_pixels(InputSpec(shape=shape), pixels)
    back = to_pixels(rows)
    assert back.dtype == np.uint8
    assert_array_equal(back, pixels.reshape(3, 784))


def test_numbers_between_0_and_1_are_not_scaled_again() -> None:
    assert_array_equal(from_numbers(FLAT, [[0.25] * 784], "float32"), np.full((1, 784), 0.25))


@pytest.mark.parametrize("length", [0, 783, 785])
def test_bytes_of_another_length_are_refused(length: int) -> None:
    with pytest.raises(InputError) as error:
        from_bytes(FLAT, bytes(length))

    assert error.value.expected == "784 bytes, one per pixel"
    assert error.value.got == f"{length} bytes"


def test_checked_rows_take_the_shape_of_the_model_and_all_its_values() -> None:
    rows = check_rows(SQUARE, np.array([[0.0] * 784, [1.0] * 784]))

    assert rows.dtype == np.float32
    assert_array_equal(rows, np.array([np.zeros((1, 28, 28)), np.ones((1, 28, 28))]))


@pytest.mark.parametrize(
    ("spec", "rows", "expected", "got"),
    [
        (PLANE, np.array([["1", "2"]]), "numbers", "an array of <U1"),
        (PLANE, np.array([[True, False]]), "numbers", "an array of bool"),
        (PLANE, np.array([[1j, 2]]), "numbers", "an array of complex128"),
        (PLANE, np.array([[None, 2]]), "numbers", "an array of object"),
        (PLANE, np.empty((0, 2)), "at least one row", "none"),
        (PLANE, np.array(1.0), "at least one row", "none"),
        (PLANE, np.ones((4, 3)), "rows of 2 numbers (shape (2,))", "rows of shape (3,)"),
        (PLANE, np.ones(4), "rows of 2 numbers (shape (2,))", "rows of shape ()"),
        (PLANE, np.array([[1, np.nan]]), "finite numbers", "NaN or an infinity"),
        (PLANE, np.array([[1, -np.inf]]), "finite numbers", "NaN or an infinity"),
        (PLANE, np.array([[1, 1e300]]), "finite numbers", "NaN or an infinity"),
        (FLAT, np.full((2, 784), 1.5), "numbers in 0.0 to 1.0", "numbers in 1.5 to 1.5"),
        (FLAT, np.full((2, 784), -0.5), "numbers in 0.0 to 1.0", "numbers in -0.5 to -0.5"),
        (
            FLAT,
            np.full((2, 784), 255),
            "numbers in 0.0 to 1.0 (whole numbers in 0 to 255 as uint8)",
            "numbers in 255 to 255",
        ),
        (
            SQUARE,
            np.zeros((2, 27, 28), np.uint8),
            "rows of 784 numbers (shape (1, 28, 28))",
            "rows of shape (27, 28)",
        ),
    ],
)
def test_wrong_rows_are_refused(
    spec: InputSpec, rows: NDArray[Any], expected: str, got: str
) -> None:
    with pytest.raises(InputError) as error:
        check_rows(spec, rows)

    assert (error.value.expected, error.value.got) == (expected, got)
    assert str(error.value) == f"expected {expected}, got {got}"
