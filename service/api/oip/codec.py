"""Inferences of the Open Inference Protocol: a body -> rows, and an answer -> a body.

With the binary extension, a body is JSON followed by the bytes of tensors. A header has the length
of the JSON.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from perceptd.models.spec import ModelSpec
from perceptd.service.api.oip.requests import (
    InferRequest,
    OutputParameters,
    RequestedOutput,
    infer_request,
    parse,
)
from perceptd.service.api.oip.tensors import (
    BYTES,
    FP32,
    HEADER,
    UINT8,
    Values,
    classifications,
    read_rows,
    to_bytes,
)
from perceptd.service.inference.answers import Answer, Rows
from perceptd.service.inference.loaded_version import LoadedVersion
from perceptd.service.schemas.validation import Loc, invalid

LABEL, PROBABILITIES = "label", "probabilities"
OUTPUTS = (LABEL, PROBABILITIES)
MAX_DIGITS = 18  # of a length; `int` refuses texts of more than 4,300 digits
MAX_SHOWN_NAMES = 5


@dataclass(frozen=True)
class Output:
    """One requested tensor of an answer."""

    name: str
    binary: bool
    classes: int | None  # send this many most likely labels instead of probabilities


@dataclass(frozen=True)
class Inference:
    """A request, validated for its model."""

    id: str | None
    rows: Rows
    outputs: list[Output]


@dataclass(frozen=True)
class Reply:
    """The body of an answer; `json_length` is set if bytes follow the JSON."""

    content: bytes
    json_length: int | None


def read(body: bytes, json_length: str | None, spec: ModelSpec, max_rows: int) -> Inference:
    """Raises `InvalidInputError` for a request that the protocol or the model does not allow."""
    length = len(body) if json_length is None else _length(json_length, len(body))
    request = parse(infer_request, memoryview(body)[:length])
    names = [tensor.name for tensor in request.inputs]
    if names != [spec.input.name]:
        got = ", ".join(repr(name[:60]) for name in names[:MAX_SHOWN_NAMES]) or "none"
        raise invalid(["inputs"], f"one input, named {spec.input.name!r}", got)
    outputs = _outputs(request)
    rows = read_rows(spec.input, request.inputs[0], memoryview(body)[length:], max_rows)
    return Inference(request.id, rows, outputs)


def write(inference: Inference, version: LoadedVersion, answer: Answer) -> Reply:
    """JSON, followed by the tensors that were requested as bytes."""
    tensors, binaries = [], []
    for output in inference.outputs:
        shape, values = _values(output, version.spec.labels, answer)
        datatype = FP32 if isinstance(values, np.ndarray) else BYTES
        tensor: dict[str, Any] = {"name": output.name, "datatype": datatype, "shape": shape}
        if output.binary:
            binaries.append(to_bytes(values))
            tensor["parameters"] = {"binary_data_size": len(binaries[-1])}
        else:
            tensor["data"] = values.tolist() if isinstance(values, np.ndarray) else values
        tensors.append(tensor)
    facts = {"model_name": version.model, "model_version": str(version.version)}
    if inference.id is not None:
        facts["id"] = inference.id
    head = msgspec.json.encode({**facts, "outputs": tensors})
    return Reply(b"".join([head, *binaries]), len(head) if binaries else None)


def _values(output: Output, labels: Sequence[str], answer: Answer) -> tuple[list[int], Values]:
    """A tensor's shape and its elements, row by row."""
    if output.name == LABEL:
        return [len(answer.indices)], [labels[index] for index in answer.indices.tolist()]
    if output.classes is None:
        return list(answer.probabilities.shape), answer.probabilities.ravel()
    ranked = classifications(answer.probabilities, labels, output.classes)
    return [len(ranked), len(ranked[0])], [text for row in ranked for text in row]


def example_of(spec: ModelSpec) -> dict[str, Any]:
    """A valid body for a model."""
    rows = spec.example.inputs
    tensor = {
        "name": spec.input.name,
        "shape": list(np.shape(rows)),
        "datatype": UINT8 if spec.example.dtype == "uint8" else FP32,
        "data": rows,
    }
    return {"id": "42", "inputs": [tensor]}


def _length(text: str, available: int) -> int:
    """The length of the JSON, from its header."""
    decimal = text.isascii() and text.isdecimal() and len(text) <= MAX_DIGITS
    if not decimal or int(text) > available:
        expected = f"the length of the JSON in bytes, at most {available}"
        raise invalid([HEADER], expected, repr(text[:60]))
    return int(text)


def _outputs(request: InferRequest) -> list[Output]:
    """The requested outputs, or all of them if the request names none."""
    all_binary = bool(request.parameters and request.parameters.binary_data_output)
    asked = request.outputs or [RequestedOutput(name) for name in OUTPUTS]
    outputs: list[Output] = []
    for number, one in enumerate(asked):
        if one.name not in OUTPUTS:
            expected = " or ".join(OUTPUTS)
            raise invalid(["outputs", number, "name"], expected, repr(one.name[:60]))
        if any(one.name == before.name for before in outputs):
            raise invalid(["outputs", number, "name"], "each output once", f"{one.name} again")
        parameters = one.parameters or OutputParameters()
        if parameters.classification and one.name != PROBABILITIES:
            place: Loc = ["outputs", number, "parameters", "classification"]
            raise invalid(place, f"none but on {PROBABILITIES}", f"one on {one.name}")
        binary = all_binary if parameters.binary_data is None else parameters.binary_data
        outputs.append(Output(one.name, binary, parameters.classification))
    return outputs
