"""Requests of the Open Inference Protocol, parsed by msgspec; `codec` fits them to a model.

The protocol wants unknown fields and parameters to be ignored.
"""

from typing import Annotated, Any, TypeVar

from msgspec import UNSET, DecodeError, Meta, Raw, Struct, UnsetType, ValidationError
from msgspec.json import Decoder

from perceptd.service.errors import InvalidInputError
from perceptd.service.schemas.validation import invalid, msgspec_error

MAX_RANK = 8
Natural = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Value = TypeVar("Value")


class InputParameters(Struct):
    binary_data_size: Annotated[
        Natural | None, Meta(description="Length in bytes of the tensor, which follows the JSON.")
    ] = None


class InputTensor(Struct):
    """An input tensor: numbers in `data`, or bytes after the JSON."""

    name: str
    shape: Annotated[
        list[Natural],
        Meta(max_length=MAX_RANK, description="The first number is the number of rows."),
    ]
    datatype: Annotated[str, Meta(description="FP32, or UINT8 for pictures.")]
    parameters: InputParameters | None = None
    data: Annotated[
        Raw | UnsetType, Meta(description="Numbers row by row, nested as `shape` says, or flat.")
    ] = UNSET


class OutputParameters(Struct):
    binary_data: Annotated[
        bool | None, Meta(description="Send the tensor as bytes after the JSON.")
    ] = None
    classification: Annotated[
        Annotated[int, Meta(ge=1)] | None,
        Meta(description="Send this many `value:index:label`, the most likely first."),
    ] = None


class RequestedOutput(Struct):
    name: Annotated[str, Meta(description="`label` or `probabilities`.")]
    parameters: OutputParameters | None = None


class RequestParameters(Struct):
    binary_data_output: Annotated[
        bool | None, Meta(description="Send all tensors as bytes, unless an output says otherwise.")
    ] = None


class InferRequest(Struct):
    inputs: list[InputTensor]
    outputs: Annotated[
        list[RequestedOutput] | None, Meta(description="Default: all, in this order.")
    ] = None
    id: Annotated[str | None, Meta(description="Repeated in the answer.")] = None
    parameters: RequestParameters | None = None


class IndexRequest(Struct):
    ready: Annotated[bool, Meta(description="List only versions that are loaded.")] = False


class LoadRequest(Struct):
    parameters: Annotated[
        dict[str, Any] | None, Meta(description="A configuration or files are refused.")
    ] = None


infer_request = Decoder(InferRequest)
index_request = Decoder(IndexRequest)
load_request = Decoder(LoadRequest)


def parse(decoder: Decoder[Value], body: bytes | memoryview | Raw, *place: str | int) -> Value:
    """Decode JSON that stands at `place` of the request.

    Raises `InvalidInputError`.
    """
    try:
        return decoder.decode(body)
    except ValidationError as error:
        raise InvalidInputError.of([msgspec_error(str(error), place)]) from None
    except (DecodeError, UnicodeDecodeError, RecursionError) as error:
        got = str(error).removeprefix("JSON is ").removeprefix("Input data was ")
        raise invalid(place, "JSON", got if body else "an empty body") from None
