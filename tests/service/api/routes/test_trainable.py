"""What a client is told that a job may set, and what a job then takes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from perceptd.models import registry, trainable
from perceptd.service.commands.common import opened_store
from perceptd.service.jobs.plans import DATASETS
from perceptd.service.settings import Settings
from tests.service.admin import AS_PREDICTOR, as_admin, guarded, problem
from tests.service.jobs.test_planner import altered

SHIPPED = {one.architecture: one for one in trainable.shipped()}
Serve = Callable[[Settings], httpx.Client]


def asked(client: httpx.Client, model: str) -> Any:
    return client.get(f"/models/{model}/trainable").raise_for_status().json()


@pytest.mark.parametrize("model", registry.BUILT_IN)
def test_every_model_says_what_a_job_may_set(client: httpx.Client, model: str) -> None:
    assert asked(client, model) == {
        **SHIPPED[model].model_dump(),
        "model": model,
        "current": client.get(f"/models/{model}/versions/1").json()["config"],
        "feedback": 0,
    }


def test_whatever_is_offered_is_taken_by_a_job(serve: Serve, tmp_path: Path) -> None:
    folder = tmp_path / DATASETS
    (folder / "folder.csv").mkdir(parents=True)
    for name in ("mine.csv", "Other-1.2_3.npz", "text.txt", ".hidden.csv", "two words.csv"):
        (folder / name).write_text("")
    client = as_admin(serve(guarded(tmp_path)))

    offered = asked(client, "dnn")
    assert offered["datasets"] == ["blobs", "circles", "xor", "Other-1.2_3.npz", "mine.csv"]
    for field, values in (
        ("dataset", offered["datasets"]),
        ("recipe", offered["recipes"]),
        ("config", [offered["current"]]),
        ("gate", [{"metric": metric} for metric in offered["metrics"]]),
    ):
        for value in values:
            answer = client.post("/jobs", json={"model": "dnn", field: value})
            assert answer.status_code == 202, answer.text


def test_corrections_are_counted_by_model(serve: Serve, tmp_path: Path) -> None:
    client = as_admin(serve(guarded(tmp_path)))
    body = {"model": "dnn", "inputs": [[0, 0], [1, 1]], "labels": ["0", "1"]}
    for _ in range(2):
        client.post("/feedback", json=body).raise_for_status()
    assert asked(client, "dnn")["feedback"] == 4
    assert asked(client, "xor")["feedback"] == 0


def test_the_current_settings_are_those_of_production(serve: Serve, tmp_path: Path) -> None:
    settings = guarded(tmp_path / "data")
    config = {"hidden": 4, "activation": "tanh"}
    with opened_store(settings) as repository:
        repository.register(altered(tmp_path / "other", config=config))
    client = as_admin(serve(settings))
    assert asked(client, "dnn")["current"] == {"hidden": 4, "activation": "sigmoid"}
    with opened_store(settings) as repository:
        repository.point("dnn", "production", 2)
    assert asked(client, "dnn")["current"] == config


def test_what_cannot_be_trained_is_told(serve: Serve, tmp_path: Path) -> None:
    settings = guarded(tmp_path / "data")
    with opened_store(settings) as repository:
        repository.register(altered(tmp_path / "spiral", architecture="spiral"), "spirals")
        repository.register(altered(tmp_path / "rings"), "rings", first_serves=False)
    client = as_admin(serve(settings))
    for model, refusal, words in (
        ("nope", (404, "model_not_found"), "nope"),
        ("%00", (404, "model_not_found"), ""),
        ("spirals", (409, "conflict"), "start a worker where a plug-in is installed"),
        ("rings", (409, "conflict"), "no production version"),
    ):
        response = client.get(f"/models/{model}/trainable")
        assert problem(response) == refusal
        assert words in response.json()["detail"]


def test_it_needs_the_token_for_reads(serve: Serve, tmp_path: Path) -> None:
    client = serve(guarded(tmp_path))
    assert problem(client.get("/models/dnn/trainable")) == (401, "unauthorized")
    assert client.get("/models/dnn/trainable", headers=AS_PREDICTOR).status_code == 200
