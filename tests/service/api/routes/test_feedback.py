from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from perceptd.models.networks.mnist import drawn_seven
from perceptd.models.preprocessing import from_numbers
from perceptd.service.settings import Settings
from perceptd.service.store import db
from perceptd.service.store.feedback import Feedback
from perceptd.service.store.repository import Repository
from tests.service.admin import AS_ADMIN, AS_PREDICTOR, TOKENS, as_admin, problem

pytestmark = pytest.mark.database

SEVEN: Any = drawn_seven()
FLAT_SEVEN = [pixel for row in SEVEN for pixel in row]
Serve = Callable[[Settings], httpx.Client]

# Rounded values, the smallest and largest float32, and a negative zero.
EXACT = [[0.1, -0.2], [1e-45, -1e-40], [3.4e38, -3.4e38], [-0.0, 16777217.0], [1 / 3, 1e-300]]


@pytest.fixture
def settings(store_settings: Settings) -> Settings:
    return store_settings.model_copy(update={**TOKENS, "max_rows": 8, "max_body_bytes": 50_000})


def kept(
    settings: Settings, model: str, until: int = 10**9
) -> tuple[NDArray[np.float32], list[str]]:
    """The rows and labels that a training receives."""
    database = db.connect(settings)
    shape = Repository(database, settings.data_dir).versions(model)[0].meta.spec.input.shape
    path = settings.data_dir / "feedback.npz"
    Feedback(database).write(model, until, shape, path)
    database.dispose()
    with np.load(path, allow_pickle=False) as file:
        return file["inputs"], file["labels"].tolist()


def newest(settings: Settings, model: str) -> int | None:
    database = db.connect(settings)
    number = Feedback(database).newest(model)
    database.dispose()
    return number


def test_numbers_are_stored_bit_for_bit_in_order(serve: Serve, settings: Settings) -> None:
    client = as_admin(serve(settings))
    labels = ["0", "1", "1", "0", "1"]
    answer = client.post("/feedback", json={"model": "dnn", "inputs": EXACT, "labels": labels})
    assert (answer.status_code, answer.json()) == (201, {"model": "dnn", "kept": 5, "total": 5})
    until = newest(settings, "dnn")
    assert until
    for model, total in (("xor", 1), ("dnn", 6)):
        body = {"model": model, "inputs": [[7, 8]], "labels": ["0"]}
        assert client.post("/feedback", json=body).json()["total"] == total

    rows, read = kept(settings, "dnn")
    assert rows.dtype == np.float32
    assert rows.tobytes() == np.array([*EXACT, [7, 8]], np.float32).tobytes()
    assert read == [*labels, "0"]
    rows, read = kept(settings, "dnn", until)
    assert rows.tobytes() == np.array(EXACT, np.float32).tobytes()
    assert read == labels


def test_every_form_of_a_picture_is_stored_as_the_network_sees_it(
    serve: Serve, settings: Settings
) -> None:
    client = as_admin(serve(settings))
    scaled = (np.array(SEVEN) / 255).tolist()
    for body in (
        {"dtype": "uint8", "inputs": [SEVEN, FLAT_SEVEN], "labels": ["7", "1"]},
        {"inputs": [scaled], "labels": ["7"]},
        {"dtype": "float32", "inputs": [np.ravel(scaled).tolist()], "labels": ["9"]},
    ):
        answer = client.post("/feedback", json={"model": "mnist-cnn", **body})
        assert answer.status_code == 201, answer.text
    assert answer.json() == {"model": "mnist-cnn", "kept": 1, "total": 4}

    rows, labels = kept(settings, "mnist-cnn")
    database = db.connect(settings)
    spec = Repository(database, settings.data_dir).version("mnist-cnn", 1).meta.spec
    database.dispose()
    as_served = from_numbers(spec.input, [SEVEN], "uint8")[0]
    assert rows.shape == (4, 1, 28, 28)
    assert [row.tobytes() for row in rows] == [as_served.tobytes()] * 4
    assert labels == ["7", "1", "7", "9"]


ROW = [0.5, 0.5]
WRONG: dict[str, tuple[dict[str, Any], list[str | int]]] = {
    "unknown label": ({"inputs": [ROW] * 3, "labels": ["0", "2", "1"]}, ["labels", 1]),
    "a number for a label": ({"inputs": [ROW], "labels": [1]}, ["labels", 0]),
    "no label": ({"inputs": [ROW]}, ["labels"]),
    "a label too few": ({"inputs": [ROW] * 3, "labels": ["0", "1"]}, ["labels"]),
    "a label too many": ({"inputs": [ROW], "labels": ["0", "1"]}, ["labels"]),
    "a label for all": ({"inputs": [ROW], "labels": "1"}, ["labels"]),
    "no row": ({"inputs": [], "labels": []}, ["inputs"]),
    "no inputs": ({"labels": ["1"]}, ["inputs"]),
    "a row too short": ({"inputs": [ROW, [0.5]], "labels": ["0", "1"]}, ["inputs", 1]),
    "forgotten brackets": ({"inputs": ROW, "labels": ["0", "1"]}, ["inputs", 0]),
    "text in a row": ({"inputs": [ROW, [0.5, "x"]], "labels": ["0", "1"]}, ["inputs", 1, 1]),
    "no float32": ({"inputs": [[1e39, 0]], "labels": ["1"]}, ["inputs", 0, 0]),
    "too many rows": ({"inputs": [ROW] * 9, "labels": ["1"] * 9}, ["inputs"]),
    "pixels for numbers": ({"dtype": "uint8", "inputs": [[1, 0]], "labels": ["1"]}, ["dtype"]),
    "unknown field": ({"inputs": [ROW], "labels": ["1"], "version": 1}, ["version"]),
    "no model": ({"model": None, "inputs": [ROW], "labels": ["1"]}, ["model"]),
}


def test_invalid_feedback_stores_no_row(serve: Serve, settings: Settings) -> None:
    client = as_admin(serve(settings))
    for name, (body, loc) in WRONG.items():
        response = client.post("/feedback", json={"model": "dnn", **body})
        assert problem(response) == (422, "invalid_input"), name
        assert response.json()["errors"][0]["loc"] == loc, name
        example = response.json()["example"]
        assert newest(settings, "dnn") is None, name
    assert client.post("/feedback", json=example).status_code == 201

    for raw in (b"", b"{", b"[]", b'{"model": "dnn", "inputs": [[NaN, 0]], "labels": ["1"]}'):
        assert problem(client.post("/feedback", content=raw)) == (422, "invalid_input")
    for response, refusal in (
        (
            client.post("/feedback", json={"model": "nope", "inputs": [ROW], "labels": ["1"]}),
            (404, "model_not_found"),
        ),
        (
            client.post("/feedback", content=b"{}", headers={"Content-Type": "text/plain"}),
            (415, "unsupported_media_type"),
        ),
        (
            client.post("/feedback", content=b" " * 50_001),
            (413, "body_too_large"),
        ),
    ):
        assert problem(response) == refusal
    rows, _ = kept(settings, "dnn")
    assert len(rows) == len(example["inputs"])


@pytest.mark.parametrize("open_predictions", [False, True])
def test_feedback_needs_a_token_even_if_predictions_are_open(
    serve: Serve, tmp_path: Path, open_predictions: bool
) -> None:
    tokens = {**TOKENS, "predict_token": None} if open_predictions else TOKENS
    client = serve(Settings(data_dir=tmp_path, **tokens))
    body = {"model": "dnn", "inputs": [ROW], "labels": ["1"]}

    def ask(headers: dict[str, str]) -> httpx.Response:
        return client.post("/feedback", json=body, headers=headers)

    assert problem(ask({})) == (401, "unauthorized")
    assert problem(ask({"Authorization": "Bearer wrong-token-of-some-length"}))[0] == 401
    assert ask(AS_ADMIN).json()["total"] == 1
    assert ask(AS_PREDICTOR).status_code == (401 if open_predictions else 201)


def test_an_empty_store_has_no_feedback(settings: Settings) -> None:
    database = db.connect(settings)
    Repository(database, settings.data_dir).prepare()
    database.dispose()
    assert newest(settings, "dnn") is None
    rows, labels = kept(settings, "dnn")
    assert (rows.shape, labels) == ((0, 2), [])
