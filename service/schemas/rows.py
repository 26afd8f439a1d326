"""The rows that a model takes, as pydantic types and in words."""

from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np
from pydantic import Discriminator, Field, Tag, WithJsonSchema

from perceptd.models.preprocessing import FULL_INK
from perceptd.models.spec import Dtype, InputSpec
from perceptd.service.schemas.validation import Loc

FLOAT32_MAX = float(np.finfo(np.float32).max)
PICTURE_NUMBERS: dict[Dtype, str] = {
    "float32": 'numbers in 0..1 (whole numbers in 0..255 need "dtype": "uint8")',
    "uint8": 'whole numbers in 0..255 (numbers in 0..1 go without "dtype": "uint8")',
}


def dtypes_of(spec: InputSpec) -> tuple[Dtype, ...]:
    """The dtypes that a model takes: for a picture also uint8, whole numbers 0..255."""
    return ("float32", "uint8") if spec.picture else ("float32",)


def number_bounds(spec: InputSpec, dtype: Dtype) -> tuple[float, float]:
    """The smallest and the largest number that a model takes."""
    if dtype == "uint8":
        return 0, FULL_INK
    low = -FLOAT32_MAX if spec.minimum is None else spec.minimum
    high = FLOAT32_MAX if spec.maximum is None else spec.maximum
    return low, high


def row_type(spec: InputSpec, dtype: Dtype) -> Any:
    """The pydantic type of one row; a picture may be flat or nested."""
    number = _number_type(spec, dtype)
    if not spec.picture:
        return _nested(number, spec.shape)
    return Annotated[
        Annotated[_nested(number, (spec.size,)), Tag("flat row")]
        | Annotated[_nested(number, spec.picture), Tag("nested row")],
        Discriminator(lambda row: "nested row" if _starts_with_list(row) else "flat row"),
    ]


def _number_type(spec: InputSpec, dtype: Dtype) -> Any:
    low, high = number_bounds(spec, dtype)
    if dtype == "uint8":  # in JSON, 5.0 is an integer
        schema = {"type": "integer", "minimum": low, "maximum": high}
        return Annotated[float, Field(ge=low, le=high, multiple_of=1), WithJsonSchema(schema)]
    return Annotated[float, Field(ge=low, le=high, allow_inf_nan=False)]


def _nested(number: Any, shape: tuple[int, ...]) -> Any:
    for length in reversed(shape):
        exactly = Field(min_length=length, max_length=length, fail_fast=True)
        number = Annotated[list[number], exactly]
    return number


def _starts_with_list(row: Any) -> bool:
    return isinstance(row, list) and bool(row) and isinstance(row[0], list)


def describe(spec: InputSpec, dtype: Dtype) -> str:
    """The description of `inputs` in the OpenAPI document."""
    if not spec.picture:
        return f"Rows of shape {list(spec.shape)}."
    height, width = spec.picture
    numbers = "whole numbers 0..255" if dtype == "uint8" else "numbers 0..1"
    return f"Pictures of {height} x {width} {numbers}, nested or flat; 0 is the background."


def expected(spec: InputSpec, dtype: Dtype, loc: Loc, error: Mapping[str, Any]) -> str | None:
    """What was expected where pydantic found an error; None where its own words will do."""
    value = error["input"]
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if spec.picture and is_number and len(loc) > 2:
        return PICTURE_NUMBERS[dtype]
    if len(loc) == 2 and loc[0] == "inputs":
        return _row(spec)
    if error["type"] not in ("too_long", "too_short"):
        return None
    bound, key = (
        ("at most", "max_length") if error["type"] == "too_long" else ("at least", "min_length")
    )
    limit = error["ctx"][key]
    return f"{bound} {limit} rows" if len(loc) == 1 else f"an array of {limit}"


def _row(spec: InputSpec) -> str:
    """One row in words; the usual mistake is a missing pair of brackets."""
    if spec.picture:
        height, width = spec.picture
        arrays = f"{height} arrays of {width} numbers, or an array of {spec.size} numbers"
        return f"a picture: {arrays} (inputs is a list of pictures)"
    shape = " x ".join(map(str, spec.shape))
    return f"an array of {shape} numbers (inputs is a list of rows)"
