"""`/v2/repository`: the index, loads and unloads, across processes and restarts."""

import functools
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from perceptd.models import registry
from perceptd.service.commands.common import opened_store
from perceptd.service.errors import ConflictError, ModelNotFoundError
from perceptd.service.settings import Settings
from perceptd.service.store.aliases import PRODUCTION, UNLOADED
from perceptd.service.store.repository import PRETRAINED
from tests.service.admin import AS_PREDICTOR, TOKENS, as_admin, guarded, problem
from tests.service.api.oip.test_infer import DNN, X, error_of
from tests.service.api.routes.test_aliases import (
    BODY,
    add_versions,
    aliases,
    point,
    serving,
)
from tests.waiting import eventually

Serve = Callable[[Settings], httpx.Client]
INDEX = "/v2/repository/index"
LOAD, UNLOAD = "/v2/repository/models/dnn/load", "/v2/repository/models/dnn/unload"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return guarded(tmp_path)


@pytest.fixture
def admin(serve: Serve, settings: Settings) -> httpx.Client:
    """A client of a server whose dnn has versions 1, in production, and 2."""
    client = as_admin(serve(settings))
    add_versions(settings, 1)
    return client


def index(client: httpx.Client, **body: Any) -> dict[tuple[str, str], str]:
    """Why each version is not loaded; empty for a loaded one."""
    response = client.post(INDEX, json=body)
    assert response.status_code == 200, response.text
    entries = response.json()
    for entry in entries:
        assert (entry["state"] == "READY") == (entry["reason"] == "")
    return {(entry["name"], entry["version"]): entry["reason"] for entry in entries}


def test_every_version_is_listed_and_a_request_loads_it(admin: httpx.Client) -> None:
    listed = index(admin)
    assert listed.keys() == {*((model, "1") for model in registry.BUILT_IN), ("dnn", "2")}
    assert (
        listed.pop(("dnn", "2")) == "not loaded: it loads when a request asks for it by its number"
    )
    assert set(listed.values()) == {""}
    assert ("dnn", "2") not in index(admin, ready=True)
    assert admin.post("/v2/models/dnn/versions/2/infer", json={"inputs": [X]}).status_code == 200
    assert index(admin)["dnn", "2"] == ""
    assert admin.post(INDEX).json() == admin.post(INDEX, json={"ready": False}).json()


def test_a_model_without_production_cannot_be_loaded_or_unloaded(
    admin: httpx.Client, settings: Settings
) -> None:
    with opened_store(settings) as repository:
        repository.register(PRETRAINED / "dnn", "waiting", first_serves=False)
    assert "no version of the model is in production" in index(admin)["waiting", "1"]
    for action in ("load", "unload"):
        status, text = error_of(admin.post(f"/v2/repository/models/waiting/{action}"))
        assert (status, text) == (409, "waiting has no version in production: promote one")


def test_an_unloaded_model_answers_404_and_names_the_request_that_loads_it(
    admin: httpx.Client,
) -> None:
    assert admin.post("/v2/models/dnn/versions/2/infer", json={"inputs": [X]}).status_code == 200
    for _ in range(2):
        assert admin.post(UNLOAD).json() == {
            "name": "dnn",
            "version": "1",
            "state": "UNAVAILABLE",
            "reason": "the model is unloaded",
        }
    for version in ("1", "2"):
        assert index(admin)["dnn", version] == "the model is unloaded"
    for method, path in (
        ("POST", DNN),
        ("POST", "/v2/models/dnn/versions/1/infer"),
        ("POST", "/v2/models/dnn/versions/2/infer"),
        ("GET", "/v2/models/dnn"),
        ("GET", "/v2/models/dnn/ready"),
    ):
        status, text = error_of(admin.request(method, path))
        assert status == 404
        assert "POST /v2/repository/models/dnn/load loads it" in text
    for body in (BODY, {**BODY, "version": 1}):
        refused = admin.post("/predict", json=body)
        assert problem(refused) == (404, "model_not_found")
        assert "models/dnn/load loads it" in refused.json()["detail"]
    assert problem(admin.get("/models/dnn")) == (404, "model_not_found")
    assert "dnn" not in {model["name"] for model in admin.get("/models").json()["models"]}
    assert admin.get("/v2/health/ready").status_code == 200
    assert admin.get("/health/ready").json()["models"].keys() == {*registry.BUILT_IN} - {"dnn"}


def test_a_reloaded_model_serves_as_before(admin: httpx.Client) -> None:
    before = admin.post(DNN, json={"inputs": [X]}).json()
    assert point(admin, "production", 2).status_code == 200
    assert point(admin, "production", 1).status_code == 200
    admin.post(UNLOAD)
    assert aliases(admin) == {"production": 1, "unloaded": 1, "previous": 2}
    for _ in range(2):
        answer = admin.post(LOAD)
        assert answer.json() == {"name": "dnn", "version": "1", "state": "READY", "reason": ""}
        assert aliases(admin) == {"production": 1, "previous": 2}
    assert admin.post(DNN, json={"inputs": [X]}).json() == before


@pytest.mark.parametrize("version", [1, 2])
def test_a_promotion_loads_an_unloaded_model(admin: httpx.Client, version: int) -> None:
    admin.post(UNLOAD)
    assert point(admin, "production", version).status_code == 200
    assert serving(admin) == version
    assert "unloaded" not in aliases(admin)


def test_the_alias_unloaded_cannot_be_set(admin: httpx.Client) -> None:
    assert problem(point(admin, UNLOADED, 1)) == (409, "conflict")
    assert serving(admin) == 1


def test_a_new_version_does_not_load_an_unloaded_model(
    admin: httpx.Client, settings: Settings
) -> None:
    admin.post(UNLOAD)
    add_versions(settings, 1)
    assert aliases(admin) == {"production": 1, "unloaded": 1}
    assert problem(admin.post("/predict", json=BODY)) == (404, "model_not_found")


def test_a_shipped_model_stays_unloaded_after_a_restart(serve: Serve, settings: Settings) -> None:
    assert as_admin(serve(settings)).post(UNLOAD).status_code == 200
    again = as_admin(serve(settings))
    assert index(again)["dnn", "1"] == "the model is unloaded"
    assert len(again.get("/models/dnn/versions").json()["versions"]) == 1
    assert again.post(LOAD).json()["state"] == "READY"
    assert serving(again) == 1


def test_a_version_that_cannot_be_loaded_stays_unloaded(
    admin: httpx.Client, settings: Settings
) -> None:
    admin.post(UNLOAD)
    graph = settings.data_dir / "checkpoints/dnn/1/model.onnx"
    whole = graph.read_bytes()
    graph.write_bytes(whole[:100])
    status, text = error_of(admin.post(LOAD))
    assert status == 409
    assert "dnn version 1 cannot be loaded: model.onnx was altered" in text
    assert aliases(admin)["unloaded"] == 1
    assert admin.get("/v2/health/ready").status_code == 200
    graph.write_bytes(whole)
    assert admin.post(LOAD).status_code == 200
    assert serving(admin) == 1


@pytest.mark.parametrize("path", [LOAD, UNLOAD])
def test_loading_and_unloading_need_the_admin_token(
    serve: Serve, settings: Settings, path: str
) -> None:
    client = serve(settings)
    assert error_of(client.post(path))[0] == 401
    assert error_of(client.post(path, headers=AS_PREDICTOR))[0] == 403
    assert error_of(as_admin(client).post(path.replace("dnn", "nope"))) == (
        404,
        "no model is called 'nope'",
    )


@pytest.mark.parametrize(
    ("path", "content", "words"),
    [
        (INDEX, b"{", "body: expected JSON"),
        (INDEX, b"[]", "body: expected an object"),
        (INDEX, b'{"ready": "yes"}', "ready: expected a boolean, got a string"),
        (LOAD, b"5", "body: expected an object"),
        (LOAD, b'{"parameters": []}', "parameters: expected an object, got an array"),
        (LOAD, b'{"parameters": {"config": "{}"}}', "parameters.config: expected neither"),
        (LOAD, b'{"parameters": {"file:1/a.onnx": ""}}', "parameters.file:1/a.onnx: expected"),
        (UNLOAD, b'{"parameters": 1}', "parameters: expected an object, got a whole number"),
    ],
)
def test_an_invalid_body_changes_nothing(
    admin: httpx.Client, path: str, content: bytes, words: str
) -> None:
    status, text = error_of(admin.post(path, content=content))
    assert status == 400
    assert text.startswith(words)
    assert serving(admin) == 1


def test_unknown_parameters_are_ignored(admin: httpx.Client) -> None:
    parameters = {"parameters": {"unload_dependents": True}}
    assert admin.post(UNLOAD, json=parameters).status_code == 200
    assert admin.post(LOAD, json={"parameters": {"of_mine": 1}}).status_code == 200


def test_no_request_fails_while_a_model_is_loaded_and_unloaded(admin: httpx.Client) -> None:
    statuses: set[int] = set()
    ending = threading.Event()

    def ask() -> None:
        with httpx.Client(base_url=admin.base_url, headers=admin.headers) as client:
            while not ending.is_set():
                statuses.add(client.post("/predict", json=BODY).status_code)
                statuses.add(client.post(DNN, json={"inputs": [X]}).status_code)

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    for _ in range(10):
        assert admin.post(UNLOAD).status_code == 200
        assert admin.post(LOAD).status_code == 200
    ending.set()
    for thread in threads:
        thread.join()
    assert statuses == {200, 404}


@pytest.mark.database
def test_all_servers_of_a_store_follow_within_a_second(
    serve: Serve, store_settings: Settings
) -> None:
    settings = store_settings.model_copy(update=TOKENS)
    here, there = as_admin(serve(settings)), as_admin(serve(settings))

    def other_answers(status: int) -> bool:
        return there.post("/predict", json=BODY).status_code == status

    for path, status in ((UNLOAD, 404), (LOAD, 200)):
        assert here.post(path).status_code == 200
        assert here.post("/predict", json=BODY).status_code == status
        what = f"the other server answers {status}"
        eventually(functools.partial(other_answers, status), what, seconds=1.5)


@pytest.mark.database
def test_the_store_keeps_the_production_version_of_an_unloaded_model(
    store_settings: Settings,
) -> None:
    with opened_store(store_settings) as repository:
        repository.unload("dnn")
        repository.unload("dnn")
        assert repository.production_of("dnn") == 1
        assert repository.serving().unloaded == {"dnn"}
        assert "dnn" not in repository.serving().versions
        assert repository.version("dnn", 1).aliases == (PRODUCTION, UNLOADED)
        repository.load("dnn")
        repository.load("xor")
        assert repository.serving().versions == repository.production()
        with pytest.raises(ConflictError, match="unloaded cannot be set"):
            repository.point("dnn", UNLOADED, 1)
        with pytest.raises(ModelNotFoundError):
            repository.production_of("no\0pe")
