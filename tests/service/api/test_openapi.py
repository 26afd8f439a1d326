"""The OpenAPI document accepts and refuses what the service does."""

import base64
import hashlib
import json
import re
from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator

from tests.service.api.routes.jobs.test_submission import WRONG, Change, Place
from tests.service.api.routes.test_predict import BAD_BODIES

INFER, INFER_VERSION = "/v2/models/{model}/infer", "/v2/models/{model}/versions/{version}/infer"


@pytest.fixture(scope="module")
def document(client: httpx.Client) -> Any:
    return client.get("/openapi.json").json()


def validator(document: Any, schema: Any) -> Draft202012Validator:
    return Draft202012Validator({**schema, "components": document["components"]})


def body_of(document: Any, path: str) -> Any:
    return document["paths"][path]["post"]["requestBody"]["content"]["application/json"]


def test_the_document_is_openapi_3_1(document: Any) -> None:
    assert document["openapi"].startswith("3.1")
    for schema in document["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)
    references = re.findall(r'"\$ref": "#/components/schemas/([^"]+)"', json.dumps(document))
    assert set(references) <= document["components"]["schemas"].keys()


@pytest.mark.parametrize("path", ["/predict", "/predict_proba", INFER, INFER_VERSION])
def test_each_model_has_a_valid_example(client: httpx.Client, document: Any, path: str) -> None:
    body = body_of(document, path)
    accepts = validator(document, body["schema"])
    models = {model["name"] for model in client.get("/models").json()["models"]}
    assert body["examples"].keys() == models
    for model, example in body["examples"].items():
        accepts.validate(example["value"])
        response = client.post(path.format(model=model, version=1), json=example["value"])
        assert response.status_code == 200
        answer = document["paths"][path]["post"]["responses"]["200"]["content"]["application/json"]
        validator(document, answer["schema"]).validate(response.json())


@pytest.mark.parametrize("name", BAD_BODIES)
def test_the_published_schema_refuses_what_the_service_refuses(document: Any, name: str) -> None:
    body = BAD_BODIES[name][0]
    if isinstance(body, bytes):
        pytest.skip("not JSON: no schema can say so")
    assert not validator(document, body_of(document, "/predict")["schema"]).is_valid(body)


def test_every_model_has_its_own_schema(document: Any) -> None:
    schemas = document["components"]["schemas"]
    dnn, pixels = schemas["PredictDnnRequest"], schemas["PredictMnistCnnPixelsRequest"]
    row = dnn["properties"]["inputs"]["items"]
    assert dnn["properties"]["model"]["const"] == "dnn"
    assert (row["minItems"], row["maxItems"], row["items"]["type"]) == (2, 2, "number")
    flat, nested = pixels["properties"]["inputs"]["items"]["oneOf"]
    assert flat["items"] == {"type": "integer", "minimum": 0, "maximum": 255}
    assert (flat["minItems"], nested["maxItems"], nested["items"]["maxItems"]) == (784, 28, 28)


def shape_of_errors(path: str) -> tuple[str, str]:
    if path.startswith("/v2"):
        return "application/json", "ErrorBody"
    return "application/problem+json", "ProblemBody"


def test_every_route_has_a_summary_and_errors_of_one_shape(document: Any) -> None:
    for path, operations in document["paths"].items():
        for operation in operations.values():
            assert operation["description"], path
            for status, response in operation["responses"].items():
                if not status.startswith("2"):
                    kind, schema = shape_of_errors(path)
                    content = response["content"][kind]
                    assert content["schema"] == {"$ref": f"#/components/schemas/{schema}"}
                    assert content["examples"]
                    for example in content["examples"].values():
                        validator(document, content["schema"]).validate(example["value"])
    assert "HTTPValidationError" not in document["components"]["schemas"]


def test_every_answer_has_an_example_that_fits_its_schema(document: Any) -> None:
    for path, operations in document["paths"].items():
        for operation in operations.values():
            answers = [said for status, said in operation["responses"].items() if status[0] == "2"]
            (content,) = [answer["content"] for answer in answers if "content" in answer]
            if "application/json" not in content:
                text = path == "/metrics" and content["text/plain"]["example"]
                assert text or path.endswith(("{extension}", "/events"))
                continue
            name = content["application/json"]["schema"]["$ref"].rpartition("/")[2]
            (example,) = document["components"]["schemas"][name]["examples"]
            validator(document, document["components"]["schemas"][name]).validate(example)


def test_every_body_has_an_example_that_fits_its_schema(document: Any) -> None:
    bodies = 0
    for operations in document["paths"].values():
        for operation in operations.values():
            content = operation.get("requestBody", {}).get("content", {}).get("application/json")
            if content is None:
                continue
            bodies += 1
            schema = content["schema"]
            if "$ref" in schema:
                schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
            examples = [one["value"] for one in content.get("examples", {}).values()]
            for example in examples or schema["examples"]:
                validator(document, schema).validate(example)
    assert bodies == 10


def test_answers_that_accept_a_job_have_a_location(document: Any) -> None:
    for path in ("/jobs", "/jobs/{job}/reproduce", "/models/{model}/versions"):
        assert document["paths"][path]["post"]["responses"]["202"]["headers"]["Location"], path


def test_the_form_of_an_upload_has_a_file_and_the_fields_of_an_import(document: Any) -> None:
    body = document["paths"]["/models/{model}/versions"]["post"]["requestBody"]
    schema = body["content"]["multipart/form-data"]["schema"]
    assert schema["properties"].keys() == {"file", "architecture", "config", "dataset", "gate"}
    assert schema["required"] == ["file"]
    Draft202012Validator.check_schema(schema)


@pytest.mark.parametrize(("change", "loc"), WRONG)
def test_the_published_schema_of_a_job_refuses_what_every_model_refuses(
    document: Any, change: Change, loc: Place
) -> None:
    schema = body_of(document, "/jobs")["schema"]
    assert not validator(document, schema).is_valid({"model": "dnn", **change})


@pytest.mark.parametrize("page", ["/docs", "/redoc"])
def test_the_documentation_pages_load_nothing_from_other_hosts(
    client: httpx.Client, page: str
) -> None:
    response = client.get(page)
    assert response.status_code == 200
    policy = response.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'self'; ")
    assert "frame-ancestors 'none'" in policy
    assert "http" not in policy
    scripts, styles = (part.split(" ") for part in policy.split("; ")[1:3])
    assert (scripts[0], styles[0]) == ("script-src", "style-src")
    assert "'unsafe-inline'" not in scripts
    written = re.findall(r"<script>(.*?)</script>", response.text, re.DOTALL)
    digests = [hashlib.sha256(script.encode()).digest() for script in written]
    hashes = [f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests]
    assert scripts[1:] == ["'self'", *hashes]
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Referrer-Policy"] == "no-referrer"
    assert "validator.swagger.io" not in response.text
    assets = re.findall(r'(?:src|href)="([^"]+)"', response.text)
    assert assets
    for asset in assets:
        assert asset.startswith("/"), asset
        assert client.get(asset).status_code == 200


def test_no_parameter_may_be_null(document: Any) -> None:
    for path, operations in document["paths"].items():
        for operation in operations.values():
            for parameter in operation.get("parameters", ()):
                assert "null" not in json.dumps(parameter["schema"]), (path, parameter["name"])


def test_the_schema_of_a_key_accepts_what_the_service_accepts(document: Any) -> None:
    for path in ("/jobs", "/jobs/{job}/reproduce", "/models/{model}/versions"):
        parameters = document["paths"][path]["post"]["parameters"]
        (schema,) = [one["schema"] for one in parameters if one["name"] == "idempotency-key"]
        accepts = Draft202012Validator(schema)
        assert [accepts.is_valid(key) for key in ("a b~", "k" * 255)] == [True, True]
        assert not any(accepts.is_valid(key) for key in ("", "k" * 256, "\u00e9", "a\tb"))


def test_links_name_operations_and_all_their_parameters(document: Any) -> None:
    takes = {
        operation["operationId"]: {one["name"] for one in operation.get("parameters", ())}
        for operations in document["paths"].values()
        for operation in operations.values()
    }
    linked = [
        link
        for operations in document["paths"].values()
        for operation in operations.values()
        for response in operation["responses"].values()
        for link in response.get("links", {}).values()
    ]
    assert len(linked) > 20
    for link in linked:
        needed = {
            name for name in takes[link["operationId"]] if name in ("job", "model", "version")
        }
        assert needed <= link["parameters"].keys()


@pytest.mark.parametrize(
    ("path", "methods"),
    [("/jobs", "GET, POST"), ("/models/dnn/versions", "GET, POST"), ("/predict", "POST"),
     ("/", "GET, HEAD"), ("/v2/models/dnn", "GET")],
)  # fmt: skip
def test_a_refused_method_is_answered_with_the_allowed_ones(
    client: httpx.Client, path: str, methods: str
) -> None:
    for wrong in ("OPTIONS", "DELETE"):
        response = client.request(wrong, path)
        assert response.status_code == 405
        assert response.headers["Allow"] == methods
