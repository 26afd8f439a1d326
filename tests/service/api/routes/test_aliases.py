"""`PUT /models/{model}/aliases/{alias}`: promotions and rollbacks while the server serves."""

import functools
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from perceptd.service.settings import Settings
from perceptd.service.store import db
from perceptd.service.store.repository import PRETRAINED, Repository
from tests.server import running
from tests.service.admin import TOKENS, as_admin, guarded, problem
from tests.waiting import eventually

DNN = PRETRAINED / "dnn"
BODY = {"model": "dnn", "inputs": [[0.0, 0.0]]}
Serve = Callable[[Settings], httpx.Client]


def add_versions(settings: Settings, count: int) -> None:
    database = db.connect(settings)
    for _ in range(count):
        Repository(database, settings.data_dir).register(DNN)
    database.dispose()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return guarded(tmp_path)


@pytest.fixture
def admin(serve: Serve, settings: Settings) -> httpx.Client:
    """A client of a server whose dnn has versions 1, in production, 2 and 3."""
    client = as_admin(serve(settings))
    add_versions(settings, 2)
    return client


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """Like `admin`, for tests that change nothing."""
    settings = guarded(tmp_path_factory.mktemp("data"))
    with running(settings) as client:
        add_versions(settings, 2)
        yield as_admin(client)


def point(client: httpx.Client, alias: str, version: Any, model: str = "dnn") -> httpx.Response:
    return client.put(f"/models/{model}/aliases/{alias}", json={"version": version})


def aliases(client: httpx.Client) -> dict[str, int]:
    versions = client.get("/models/dnn/versions").json()["versions"]
    return {alias: version["version"] for version in versions for alias in version["aliases"]}


def serving(client: httpx.Client) -> int:
    answer = client.post("/predict", json=BODY)
    assert answer.status_code == 200, answer.text
    version: int = answer.json()["version"]
    return version


def test_a_promoted_version_serves_at_once_and_previous_is_the_one_before(
    admin: httpx.Client,
) -> None:
    assert aliases(admin) == {"production": 1}
    for version, previous in ((2, 1), (3, 2), (3, 2), (2, 3), (1, 2)):
        response = point(admin, "production", version)
        assert response.status_code == 200
        assert (response.json()["version"], response.json()["aliases"]) == (version, ["production"])
        assert serving(admin) == version
        assert admin.get("/models/dnn").json()["version"] == version
        assert aliases(admin) == {"production": version, "previous": previous}


def test_a_custom_alias_moves_without_changing_what_serves(admin: httpx.Client) -> None:
    for version in (3, 2, 2):
        assert point(admin, "canary.eu-1", version).json()["aliases"] == ["canary.eu-1"]
        assert aliases(admin) == {"production": 1, "canary.eu-1": version}
    assert serving(admin) == 1


@pytest.mark.parametrize(
    ("model", "alias", "version", "refusal"),
    [
        ("dnn", "production", 4, (404, "version_not_found")),
        ("dnn", "canary", 4, (404, "version_not_found")),
        ("dnn", "production", 10**30, (404, "version_not_found")),
        ("nope", "production", 1, (404, "model_not_found")),
        ("nope", "canary", 1, (404, "model_not_found")),
        ("no%00pe", "production", 1, (404, "model_not_found")),
        ("dnn", "previous", 2, (409, "conflict")),
        ("dnn", "Canary", 2, (409, "conflict")),
        ("dnn", "a b", 2, (409, "conflict")),
        ("dnn", "-", 2, (409, "conflict")),
        ("dnn", "a%00", 2, (409, "conflict")),
        ("dnn", "a" * 64, 2, (409, "conflict")),
        ("dnn", "production", 0, (422, "invalid_input")),
        ("dnn", "production", -1, (422, "invalid_input")),
        ("dnn", "production", "2", (422, "invalid_input")),
        ("dnn", "production", 2.5, (422, "invalid_input")),
        ("dnn", "production", True, (422, "invalid_input")),
        ("dnn", "production", None, (422, "invalid_input")),
    ],
)
def test_an_invalid_promotion_is_refused(
    shared: httpx.Client, model: str, alias: str, version: Any, refusal: tuple[int, str]
) -> None:
    assert problem(point(shared, alias, version, model)) == refusal
    assert aliases(shared) == {"production": 1}


def test_a_version_may_be_a_float_without_fraction(shared: httpx.Client) -> None:
    assert point(shared, "production", 1.0).status_code == 200
    assert aliases(shared) == {"production": 1}


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"2", b"{}", b'{"version": 2, "force": true}', b'{"version": NaN}']
)
def test_a_body_without_a_version_is_refused_with_an_example(
    shared: httpx.Client, body: bytes
) -> None:
    headers = {"Content-Type": "application/json"}
    response = shared.put("/models/dnn/aliases/production", content=body, headers=headers)
    assert problem(response) == (422, "invalid_input")
    assert response.json()["example"] == {"version": 1}
    assert aliases(shared) == {"production": 1}


def test_a_version_that_cannot_be_loaded_is_refused_and_the_old_one_serves(
    admin: httpx.Client, settings: Settings
) -> None:
    graph = settings.data_dir / "checkpoints/dnn/2/model.onnx"
    whole = graph.read_bytes()
    graph.write_bytes(whole[:100])
    response = point(admin, "production", 2)
    assert problem(response) == (409, "conflict")
    assert "version 2 cannot be loaded" in response.json()["detail"]
    assert aliases(admin) == {"production": 1}
    assert serving(admin) == 1

    graph.write_bytes(whole)
    assert point(admin, "production", 2).status_code == 200
    assert serving(admin) == 2


def test_no_prediction_fails_while_production_changes(admin: httpx.Client) -> None:
    answers: list[tuple[int, int]] = []
    ending = threading.Event()

    def ask() -> None:
        with httpx.Client(base_url=admin.base_url, headers=admin.headers) as client:
            while not ending.is_set():
                response = client.post("/predict", json=BODY)
                answers.append((response.status_code, response.json()["version"]))

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    for version in (2, 3, 1) * 4:
        assert point(admin, "production", version).status_code == 200
        assert serving(admin) == version
    ending.set()
    for thread in threads:
        thread.join()
    assert {status for status, _ in answers} == {200}
    assert {version for _, version in answers} == {1, 2, 3}


def test_concurrent_promotions_leave_one_production_and_one_previous(
    admin: httpx.Client,
) -> None:
    together = threading.Barrier(4, timeout=30)

    def promote(version: int) -> None:
        with httpx.Client(base_url=admin.base_url, headers=admin.headers) as client:
            for _ in range(5):
                together.wait()
                assert point(client, "production", version).status_code == 200

    threads = [threading.Thread(target=promote, args=(n,)) for n in (1, 2, 3, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    now = aliases(admin)
    assert now.keys() == {"production", "previous"}
    assert now["production"] != now["previous"]
    assert serving(admin) == now["production"]


@pytest.mark.database
def test_all_servers_of_a_store_serve_a_promotion_within_a_second(
    serve: Serve, store_settings: Settings
) -> None:
    settings = store_settings.model_copy(update=TOKENS)
    here, there = as_admin(serve(settings)), as_admin(serve(settings))
    add_versions(settings, 1)

    def both_serve(version: int) -> bool:
        return serving(here) == serving(there) == version

    for client, version in ((here, 2), (there, 1)):
        assert point(client, "production", version).status_code == 200
        assert serving(client) == version
        what = f"both servers answer with version {version}"
        eventually(functools.partial(both_serve, version), what, seconds=1.5)
