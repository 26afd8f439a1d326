import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from perceptd.models import registry
from perceptd.models.networks.mnist import drawn_seven
from perceptd.service.settings import Settings

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


def test_many_callers_each_get_their_own_answer(client: httpx.Client) -> None:
    wrong: list[str] = []

    def caller(row: list[int], label: str) -> None:
        with httpx.Client(base_url=client.base_url) as own:
            for _ in range(25):
                body = {"model": "xor", "inputs": [row]}
                got = own.post("/predict", json=body).json()["predictions"]
                if [p["label"] for p in got] != [label]:
                    wrong.append(f"{row}: {got}")

    rows = [([1, 1], "0"), ([-1, 1], "1"), ([1, -1], "1"), ([-1, -1], "0")] * 3
    threads = [threading.Thread(target=caller, args=pair) for pair in rows]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


BAD_BODIES: dict[str, tuple[Any, list[str | int], str]] = {
    "no JSON": (b"{", [], "JSON"),
    "empty": (b"", [], "JSON"),
    "too deep": (b"[" * 100_000, [], "JSON"),
    "an array": ([], [], "an object"),
    "no model": ({"inputs": [[1, 2]]}, ["model"], "one of"),
    "model a number": ({"model": 3, "inputs": [[1, 2]]}, ["model"], "one of"),
    "no inputs": ({"model": "dnn"}, ["inputs"], "a value"),
    "inputs null": ({"model": "dnn", "inputs": None}, ["inputs"], "an array"),
    "no rows": ({"model": "dnn", "inputs": []}, ["inputs"], "at least 1"),
    "too many rows": (
        {"model": "dnn", "inputs": [[1, 2]] * 1025},
        ["inputs"],
        "at most 1024 rows",
    ),
    "a row too short": (
        {"model": "dnn", "inputs": [[1, 2], [1]]},
        ["inputs", 1],
        "an array of 2",
    ),
    "a row too long": (
        {"model": "dnn", "inputs": [[1, 2, 3]]},
        ["inputs", 0],
        "an array of 2",
    ),
    "a text": (
        {"model": "dnn", "inputs": [[1, "2"]]},
        ["inputs", 0, 1],
        "number",
    ),
    "a truth": (
        {"model": "dnn", "inputs": [[1, True]]},
        ["inputs", 0, 1],
        "number",
    ),
    "NaN": (
        b'{"model": "dnn", "inputs": [[1, NaN]]}',
        ["inputs", 0, 1],
        "finite",
    ),
    "infinity": (
        b'{"model": "dnn", "inputs": [[1, -Infinity]]}',
        ["inputs", 0, 1],
        "finite",
    ),
    "beyond float32": (
        {"model": "dnn", "inputs": [[1, 1e39]]},
        ["inputs", 0, 1],
        "at most",
    ),
    "a number of 5,000 digits": (
        b'{"model": "dnn", "inputs": [[1, ' + b"9" * 5000 + b"]]}",
        [],
        "JSON",
    ),
    "uint8 for the plane": (
        {"model": "dnn", "dtype": "uint8", "inputs": [[1, 2]]},
        ["dtype"],
        "float32",
    ),
    "an unknown field": (
        {"model": "dnn", "inputs": [[1, 2]], "input": 1},
        ["input"],
        "no field of this name",
    ),
    "twenty thousand unknown fields": (
        {"model": "dnn", "inputs": [[1, 2]], **{f"field-{i}" * 20: 0 for i in range(20_000)}},
        [("field-0" * 20)[:60]],
        "no field of this name",
    ),
    "version zero": (
        {"model": "dnn", "inputs": [[1, 2]], "version": 0},
        ["version"],
        "more than 0",
    ),
    "pixels without dtype": (
        {"model": "mnist-cnn", "inputs": [[255] * 784]},
        ["inputs", 0, 0],
        '"dtype": "uint8"',
    ),
    "pixels beyond 255": (
        {"model": "mnist-cnn", "dtype": "uint8", "inputs": [[0] * 783 + [256]]},
        ["inputs", 0, 783],
        "0..255",
    ),
    "fractions as uint8": (
        {"model": "mnist-cnn", "dtype": "uint8", "inputs": [[[0.5] * 28] * 28]},
        ["inputs", 0, 0, 0],
        "go without",
    ),
    "a picture of 27 rows": (
        {"model": "mnist-cnn", "inputs": [[[0.5] * 28] * 27]},
        ["inputs", 0],
        "28 arrays of 28",
    ),
    "a picture without its brackets": (
        {"model": "mnist-cnn", "inputs": [0.0] * 784},
        ["inputs", 0],
        "inputs is a list of pictures",
    ),
    "a row without its brackets": (
        {"model": "dnn", "inputs": [0.1, -0.2]},
        ["inputs", 0],
        "an array of 2 numbers (inputs is a list of rows)",
    ),
    "a picture of 783": (
        {"model": "mnist-cnn", "inputs": [[0.5] * 783]},
        ["inputs", 0],
        "an array of 784",
    ),
    "an unknown dtype": (
        {"model": "mnist-cnn", "dtype": "int8", "inputs": [[0] * 784]},
        ["dtype"],
        '"float32" or "uint8"',
    ),
}


@pytest.mark.parametrize("path", ["/predict", "/predict_proba"])
@pytest.mark.parametrize("name", BAD_BODIES)
def test_a_wrong_body_is_told_where_what_and_how(
    client: httpx.Client, path: str, name: str
) -> None:
    body, loc, expected = BAD_BODIES[name]
    content = body if isinstance(body, bytes) else json.dumps(body).encode()

    response = client.post(path, content=content, headers={"Content-Type": "application/json"})

    problem = response.json()
    assert (response.status_code, problem["code"]) == (422, "invalid_input"), problem
    assert response.headers["content-type"] == "application/problem+json"
    assert problem["errors"][0]["loc"] == loc
    assert expected in problem["errors"][0]["expected"]
    assert problem["errors"][0]["got"]
    assert client.post(path, json=problem["example"]).status_code == 200
    assert len(response.content) < 10_000


def test_an_unknown_model_is_told_with_those_there_are(client: httpx.Client) -> None:
    response = client.post("/predict", json={"model": "dn", "inputs": [[1, 2]]})
    assert (response.status_code, response.json()["code"]) == (404, "model_not_found")
    assert "mnist-cnn" in response.json()["detail"]


def test_an_unknown_version_is_told(client: httpx.Client) -> None:
    body = {"model": "dnn", "version": 99, "inputs": [[1, 2]]}
    response = client.post("/predict", json=body)
    assert (response.status_code, response.json()["code"]) == (404, "version_not_found")


def test_another_media_type_is_refused(client: httpx.Client) -> None:
    response = client.post("/predict", data={"model": "dnn"})
    assert (response.status_code, response.json()["code"]) == (415, "unsupported_media_type")


@pytest.fixture
def small(serve: Callable[[Settings], httpx.Client], tmp_path: Path) -> httpx.Client:
    """A server that takes bodies of 2,000 bytes."""
    return serve(Settings(data_dir=tmp_path, max_body_bytes=2000))


@pytest.mark.parametrize("path", ["/predict", "/predict/image"])
def test_a_body_over_the_limit_is_refused_declared_or_not(small: httpx.Client, path: str) -> None:
    def chunks() -> Iterator[bytes]:
        yield b" " * 1500
        yield b" " * 1500

    headers = {"Content-Type": "application/json" if path == "/predict" else "image/png"}
    for content in (b" " * 3000, chunks()):
        response = small.post(path, content=content, headers=headers)
        problem = response.json()
        assert (response.status_code, problem["code"]) == (413, "body_too_large")
        assert "2,000" in problem["detail"]
        assert response.headers["X-Request-ID"]
