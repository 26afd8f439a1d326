"""The OpenAPI document: FastAPI's, completed by what depends on the models that serve."""

from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from msgspec.json import schema_components
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from perceptd.service.api.media import FORM_TYPE, JSON_TYPE, PICTURE_TYPES, RAW_TYPE
from perceptd.service.api.oip import codec
from perceptd.service.api.oip.requests import IndexRequest, InferRequest, LoadRequest
from perceptd.service.api.oip.schemas import ErrorBody
from perceptd.service.api.operations import BodyName
from perceptd.service.jobs.intake import MAX_KEY
from perceptd.service.jobs.schemas import ImportCreate
from perceptd.service.schemas.requests import FeedbackRequest, PredictRequest, RequestSchemas
from perceptd.service.schemas.responses import ProblemBody

REF = "#/components/schemas/{model}"
PICTURE_PATH = "/predict/image"
BINARY = {"type": "string", "format": "binary"}
KEY_HEADER, PRINTABLE = "idempotency-key", "^[ -~]+$"


def document(app: FastAPI, schemas: RequestSchemas) -> dict[str, Any]:
    """The document for the models that serve now: each has its own request schema and example."""
    content = get_openapi(
        title=app.title,
        version=app.version,
        openapi_version=app.openapi_version,
        summary=app.summary,
        description=app.description,
        routes=app.routes,
    )
    bodies = _bodies(schemas, content["components"]["schemas"])
    for operation in _operations(content):
        if "$ref" in operation.get("requestBody", ()):
            operation["requestBody"] = bodies[operation.pop("requestBody")["$ref"]]
        for parameter in operation.get("parameters", ()):
            _describe_parameter(parameter)
    for parameter in content["paths"][PICTURE_PATH]["post"]["parameters"]:
        if parameter["name"] == "model":
            parameter["schema"]["enum"] = schemas.picture_models
    return content


def _operations(content: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for operations in content["paths"].values():
        yield from operations.values()


def _describe_parameter(parameter: dict[str, Any]) -> None:
    """Describe a parameter as a client sends it: an absent one is left out, never null."""
    schema = parameter["schema"]
    kinds = [kind for kind in schema.get("anyOf", ()) if kind != {"type": "null"}]
    if len(kinds) == 1:
        del schema["anyOf"]
        schema.update(kinds[0])
    if parameter["name"] == KEY_HEADER:
        schema.update(minLength=1, maxLength=MAX_KEY, pattern=PRINTABLE)


def _bodies(schemas: RequestSchemas, components: dict[str, Any]) -> dict[BodyName, dict[str, Any]]:
    """The bodies that routes name; adds their schemas to the components."""
    predictions, feedback = schemas.classes(PredictRequest), schemas.classes(FeedbackRequest)
    classes: list[type[BaseModel]] = [*predictions, *feedback, ProblemBody, ErrorBody]
    references, definitions = models_json_schema(
        [(body, "validation") for body in classes], ref_template=REF
    )
    components.update(definitions["$defs"])

    def one_of(kinds: list[Any], examples: dict[str, Any]) -> dict[str, Any]:
        return _json_body([references[kind, "validation"] for kind in kinds], examples)

    return {
        "prediction": one_of(predictions, schemas.examples(PredictRequest)),
        "feedback": one_of(feedback, schemas.examples(FeedbackRequest)),
        "upload": _upload_body(components),
        "picture": _picture_body(),
        **_protocol_bodies(schemas, components),
    }


def _protocol_bodies(
    schemas: RequestSchemas, components: dict[str, Any]
) -> dict[BodyName, dict[str, Any]]:
    """The bodies of the Open Inference Protocol, with an example for each model."""
    kinds = (InferRequest, IndexRequest, LoadRequest)
    (infer, index, load), definitions = schema_components(
        kinds, ref_template=REF.format(model="{name}")
    )
    components.update(definitions)
    examples = {name: codec.example_of(spec) for name, spec in schemas.specs.items()}
    inference = _json_body([infer], examples)
    inference["content"][RAW_TYPE] = {"schema": BINARY}
    return {
        "inference": inference,
        "index": {**_json_body([index], {"example": {"ready": True}}), "required": False},
        "load": {**_json_body([load], {"example": {}}), "required": False},
    }


def _json_body(one_of: list[Any], examples: dict[str, Any]) -> dict[str, Any]:
    no_model_serves: dict[str, Any] = {"not": {}}
    schema = {"oneOf": one_of} if one_of else no_model_serves
    named = {name: {"summary": name, "value": value} for name, value in examples.items()}
    return {
        "required": True,
        "content": {JSON_TYPE: {"schema": schema, "examples": named}},
    }


def _picture_body() -> dict[str, Any]:
    form = {"type": "object", "properties": {"file": BINARY}, "required": ["file"]}
    return {
        "required": True,
        "content": {
            FORM_TYPE: {"schema": form},
            **{kind: {"schema": BINARY} for kind in (*PICTURE_TYPES, RAW_TYPE)},
        },
    }


def _upload_body(components: dict[str, Any]) -> dict[str, Any]:
    """A form of the import's fields and its file; fields that are objects are JSON text."""
    _, definitions = models_json_schema([(ImportCreate, "validation")], ref_template=REF)
    fields = definitions["$defs"].pop(ImportCreate.__name__)
    components.update(definitions["$defs"])
    fields["properties"]["file"] = {**BINARY, "description": "A .pt, .pth or .safetensors file."}
    fields["required"] = ["file"]
    return {"required": True, "content": {FORM_TYPE: {"schema": fields}}}
