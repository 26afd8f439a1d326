"""`/v2` over plain HTTP; `test_tritonclient.py` asks with Triton's own client."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perceptd.models import registry
from perceptd.service.settings import Settings
from tests.service.admin import AS_PREDICTOR, guarded

DNN = "/v2/models/dnn/infer"
LENGTH = "Inference-Header-Content-Length"
ROW = [0.1, -0.2]
X: dict[str, Any] = {"name": "x", "shape": [1, 2], "datatype": "FP32", "data": ROW}
BINARY_X = {**X, "data": None, "parameters": {"binary_data_size": 8}}
Serve = Callable[[Settings], httpx.Client]


def error_of(response: httpx.Response) -> tuple[int, str]:
    """An error's status and text; whatever it is, it has the shape of all."""
    assert response.headers["content-type"] == "application/json", response.text
    assert response.headers["X-Request-ID"]
    body = response.json()
    assert body.keys() == {"error"}
    return response.status_code, body["error"]


def infer(client: httpx.Client, **body: Any) -> Any:
    response = client.post(DNN, json={"inputs": [X], **body})
    assert response.status_code == 200, response.text
    return response.json()


def outputs_of(answer: Any) -> dict[str, Any]:
    return {output["name"]: output for output in answer["outputs"]}


def test_the_server_says_what_it_is(client: httpx.Client) -> None:
    assert client.get("/v2").json() == {
        "name": "perceptd",
        "version": client.get("/openapi.json").json()["info"]["version"],
        "extensions": [
            "binary_tensor_data",
            "classification",
            "model_configuration",
            "model_repository",
        ],
    }
    assert client.get("/v2/health/live").json() == {"live": True}
    assert client.get("/v2/health/ready").json() == {"ready": True}


@pytest.mark.parametrize("model", registry.BUILT_IN)
def test_each_model_says_what_it_takes_and_answers(client: httpx.Client, model: str) -> None:
    native = client.get(f"/models/{model}").json()
    shape, classes = native["input"]["shape"], len(native["labels"])
    for path in (f"/v2/models/{model}", f"/v2/models/{model}/versions/1"):
        assert client.get(path).json() == {
            "name": model,
            "versions": ["1"],
            "platform": "onnxruntime_onnx",
            "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, *shape]}],
            "outputs": [
                {"name": "label", "datatype": "BYTES", "shape": [-1]},
                {"name": "probabilities", "datatype": "FP32", "shape": [-1, classes]},
            ],
        }
        assert client.get(f"{path}/ready").json() == {"name": model, "ready": True}
        config = client.get(f"{path}/config").json()
        assert (config["name"], config["max_batch_size"]) == (model, 1024)
        assert config["input"] == [{"name": "x", "data_type": "TYPE_FP32", "dims": shape}]
        assert [output["dims"] for output in config["output"]] == [[1], [classes]]


def test_an_answer_holds_what_the_native_routes_say_to_the_last_bit(client: httpx.Client) -> None:
    rows = np.random.default_rng(1).normal(size=(100, 2)).tolist()
    native = client.post("/predict_proba", json={"model": "dnn", "inputs": rows}).json()
    answer = infer(client, id="a-1", inputs=[{**X, "shape": [100, 2], "data": rows}])
    assert (answer["model_name"], answer["model_version"], answer["id"]) == ("dnn", "1", "a-1")
    label, probabilities = answer["outputs"]
    predictions = native["predictions"]
    assert label == {
        "name": "label",
        "datatype": "BYTES",
        "shape": [100],
        "data": [row["label"] for row in predictions],
    }
    assert probabilities == {
        "name": "probabilities",
        "datatype": "FP32",
        "shape": [100, 2],
        "data": [value for row in predictions for value in row["probabilities"].values()],
    }


def test_outputs_come_as_they_are_asked_for(client: httpx.Client) -> None:
    both = ["label", "probabilities"]
    for asked in (["label"], ["probabilities"], both, both[::-1]):
        answer = infer(client, outputs=[{"name": name} for name in asked])
        assert list(outputs_of(answer)) == asked
    assert list(outputs_of(infer(client, outputs=[]))) == both
    assert list(outputs_of(infer(client, outputs=None))) == both


def test_an_id_comes_back_and_none_is_made_up(client: httpx.Client) -> None:
    assert infer(client, id='é\n"')["id"] == 'é\n"'
    assert infer(client, id="")["id"] == ""
    assert "id" not in infer(client)
    assert "id" not in infer(client, id=None)


def test_what_the_protocol_does_not_know_is_passed_over(client: httpx.Client) -> None:
    parameters = {"priority": 1, "sequence_id": 5, "of_mine": [{}]}
    tensor = {**X, "parameters": parameters, "note": 1}
    asked = [{"name": "label", "parameters": parameters}]
    answer = infer(
        client, inputs=[tensor], outputs=asked, parameters=parameters, model_name="other"
    )
    assert outputs_of(answer)["label"]["data"] == ["1"]


def test_the_likeliest_labels_can_be_asked_for(client: httpx.Client) -> None:
    asked = [{"name": "probabilities", "parameters": {"classification": 7}}, {"name": "label"}]
    example = client.get("/models/mnist-cnn").json()["example"]
    native = client.post("/predict_proba", json=example).json()["predictions"][0]["probabilities"]
    tensor = {"name": "x", "shape": [1, 28, 28], "datatype": "UINT8", "data": example["inputs"]}
    response = client.post(
        "/v2/models/mnist-cnn/infer", json={"inputs": [tensor], "outputs": asked}
    )
    ranked, label = response.json()["outputs"]
    assert (ranked["datatype"], ranked["shape"]) == ("BYTES", [1, 7])
    expected = sorted(native.items(), key=lambda one: -one[1])[:7]
    assert ranked["data"] == [f"{value:.6f}:{name}:{name}" for name, value in expected]
    assert label["data"] == ["7"]


def test_json_and_bytes_may_be_mixed(client: httpx.Client) -> None:
    head = json.dumps(
        {
            "inputs": [BINARY_X],
            "outputs": [
                {"name": "probabilities", "parameters": {"binary_data": True}},
                {"name": "label", "parameters": {"binary_data": False}},
            ],
            "parameters": {"binary_data_output": True},
        }
    ).encode()
    content = head + np.array(ROW, "<f4").tobytes()
    response = client.post(DNN, content=content, headers={LENGTH: str(len(head))})
    assert response.headers["content-type"] == "application/octet-stream"
    length = int(response.headers[LENGTH])
    said = json.loads(response.content[:length])
    probabilities, label = said["outputs"]
    assert label["data"] == ["1"]
    assert probabilities["parameters"] == {"binary_data_size": 8}
    assert "data" not in probabilities
    native = outputs_of(infer(client))["probabilities"]["data"]
    assert np.frombuffer(response.content[length:], "<f4").tolist() == native


def test_only_bytes_that_are_sent_are_announced(client: httpx.Client) -> None:
    response = client.post(DNN, json={"inputs": [X]}, headers={})
    assert LENGTH not in response.headers
    content = json.dumps({"inputs": [X]}).encode()
    response = client.post(DNN, content=content, headers={LENGTH: str(len(content))})
    assert response.headers["content-type"] == "application/json"


@pytest.mark.parametrize("kind", ["", "text/plain", "application/x-www-form-urlencoded"])
def test_the_kind_of_a_body_is_not_asked(client: httpx.Client, kind: str) -> None:
    content = json.dumps({"inputs": [X]})
    response = client.post(DNN, content=content, headers={"Content-Type": kind} if kind else {})
    assert response.status_code == 200


def without(field: str) -> dict[str, Any]:
    return {name: value for name, value in X.items() if name != field}


def output(name: Any, **parameters: Any) -> dict[str, Any]:
    return {"inputs": [X], "outputs": [{"name": name, "parameters": parameters}]}


WRONG: dict[str, tuple[Any, str]] = {
    "empty": (b"", "body: expected JSON, got an empty body"),
    "no JSON": (b"{", "body: expected JSON, got truncated"),
    "no text": (b"\xff\xfe", "body: expected JSON"),
    "NaN": (b'{"inputs": [NaN]}', "body: expected JSON, got malformed"),
    "too deep": (b'{"inputs": [{"data": ' + b"[" * 100_000, "body: expected JSON"),
    "half a character": (b'{"id": "\\ud800", "inputs": []}', "body: expected JSON"),
    "an array": ([], "body: expected an object, got an array"),
    "no inputs": ({}, "inputs: expected a value, got nothing"),
    "inputs null": ({"inputs": None}, "inputs: expected an array, got null"),
    "none of the inputs": ({"inputs": []}, "inputs: expected one input, named 'x', got none"),
    "another input": ({"inputs": [{**X, "name": "y"}]}, "named 'x', got 'y'"),
    "an input twice": ({"inputs": [X, X]}, "inputs: expected one input, named 'x', got 'x', 'x'"),
    "an input without name": ({"inputs": [without("name")]}, "inputs.0.name: expected a value"),
    "an input without shape": ({"inputs": [without("shape")]}, "inputs.0.shape: expected a value"),
    "an input without type": ({"inputs": [without("datatype")]}, "inputs.0.datatype: expected"),
    "an input without data": ({"inputs": [without("data")]}, "inputs.x.data: expected numbers"),
    "a shape in words": ({"inputs": [{**X, "shape": ["1", 2]}]}, "inputs.0.shape.0: expected"),
    "a shape below zero": ({"inputs": [{**X, "shape": [-1, 2]}]}, "a whole number >= 0"),
    "a huge shape": ({"inputs": [{**X, "shape": [2**62, 2]}]}, "N in 1 to 1024"),
    "a shape of many axes": ({"inputs": [{**X, "shape": [1] * 9}]}, "an array of length <= 8"),
    "an id that is no text": ({"inputs": [X], "id": 5}, "id: expected a string, got a whole"),
    "another output": (output("logits"), "outputs.0.name: expected label or probabilities"),
    "an output twice": (
        {"inputs": [X], "outputs": [{"name": "label"}] * 2},
        "outputs.1.name: expected each output once, got label again",
    ),
    "classes of labels": (
        output("label", classification=1),
        "classification: expected none but",
    ),
    "no classes": (output("probabilities", classification=0), "a whole number >= 1"),
    "classes in words": (output("probabilities", classification="2"), "got a string"),
    "binary in words": (output("label", binary_data="yes"), "expected a boolean, got a string"),
    "bytes without a header": ({"inputs": [BINARY_X]}, "body: expected 8 bytes after the JSON"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_request_is_told_where_what_and_how(client: httpx.Client, name: str) -> None:
    body, words = WRONG[name]
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    status, text = error_of(client.post(DNN, content=content))
    assert status == 400
    assert words in text
    assert len(text) < 1000


def test_numbers_that_overflow_the_network_are_told_with_their_row(client: httpx.Client) -> None:
    tensor = {**X, "shape": [2, 2], "data": [0, 0, 3e38, 3e38]}
    status, text = error_of(client.post("/v2/models/xor/infer", json={"inputs": [tensor]}))
    assert status == 400
    assert text == "inputs.1: expected numbers that xor can compute with, got an overflow"


@pytest.mark.parametrize("length", ["-1", "+5", "1e1", "0x10", "", "ten", "9" * 5000, "86"])
def test_a_length_that_cannot_be_is_refused(client: httpx.Client, length: str) -> None:
    content = json.dumps({"inputs": [X]}).encode()
    assert len(content) == 85
    status, text = error_of(client.post(DNN, content=content, headers={LENGTH: length}))
    assert (status, text.partition(":")[0]) == (400, LENGTH)


@pytest.mark.parametrize("length", [0, 1, 84])
def test_a_length_that_cuts_the_json_is_refused(client: httpx.Client, length: int) -> None:
    content = json.dumps({"inputs": [X]}).encode()
    status, text = error_of(client.post(DNN, content=content, headers={LENGTH: str(length)}))
    assert (status, text.partition(",")[0]) == (400, "body: expected JSON")


def test_bytes_left_over_are_refused(client: httpx.Client) -> None:
    head = json.dumps({"inputs": [BINARY_X]}).encode()
    for behind in (7, 9):
        content = head + bytes(behind)
        status, text = error_of(client.post(DNN, content=content, headers={LENGTH: str(len(head))}))
        assert status == 400
        assert text.endswith(f"got {behind}")


@pytest.mark.parametrize(
    ("method", "path", "status", "words"),
    [
        ("GET", "/v2/nope", 404, "no route matches /v2/nope"),
        ("GET", "/v2/models", 404, "no route matches /v2/models"),
        ("DELETE", "/v2", 405, "Method Not Allowed"),
        ("GET", DNN, 405, "Method Not Allowed"),
        ("POST", "/v2/models/nope/infer", 404, "no model is called 'nope'; serving: dnn"),
        ("GET", "/v2/models/nope", 404, "no model is called 'nope'"),
        ("GET", "/v2/models/no%00pe/ready", 404, "no model is called"),
        ("GET", "/v2/models/dnn/versions/9", 404, "dnn has no version 9"),
        ("GET", f"/v2/models/dnn/versions/{10**30}/ready", 404, "dnn has no version"),
        ("POST", "/v2/models/dnn/versions/9/infer", 404, "dnn has no version 9"),
        ("GET", "/v2/models/dnn/versions/0", 400, "path.version: expected at least 1, got"),
        ("GET", "/v2/models/dnn/versions/v1/config", 400, "path.version: expected a valid integer"),
    ],
)
def test_every_error_has_the_shape_of_the_protocol(
    client: httpx.Client, method: str, path: str, status: int, words: str
) -> None:
    got, text = error_of(client.request(method, path))
    assert got == status
    assert words in text


def test_what_only_begins_alike_is_no_part_of_the_protocol(client: httpx.Client) -> None:
    assert client.get("/v2x").headers["content-type"] == "application/problem+json"


def test_a_body_over_the_limit_is_refused_in_the_shape_of_the_protocol(
    serve: Serve, tmp_path: Path
) -> None:
    small = serve(Settings(data_dir=tmp_path, max_body_bytes=2000))
    for content in (b" " * 3000, iter([b" " * 1500] * 2)):
        status, text = error_of(small.post(DNN, content=content))
        assert (status, text) == (413, "a body may have up to 2,000 bytes")


def test_the_protocol_needs_the_token_that_predictions_need(serve: Serve, tmp_path: Path) -> None:
    client = serve(guarded(tmp_path))
    for method, path in (
        ("GET", "/v2"),
        ("GET", "/v2/models/dnn"),
        ("GET", "/v2/models/dnn/ready"),
        ("GET", "/v2/models/dnn/config"),
        ("POST", DNN),
        ("POST", "/v2/repository/index"),
    ):
        response = client.request(method, path, json={"inputs": [X]})
        assert response.headers["WWW-Authenticate"] == "Bearer"
        assert error_of(response)[0] == 401
        assert client.request(method, path, json={"inputs": [X]}, headers=AS_PREDICTOR).is_success
    assert client.get("/v2/health/ready").status_code == 200


def test_a_server_whose_production_is_damaged_is_not_ready(serve: Serve, tmp_path: Path) -> None:
    data = Settings(data_dir=tmp_path)
    serve(data)
    (tmp_path / "checkpoints/dnn/1/model.onnx").write_bytes(b"")
    client = serve(data)
    for method, path in (
        ("GET", "/v2/health/ready"),
        ("GET", "/v2/models/dnn/ready"),
        ("GET", "/v2/models/dnn"),
        ("POST", DNN),
    ):
        response = client.request(method, path, json={"inputs": [X]})
        status, text = error_of(response)
        assert status == 503
        assert "version 1 cannot be loaded: model.onnx was altered" in text
        assert response.headers["Retry-After"]
    assert client.get("/v2/models/xor/ready").status_code == 200
    entries = client.post("/v2/repository/index").json()
    (damaged,) = [entry for entry in entries if entry["state"] != "READY"]
    assert damaged["name"] == "dnn"
    assert "model.onnx was altered" in damaged["reason"]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)
almost_tensors = st.fixed_dictionaries(
    {},
    optional={
        "name": st.just("x") | json_values,
        "shape": st.just([1, 2]) | st.lists(st.integers(-1, 3), max_size=4) | json_values,
        "datatype": st.sampled_from(["FP32", "UINT8", "BYTES"]) | json_values,
        "data": st.lists(st.floats() | st.lists(st.floats())) | json_values,
        "parameters": st.fixed_dictionaries({"binary_data_size": json_values}) | json_values,
    },
)
almost_requests = st.fixed_dictionaries(
    {"inputs": st.lists(almost_tensors, min_size=1, max_size=2) | json_values},
    optional={
        "id": json_values,
        "outputs": st.lists(st.fixed_dictionaries({"name": st.just("label") | json_values})),
        "parameters": st.fixed_dictionaries({"binary_data_output": json_values}) | json_values,
    },
)


def answers_or_tells(client: httpx.Client, content: bytes, headers: dict[str, str]) -> None:
    response = client.post(DNN, content=content, headers=headers)
    if response.status_code != 200:
        assert error_of(response)[0] == 400


@given(st.binary(max_size=200), st.none() | st.integers(-1, 200))
@settings(deadline=None, max_examples=200)
def test_no_bytes_break_it(client: httpx.Client, content: bytes, length: int | None) -> None:
    answers_or_tells(client, content, {} if length is None else {LENGTH: str(length)})


@given(almost_requests, st.binary(max_size=16), st.booleans())
@settings(deadline=None, max_examples=400)
def test_no_json_breaks_it(
    client: httpx.Client, body: Any, behind: bytes, with_length: bool
) -> None:
    head = json.dumps(body).encode()
    headers = {LENGTH: str(len(head))} if with_length else {}
    answers_or_tells(client, head + behind, headers)
