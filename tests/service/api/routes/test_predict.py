import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from perceptd.models import registry
from perceptd.models.networks.mnist import drawn_seven
from perceptd.service.settings import Settings
from tests.service.admin import problem

SEVEN = drawn_seven()
FLAT_SEVEN = [pixel for row in SEVEN for pixel in row]


def ask(client: httpx.Client, path: str = "/predict_proba", **body: Any) -> Any:
    response = client.post(path, json=body)
    assert response.status_code == 200, response.text
    return response.json()


@pytest.mark.parametrize("model", registry.BUILT_IN)
def test_every_shipped_model_answers_its_example(client: httpx.Client, model: str) -> None:
    example = client.get(f"/models/{model}").json()["example"]
    labels = client.get(f"/models/{model}").json()["labels"]

    answer = ask(client, "/predict", **example)
    with_probabilities = ask(client, **example)

    assert (answer["model"], answer["version"]) == (model, 1)
    assert len(answer["predictions"]) == len(example["inputs"])
    for short, long in zip(answer["predictions"], with_probabilities["predictions"], strict=True):
        probabilities = long["probabilities"]
        assert short == {"label": long["label"], "index": long["index"]}
        assert short["label"] == labels[short["index"]]
        assert list(probabilities) == labels
        assert sum(probabilities.values()) == pytest.approx(1, abs=1e-6)
        assert probabilities[short["label"]] == max(probabilities.values())


@pytest.mark.parametrize(
    ("model", "row", "label"),
    [
        ("perceptron", [0.5, -0.5], "1"),
        ("perceptron", [-0.5, 0.5], "0"),
        ("dnn", [0.0, 0.0], "1"),
        ("dnn", [1.0, 0.0], "0"),
        ("dnn", [0.0, -1.0], "0"),
        ("xor", [1, 1], "0"),
        ("xor", [-1, -1], "0"),
        ("xor", [-1, 1], "1"),
        ("xor", [1, -1], "1"),
    ],
)
def test_the_plane_is_answered_as_it_was_taught(
    client: httpx.Client, model: str, row: list[float], label: str
) -> None:
    assert ask(client, model=model, inputs=[row])["predictions"][0]["label"] == label


@pytest.mark.parametrize("model", ["mnist-mlp", "mnist-cnn"])
def test_a_picture_is_the_same_nested_or_flat_scaled_or_not(
    client: httpx.Client, model: str
) -> None:
    nested = (np.array(SEVEN) / 255).tolist()
    flat = (np.array(FLAT_SEVEN) / 255).tolist()
    bodies: list[dict[str, Any]] = [
        {"inputs": [SEVEN, FLAT_SEVEN], "dtype": "uint8"},
        {"inputs": [nested, flat]},
        {"inputs": [flat, nested], "dtype": "float32"},
    ]
    rows = [
        prediction["probabilities"]
        for body in bodies
        for prediction in ask(client, model=model, **body)["predictions"]
    ]
    assert ask(client, model=model, **bodies[0])["predictions"][0]["label"] == "7"
    for row in rows:
        assert row == pytest.approx(rows[0], abs=1e-6)


def test_rows_are_answered_in_order_beyond_one_batch(client: httpx.Client) -> None:
    rows = [[-1, 1] if i % 3 else [1, 1] for i in range(1000)]
    labels = [p["label"] for p in ask(client, "/predict", model="xor", inputs=rows)["predictions"]]
    assert labels == ["1" if i % 3 else "0" for i in range(1000)]


def test_a_version_can_be_named(client: httpx.Client) -> None:
    assert ask(client, model="xor", version=1, inputs=[[1, 1]])["version"] == 1


ROW = {"model": "dnn", "inputs": [[1, 2]]}
CNN = {"model": "mnist-cnn"}
PIXELS = CNN | {"dtype": "uint8"}
LONG = "a-field" * 20

BAD_BODIES: dict[str, tuple[Any, list[str | int], str]] = {
    "no JSON": (b"{", [], "JSON"),
    "empty": (b"", [], "JSON"),
    "too deep": (b"[" * 100_000, [], "JSON"),
    "an array": ([], [], "an object"),
    "no model": ({"inputs": [[1, 2]]}, ["model"], "one of"),
    "model a number": (ROW | {"model": 3}, ["model"], "one of"),
    "no inputs": ({"model": "dnn"}, ["inputs"], "a value"),
    "inputs null": (ROW | {"inputs": None}, ["inputs"], "an array"),
    "no rows": (ROW | {"inputs": []}, ["inputs"], "at least 1"),
    "too many rows": (ROW | {"inputs": [[1, 2]] * 1025}, ["inputs"], "at most 1024 rows"),
    "a row too short": (ROW | {"inputs": [[1, 2], [1]]}, ["inputs", 1], "an array of 2"),
    "a row too long": (ROW | {"inputs": [[1, 2, 3]]}, ["inputs", 0], "an array of 2"),
    "a text": (ROW | {"inputs": [[1, "2"]]}, ["inputs", 0, 1], "number"),
    "a boolean": (ROW | {"inputs": [[1, True]]}, ["inputs", 0, 1], "number"),
    "NaN": (
        b'{"model": "dnn", "inputs": [[1, NaN]]}',
        ["inputs", 0, 1],
        "finite",
    ),
    "infinity": (ROW | {"inputs": [[1, -math.inf]]}, ["inputs", 0, 1], "finite"),
    "beyond float32": (ROW | {"inputs": [[1, 1e39]]}, ["inputs", 0, 1], "at most"),
    "5,000 digits": (b'{"model": "dnn", "inputs": [[1, ' + b"9" * 5000 + b"]]}", [], "JSON"),
    "uint8 for the plane": (ROW | {"dtype": "uint8"}, ["dtype"], "float32"),
    "an unknown field": (ROW | {"input": 1}, ["input"], "no field of this name"),
    "many unknown fields": (
        ROW | {f"{LONG}{i}": 0 for i in range(20_000)},
        [LONG[:60]],
        "no field of this name",
    ),
    "version zero": (ROW | {"version": 0}, ["version"], "more than 0"),
    "pixels as float32": (CNN | {"inputs": [[255] * 784]}, ["inputs", 0, 0], '"dtype": "uint8"'),
    "pixels over 255": (PIXELS | {"inputs": [[0] * 783 + [256]]}, ["inputs", 0, 783], "0..255"),
    "fractions as uint8": (
        PIXELS | {"inputs": [[[0.5] * 28] * 28]},
        ["inputs", 0, 0, 0],
        "go without",
    ),
    "27 rows": (CNN | {"inputs": [[[0.5] * 28] * 27]}, ["inputs", 0], "28 arrays of 28"),
    "783 numbers": (CNN | {"inputs": [[0.5] * 783]}, ["inputs", 0], "an array of 784"),
    "a picture alone": (CNN | {"inputs": [0.0] * 784}, ["inputs", 0], "is a list of pictures"),
    "a row alone": (ROW | {"inputs": [0.1, -0.2]}, ["inputs", 0], "2 numbers (inputs is a list"),
    "an unknown dtype": (
        CNN | {"dtype": "int8", "inputs": [[0] * 784]},
        ["dtype"],
        '"float32" or "uint8"',
    ),
}


@pytest.mark.parametrize("path", ["/predict", "/predict_proba"])
@pytest.mark.parametrize("name", BAD_BODIES)
def test_an_invalid_body_is_answered_with_place_expectation_and_example(
    client: httpx.Client, path: str, name: str
) -> None:
    body, loc, expected = BAD_BODIES[name]
    content = body if isinstance(body, bytes) else json.dumps(body).encode()

    response = client.post(path, content=content, headers={"Content-Type": "application/json"})

    assert problem(response) == (422, "invalid_input")
    (error, *_) = response.json()["errors"]
    assert error["loc"] == loc
    assert expected in error["expected"]
    assert error["got"]
    assert client.post(path, json=response.json()["example"]).status_code == 200
    assert len(response.content) < 10_000


@pytest.mark.parametrize(
    ("sent", "expected", "named"),
    [
        ({"json": {"model": "dn", "inputs": [[1, 2]]}}, (404, "model_not_found"), "mnist-cnn"),
        (
            {"json": {"model": "dnn", "version": 99, "inputs": [[1, 2]]}},
            (404, "version_not_found"),
            "99",
        ),
        ({"data": {"model": "dnn"}}, (415, "unsupported_media_type"), "application/json"),
    ],
)
def test_what_is_not_served_is_refused(
    client: httpx.Client, sent: dict[str, Any], expected: tuple[int, str], named: str
) -> None:
    response = client.post("/predict", **sent)
    assert problem(response) == expected
    assert named in response.json()["detail"]


def test_a_deadline_that_passes_is_a_504(
    serve: Callable[[Settings], httpx.Client], tmp_path: Path
) -> None:
    """The batch waits for more rows for longer than the caller does."""
    client = serve(Settings(data_dir=tmp_path, max_batch_time_ms=1000))
    body = {"model": "dnn", "inputs": [[1, 2]]}
    late = client.post("/predict", json=body, headers={"X-Request-Timeout-Ms": "10"})
    assert problem(late) == (504, "deadline_exceeded")
    assert client.post("/predict", json=body).status_code == 200


@pytest.mark.parametrize("wrong", ["0", "-5", "soon", "1.5", "99999999999"])
def test_a_wrong_timeout_is_refused(client: httpx.Client, wrong: str) -> None:
    body = {"model": "dnn", "inputs": [[1, 2]]}
    response = client.post("/predict", json=body, headers={"X-Request-Timeout-Ms": wrong})
    assert problem(response) == (422, "invalid_input")
    assert response.json()["errors"][0]["loc"] == ["header", "X-Request-Timeout-Ms"]


@pytest.fixture
def small(serve: Callable[[Settings], httpx.Client], tmp_path: Path) -> httpx.Client:
    """A server that takes bodies of up to 2,000 bytes."""
    return serve(Settings(data_dir=tmp_path, max_body_bytes=2000))


@pytest.mark.parametrize(
    ("path", "kind"), [("/predict", "application/json"), ("/predict/image", "image/png")]
)
@pytest.mark.parametrize("declared", [True, False])
def test_a_body_over_the_limit_is_refused(
    small: httpx.Client, path: str, kind: str, declared: bool
) -> None:
    body = b'{"model": "dnn", "inputs": [[1, 2]]}' + b" " * 3000
    content: bytes | Iterator[bytes] = body if declared else iter([body[:1500], body[1500:]])
    response = small.post(path, content=content, headers={"Content-Type": kind})
    assert problem(response) == (413, "body_too_large")
    assert "2,000" in response.json()["detail"]
    assert response.headers["X-Request-ID"]
