"""The OpenAPI document: FastAPI's, completed by what depends on the models that serve."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from msgspec import Struct
from msgspec.json import schema_components
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from perceptd.service.api.media import FORM_TYPE, JSON_TYPE, PICTURE_TYPES, RAW_TYPE
from perceptd.service.api.oip import codec
from perceptd.service.api.oip.requests import IndexRequest, InferRequest, LoadRequest
from perceptd.service.api.oip.schemas import ErrorBody
from perceptd.service.jobs.intake import MAX_KEY
from perceptd.service.jobs.schemas import ImportCreate
from perceptd.service.schemas.requests import (
    FeedbackRequest,
    PredictRequest,
    RequestSchemas,
)
from perceptd.service.schemas.responses import ProblemBody

REF = "#/components/schemas/{model}"
NUMBER_PATHS = ("/predict", "/predict_proba")
FEEDBACK_PATHS = ("/feedback",)
PICTURE_PATH = "/predict/image"
UPLOAD_PATH = "/models/{model}/versions"
INFER_PATHS = ("/v2/models/{model}/infer", "/v2/models/{model}/versions/{version}/infer")
LOADING_PATHS: dict[str, tuple[type[Struct], dict[str, Any]]] = {
    "/v2/repository/index": (IndexRequest, {"ready": True}),
    "/v2/repository/models/{model}/load": (LoadRequest, {}),
    "/v2/repository/models/{model}/unload": (LoadRequest, {}),
}
BINARY = {"type": "string", "format": "binary"}
KEY_HEADER, PRINTABLE = "idempotency-key", "^[ -~]+$"

Operation = tuple[str, str]  # its path and method
OF_A_JOB = [
    ("/jobs/{job}", "get"),
    ("/jobs/{job}/events", "get"),
    ("/jobs/{job}/cancel", "post"),
    ("/jobs/{job}/reproduce", "post"),
]
OF_A_VERSION = [
    ("/models/{model}", "get"),
    ("/models/{model}/versions", "get"),
    ("/models/{model}/versions/{version}", "get"),
    ("/v2/models/{model}/versions/{version}", "get"),
    ("/v2/models/{model}/versions/{version}/ready", "get"),
]
JOB = {"job": "$response.body#/id"}
VERSION = {"model": "$response.body#/model", "version": "$response.body#/version"}
NEWEST = {
    "model": "$response.body#/versions/0/model",
    "version": "$response.body#/versions/0/version",
}
# The answer of an operation: its status, what can be asked next, and with which parts of it.
LINKS: list[tuple[Operation, str, list[Operation], dict[str, str]]] = [
    (("/jobs", "post"), "202", OF_A_JOB, JOB),
    ((UPLOAD_PATH, "post"), "202", OF_A_JOB, JOB),
    (("/jobs/{job}/reproduce", "post"), "202", OF_A_JOB, JOB),
    (("/jobs/{job}/cancel", "post"), "202", OF_A_JOB[:2], JOB),
    (("/models/{model}/versions", "get"), "200", OF_A_VERSION, NEWEST),
    (("/models/{model}/aliases/{alias}", "put"), "200", OF_A_VERSION, VERSION),
]


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
    predictions, feedback = schemas.classes(PredictRequest), schemas.classes(FeedbackRequest)
    bodies: list[type[BaseModel]] = [*predictions, *feedback, ProblemBody, ErrorBody]
    references, definitions = models_json_schema(
        [(body, "validation") for body in bodies], ref_template=REF
    )
    content["components"]["schemas"].update(definitions["$defs"])
    for paths, kind, classes in (
        (NUMBER_PATHS, PredictRequest, predictions),
        (FEEDBACK_PATHS, FeedbackRequest, feedback),
    ):
        one_of = [references[body, "validation"] for body in classes]
        for path in paths:
            body = _json_body(one_of, schemas.examples(kind))
            content["paths"][path]["post"]["requestBody"] = body
    content["paths"][UPLOAD_PATH]["post"]["requestBody"] = _upload_body(content)
    operation = content["paths"][PICTURE_PATH]["post"]
    operation["requestBody"] = _picture_body()
    for parameter in operation["parameters"]:
        if parameter["name"] == "model":
            parameter["schema"]["enum"] = schemas.picture_models
    _describe_protocol(content, schemas)
    _describe_parameters(content)
    _link(content)
    return content


def _describe_parameters(content: dict[str, Any]) -> None:
    """As they are in an address or a header, where one that is left out is no null."""
    for operations in content["paths"].values():
        for operation in operations.values():
            for parameter in operation.get("parameters", ()):
                schema = parameter["schema"]
                kinds = [kind for kind in schema.get("anyOf", ()) if kind != {"type": "null"}]
                if len(kinds) == 1:
                    del schema["anyOf"]
                    schema.update(kinds[0])
                if parameter["name"] == KEY_HEADER:
                    schema.update(minLength=1, maxLength=MAX_KEY, pattern=PRINTABLE)


def _link(content: dict[str, Any]) -> None:
    """What an answer tells that another operation asks for."""
    paths = content["paths"]
    for (path, method), status, linked, told in LINKS:
        links = paths[path][method]["responses"][status].setdefault("links", {})
        for to, by in linked:
            operation = paths[to][by]
            name, takes = operation["operationId"], {one["name"] for one in operation["parameters"]}
            parameters = {key: value for key, value in told.items() if key in takes}
            links[name] = {"operationId": name, "parameters": parameters}


def _describe_protocol(content: dict[str, Any], schemas: RequestSchemas) -> None:
    """The bodies of the Open Inference Protocol, and examples of it that each model takes."""
    kinds = (InferRequest, IndexRequest, LoadRequest)
    references, definitions = schema_components(kinds, ref_template=REF.format(model="{name}"))
    content["components"]["schemas"].update(definitions)
    schema_of = dict(zip(kinds, references, strict=True))
    examples = {name: codec.example_of(spec) for name, spec in schemas.specs.items()}
    for path in INFER_PATHS:
        body = _json_body([schema_of[InferRequest]], examples)
        body["content"][RAW_TYPE] = {"schema": BINARY}
        content["paths"][path]["post"]["requestBody"] = body
    for path, (kind, example) in LOADING_PATHS.items():
        body = _json_body([schema_of[kind]], {"example": example})
        content["paths"][path]["post"]["requestBody"] = {**body, "required": False}


def _json_body(one_of: list[Any], examples: dict[str, Any]) -> dict[str, Any]:
    nothing: dict[str, Any] = {"not": {}}
    schema = {"oneOf": one_of} if one_of else nothing
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


def _upload_body(content: dict[str, Any]) -> dict[str, Any]:
    """A form of the import's fields and the file; its objects are JSON in text."""
    _, definitions = models_json_schema([(ImportCreate, "validation")], ref_template=REF)
    fields = definitions["$defs"].pop(ImportCreate.__name__)
    content["components"]["schemas"].update(definitions["$defs"])
    fields["properties"]["file"] = {**BINARY, "description": "A .pt, .pth or .safetensors file."}
    fields["required"] = ["file"]
    return {"required": True, "content": {FORM_TYPE: {"schema": fields}}}
