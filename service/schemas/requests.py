"""Bodies of predictions and feedback: each model has its own, made from its spec.

The same pydantic class validates a body and describes it in the OpenAPI document.
"""

import functools
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PositiveInt,
    ValidationError,
    ValidationInfo,
    create_model,
    field_validator,
)
from pydantic_core import PydanticCustomError, from_json

from perceptd.models.spec import Dtype, ModelSpec
from perceptd.service.errors import (
    InvalidInputError,
    ModelNotFoundError,
    ModelUnavailableError,
    unloaded_error,
)
from perceptd.service.schemas import rows
from perceptd.service.schemas.validation import (
    MAX_SHOWN,
    NOTHING,
    field_errors,
    invalid,
    shown,
)


def whole(value: Any) -> Any:
    """In JSON, 2.0 is an integer."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


class PredictRequest(BaseModel):
    """The body of a prediction."""

    model_config = ConfigDict(extra="forbid", strict=True)

    model: str
    version: Annotated[PositiveInt, BeforeValidator(whole)] | None = Field(
        None, description="Default: the production version."
    )
    dtype: Dtype = "float32"
    inputs: list[Any]


class FeedbackRequest(BaseModel):
    """Rows with their correct labels."""

    model_config = ConfigDict(extra="forbid", strict=True)

    model: str
    dtype: Dtype = "float32"
    inputs: list[Any]
    labels: list[str]

    @field_validator("labels")
    @classmethod
    def _one_per_row(cls, labels: list[str], info: ValidationInfo) -> list[str]:
        inputs = info.data.get("inputs", labels)  # absent where they are invalid themselves
        if len(labels) != len(inputs):
            raise PydanticCustomError(
                "label_per_row", "{rows} labels, one per row", {"rows": len(inputs)}
            )
        return labels


KINDS = (PredictRequest, FeedbackRequest)
Request = TypeVar("Request", PredictRequest, FeedbackRequest)


class RequestSchemas:
    """The request classes of each serving model, by kind of request, model and dtype.

    `failures` says why a model cannot serve; `unloaded` are the models taken out of service.
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
            for dtype in rows.dtypes_of(spec.input)
        }

    def classes(self, base: type[Request]) -> list[type[Request]]:
        """The classes of one kind of request."""
        return [made for (kind, _, _), made in self._classes.items() if kind is base]

    @property
    def specs(self) -> Mapping[str, ModelSpec]:
        return self._specs

    @property
    def picture_models(self) -> list[str]:
        return [name for name, spec in self._specs.items() if spec.input.picture]

    def examples(self, base: type[BaseModel]) -> dict[str, dict[str, Any]]:
        """A valid body for each model."""
        return {name: example_of(name, spec, base) for name, spec in self._specs.items()}

    def parse(self, body: bytes, base: type[Request]) -> Request:
        """Validate a body of one kind of request.

        Raises `InvalidInputError`, `ModelNotFoundError`, `ModelUnavailableError`.
        """
        refuse = _Refusal(base, self)
        try:
            content = from_json(body)
        except ValueError as error:
            got = str(error) if body.strip() else "an empty body"
            raise refuse.at(None, [], "JSON", got) from None
        if not isinstance(content, dict):
            raise refuse.at(None, [], "an object", shown(content))
        name = content.get("model", NOTHING)
        if not isinstance(name, str):
            raise refuse.at(None, ["model"], f"one of {', '.join(self._specs)}", shown(name))
        if reason := self._failures.get(name):
            raise ModelUnavailableError(f"{name}: {reason}")
        if name in self._unloaded:
            raise unloaded_error(name)
        if name not in self._specs:
            known = ", ".join(self._specs) or "none"
            raise ModelNotFoundError(f"no model is called {shown(name)}; serving: {known}")
        spec = self._specs[name].input
        dtype = content.get("dtype", "float32")
        if dtype not in (dtypes := rows.dtypes_of(spec)):
            expected = " or ".join(f'"{known}"' for known in dtypes)
            raise refuse.at(name, ["dtype"], expected, shown(dtype))
        # Before pydantic, which would describe each of a million unknown fields.
        for field in content:
            if field not in base.model_fields:
                expected = f"no field of this name (known: {', '.join(base.model_fields)})"
                raise refuse.at(name, [field[:MAX_SHOWN]], expected, shown(content[field]))
        try:
            valid: Request = self._classes[base, name, dtype].model_validate(content)
        except ValidationError as error:
            found = error.errors(include_url=False)
            errors = field_errors(found, functools.partial(rows.expected, spec, dtype))
            raise InvalidInputError.of(errors, refuse.example(name)) from None
        return valid


@dataclass(frozen=True)
class _Refusal:
    """Errors of one kind of request, each with a valid body as its example."""

    base: type[BaseModel]
    schemas: RequestSchemas

    def at(
        self, name: str | None, loc: list[str | int], expected: str, got: str
    ) -> InvalidInputError:
        return invalid(loc, expected, got, self.example(name))

    def example(self, name: str | None) -> dict[str, Any] | None:
        """A body for the named model, or for any model if none is named."""
        examples = self.schemas.examples(self.base)
        return examples.get(name or next(iter(examples), ""))


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
    """The pydantic class of one kind of request for one model and dtype."""
    title = "".join(part.capitalize() for part in re.split(r"[._-]", name))
    kind = base.__name__.removesuffix("Request")
    pixels = "Pixels" if dtype == "uint8" else ""
    row: Any = rows.row_type(spec.input, dtype)
    count = Field(min_length=1, max_length=max_rows, fail_fast=True)
    description = Field(description=rows.describe(spec.input, dtype))
    inputs: Any = Annotated[list[row], count, description]
    fields: dict[str, Any] = {
        "model": (Literal[name], ...),
        "dtype": (Literal["uint8"], ...) if dtype == "uint8" else (Literal["float32"], "float32"),
        "inputs": (inputs, ...),
    }
    if base is FeedbackRequest:
        label: Any = Literal[spec.labels]
        fields["labels"] = (Annotated[list[label], count, Field(description="One per row.")], ...)
    return create_model(f"{kind}{title}{pixels}Request", __base__=base, **fields)
