"""The OpenAPI document: FastAPI's, completed by what depends on the models that serve."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from service.job_schemas import ImportCreate
from service.media import FORM_TYPE, JSON_TYPE, PICTURE_TYPES, RAW_TYPE
from service.request_schemas import FeedbackRequest, PredictRequest, RequestSchemas
from service.schemas import ProblemBody

REF = "#/components/schemas/{model}"
NUMBER_PATHS = ("/predict", "/predict_proba")
FEEDBACK_PATHS = ("/feedback",)
PICTURE_PATH = "/predict/image"
UPLOAD_PATH = "/models/{model}/versions"
BINARY = {"type": "string", "format": "binary"}


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
    bodies: list[type[BaseModel]] = [*predictions, *feedback, ProblemBody]
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
            body = _number_body(one_of, schemas.examples(kind))
            content["paths"][path]["post"]["requestBody"] = body
    content["paths"][UPLOAD_PATH]["post"]["requestBody"] = _upload_body(content)
    operation = content["paths"][PICTURE_PATH]["post"]
    operation["requestBody"] = _picture_body()
    for parameter in operation["parameters"]:
        if parameter["name"] == "model":
            parameter["schema"]["enum"] = schemas.picture_models
    return content


def _number_body(one_of: list[Any], examples: dict[str, Any]) -> dict[str, Any]:
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
