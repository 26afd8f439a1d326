"""Request schemas of predictions and feedback: what a model takes depends on the model.

Each is a pydantic class made from the model's spec, and the same class validates a body and
describes it in the OpenAPI document.
"""

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Annotated, Any, Literal, Self, TypeVar

import numpy as np
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    PositiveInt,
    Tag,
    ValidationError,
    WithJsonSchema,
    create_model,
    model_validator,
)
from pydantic_core import PydanticCustomError, from_json

from perceptd.models.preprocessing import FULL_INK
from perceptd.models.spec import Dtype, InputSpec, ModelSpec
from perceptd.service.errors import (
    FieldError,
    InvalidInputError,
    ModelNotFoundError,
    ModelUnavailableError,
    unloaded_error,
)

FLOAT32_MAX = float(np.finfo(np.float32).max)
NOTHING = object()  # stands for a field that is absent
MAX_ERRORS = 10  # a body with a thousand wrong rows is told of the first few
MAX_SHOWN = 60  # characters of a wrong value that are repeated to its sender


def whole(value: Any) -> Any:
    """JSON's 2.0 is an integer."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


class PredictRequest(BaseModel):
    """The body of a prediction; each model has its own, with `inputs` as that model takes them."""

    model_config = ConfigDict(extra="forbid", strict=True)

    model: str
    version: Annotated[PositiveInt, BeforeValidator(whole)] | None = Field(
        None, description="Default: the production version."
    )
    dtype: Dtype = "float32"
    inputs: list[Any]


class FeedbackRequest(BaseModel):
    """Rows with their right labels; each model has its own, as for predictions."""

    model_config = ConfigDict(extra="forbid", strict=True)

    model: str
    dtype: Dtype = "float32"
    inputs: list[Any]
    labels: list[str]

    @model_validator(mode="after")
    def _one_label_per_row(self) -> Self:
        if len(self.labels) != len(self.inputs):
            raise PydanticCustomError(
                "label_per_row",
                "{rows} labels, one per row",
                {"rows": len(self.inputs), "labels": len(self.labels)},
            )
        return self


KINDS = (PredictRequest, FeedbackRequest)
Request = TypeVar("Request", PredictRequest, FeedbackRequest)


class RequestSchemas:
    """The request schemas of each serving model, by kind of request, model and dtype.

    `failures` says why a model that should serve does not; `unloaded` are those that should not.
    """

    def __init__(
        self,
        specs: Mapping[str, ModelSpec],
        failures: Mapping[str, str],
        max_rows: int,
        unloaded: Collection[str] = (),
    ) -> None:
        self._specs = dict(specs)
        self._failures = dict(failures)
        self._unloaded = unloaded
        self._classes: dict[tuple[type[BaseModel], str, Dtype], type[Any]] = {
            (base, name, dtype): request_class(base, name, spec, dtype, max_rows)
            for base in KINDS
            for name, spec in specs.items()
            for dtype in dtypes_of(spec.input)
        }

    def classes(self, base: type[Request]) -> list[type[Request]]:
        """The schemas of one kind of request."""
        return [made for (kind, _, _), made in self._classes.items() if kind is base]

    @property
    def specs(self) -> Mapping[str, ModelSpec]:
        """What each serving model takes and answers."""
        return self._specs

    @property
    def picture_models(self) -> list[str]:
        return [name for name, spec in self._specs.items() if spec.input.picture]

    def examples(self, base: type[BaseModel]) -> dict[str, dict[str, Any]]:
        """A body that works for each model."""
        return {name: example_of(name, spec, base) for name, spec in self._specs.items()}

    def parse(self, body: bytes, base: type[Request]) -> Request:
        """Validate a body of one kind of request.

        Raises `InvalidInputError`, `ModelNotFoundError`, `ModelUnavailableError`.
        """
        wrong = _Refusal(base, self)
        try:
            content = from_json(body)
        except ValueError as error:
            got = str(error) if body.strip() else "an empty body"
            raise wrong.at(None, [], "JSON", got) from None
        if not isinstance(content, dict):
            raise wrong.at(None, [], "an object", shown(content))
        name = content.get("model", NOTHING)
        if not isinstance(name, str):
            raise wrong.at(None, ["model"], f"one of {', '.join(self._specs)}", shown(name))
        if reason := self._failures.get(name):
            raise ModelUnavailableError(f"{name}: {reason}")
        if name in self._unloaded:
            raise unloaded_error(name)
        if name not in self._specs:
            known = ", ".join(self._specs) or "none"
            raise ModelNotFoundError(f"no model is called {shown(name)}; serving: {known}")
        dtype = content.get("dtype", "float32")
        known_dtypes = dtypes_of(self._specs[name].input)
        if dtype not in known_dtypes:
            expected = " or ".join(f'"{known}"' for known in known_dtypes)
            raise wrong.at(name, ["dtype"], expected, shown(dtype))
        # Before pydantic, which would describe each of a million unknown fields.
        for field in content:
            if field not in base.model_fields:
                known = ", ".join(base.model_fields)
                expected = f"no field of this name (known: {known})"
                raise wrong.at(name, [field[:MAX_SHOWN]], expected, shown(content[field]))
        try:
            valid: Request = self._classes[base, name, dtype].model_validate(content)
        except ValidationError as error:
            errors = field_errors(error, self._specs[name].input, dtype)
            raise InvalidInputError.of(errors, wrong.example(name)) from None
        return valid


@dataclass(frozen=True)
class _Refusal:
    """Refuses a request of one kind, with an example that works."""

    base: type[BaseModel]
    schemas: RequestSchemas

    def at(
        self, name: str | None, loc: list[str | int], expected: str, got: str
    ) -> InvalidInputError:
        error = FieldError(loc=loc, expected=expected, got=got)
        return InvalidInputError.of([error], self.example(name))

    def example(self, name: str | None) -> dict[str, Any] | None:
        """One for the model that was named, else for any."""
        examples = self.schemas.examples(self.base)
        return examples.get(name or next(iter(examples), ""))


def dtypes_of(spec: InputSpec) -> tuple[Dtype, ...]:
    """What numbers a model takes: a picture may also come as whole numbers 0..255."""
    return ("float32", "uint8") if spec.picture else ("float32",)


def example_of(
    name: str, spec: ModelSpec, base: type[BaseModel] = PredictRequest
) -> dict[str, Any]:
    """A body for `/predict`, or for `/feedback`, that the model takes."""
    dtype = {} if spec.example.dtype == "float32" else {"dtype": spec.example.dtype}
    body = {"model": name, **dtype, "inputs": spec.example.inputs}
    if base is FeedbackRequest:
        body["labels"] = [spec.labels[-1]] * len(spec.example.inputs)
    return body


def request_class(
    base: type[BaseModel], name: str, spec: ModelSpec, dtype: Dtype, max_rows: int
) -> type[BaseModel]:
    """The pydantic class of one model's request of that kind in one dtype."""
    title = "".join(part.capitalize() for part in re.split(r"[._-]", name))
    kind = base.__name__.removesuffix("Request")
    pixels = "Pixels" if dtype == "uint8" else ""
    row: Any = _row_type(spec.input, dtype)
    rows = Field(min_length=1, max_length=max_rows, fail_fast=True)
    inputs: Any = Annotated[list[row], rows, Field(description=_describe(spec.input, dtype))]
    fields: dict[str, Any] = {
        "model": (Literal[name], ...),
        "dtype": (Literal["uint8"], ...) if dtype == "uint8" else (Literal["float32"], "float32"),
        "inputs": (inputs, ...),
    }
    if base is FeedbackRequest:
        label: Any = Literal[spec.labels]
        fields["labels"] = (Annotated[list[label], rows, Field(description="One per row.")], ...)
    return create_model(f"{kind}{title}{pixels}Request", __base__=base, **fields)


def _row_type(spec: InputSpec, dtype: Dtype) -> Any:
    number = _number_type(spec, dtype)
    if not spec.picture:
        return _nested(number, spec.shape)
    return Annotated[
        Annotated[_nested(number, (spec.size,)), Tag("flat")]
        | Annotated[_nested(number, spec.picture), Tag("nested")],
        Discriminator(lambda row: "nested" if _starts_with_list(row) else "flat"),
    ]


def _number_type(spec: InputSpec, dtype: Dtype) -> Any:
    low, high = number_bounds(spec, dtype)
    if dtype == "uint8":  # JSON's whole numbers, of which 5.0 is one
        schema = {"type": "integer", "minimum": low, "maximum": high}
        return Annotated[float, Field(ge=low, le=high, multiple_of=1), WithJsonSchema(schema)]
    return Annotated[float, Field(ge=low, le=high, allow_inf_nan=False)]


def number_bounds(spec: InputSpec, dtype: Dtype) -> tuple[float, float]:
    """The least and the greatest number that a model takes."""
    if dtype == "uint8":
        return 0, FULL_INK
    low = -FLOAT32_MAX if spec.minimum is None else spec.minimum
    high = FLOAT32_MAX if spec.maximum is None else spec.maximum
    return low, high


def _row(spec: InputSpec) -> str:
    """What one row is, for somebody who may have left out a pair of brackets."""
    if spec.picture:
        height, width = spec.picture
        arrays = f"{height} arrays of {width} numbers, or an array of {spec.size} numbers"
        return f"a picture: {arrays} (inputs is a list of pictures)"
    shape = " x ".join(map(str, spec.shape))
    return f"an array of {shape} numbers (inputs is a list of rows)"


def _nested(number: Any, shape: tuple[int, ...]) -> Any:
    for length in reversed(shape):
        exactly = Field(min_length=length, max_length=length, fail_fast=True)
        number = Annotated[list[number], exactly]
    return number


def _starts_with_list(row: Any) -> bool:
    return isinstance(row, list) and bool(row) and isinstance(row[0], list)


def _describe(spec: InputSpec, dtype: Dtype) -> str:
    if not spec.picture:
        return f"Rows of shape {list(spec.shape)}."
    height, width = spec.picture
    numbers = "whole numbers 0..255" if dtype == "uint8" else "numbers 0..1"
    return f"Pictures of {height} x {width} {numbers}, nested or flat; 0 is the background."


def field_errors(error: ValidationError, spec: InputSpec, dtype: Dtype) -> list[FieldError]:
    """pydantic's errors in our words; for a picture's numbers with the dtype they may belong to."""
    found = []
    for item in islice(error.errors(include_url=False, include_context=True), MAX_ERRORS):
        loc = [part for part in item["loc"] if part not in ("flat", "nested")]
        kind, value = item["type"], item["input"]
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if spec.picture and is_number and len(loc) > 2:
            expected = _PICTURE_NUMBERS[dtype]
        elif len(loc) == 2 and loc[0] == "inputs":
            expected = _row(spec)
        elif kind == "missing":
            expected, value = "a value", NOTHING
        elif kind == "label_per_row":
            loc, expected = ["labels"], item["msg"]
            value = [None] * item["ctx"]["labels"]
        elif kind in ("too_long", "too_short"):
            limit = item["ctx"]["max_length" if kind == "too_long" else "min_length"]
            bound = "at most" if kind == "too_long" else "at least"
            expected = f"{bound} {limit} rows" if len(loc) == 1 else f"an array of {limit}"
        else:
            expected = item["msg"].removeprefix("Input should be ")
        found.append(FieldError(loc=loc, expected=expected, got=shown(value)))
    return found


_PICTURE_NUMBERS: dict[Dtype, str] = {
    "float32": 'numbers in 0..1 (whole numbers in 0..255 need "dtype": "uint8")',
    "uint8": 'whole numbers in 0..255 (numbers in 0..1 go without "dtype": "uint8")',
}


def shown(value: Any) -> str:
    """A wrong value as its sender is told of it: short, and nested things by their size."""
    if value is NOTHING:
        return "nothing"
    if isinstance(value, list):
        return f"an array of {len(value)}"
    if isinstance(value, dict):
        return f"an object of {len(value)}"
    try:
        text = json.dumps(value[: MAX_SHOWN + 1] if isinstance(value, str) else value)
    except ValueError:  # Python writes no integer of more than 4,300 digits
        return "a number of thousands of digits"
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."
