from pathlib import Path

import httpx

from perceptd.models import registry
from perceptd.service.settings import Settings
from perceptd.service.store import db
from perceptd.service.store.repository import Repository
from tests.server import running


def test_ready_names_the_production_version_of_every_model(client: httpx.Client) -> None:
    response = client.get("/health/ready")
    assert response.status_code == 200
    assert response.json() == {
        "status": "ready",
        "models": dict.fromkeys(sorted(registry.BUILT_IN), 1),
    }


def test_a_store_without_any_model_is_not_ready(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    database = db.connect(settings)
    repository = Repository(database, tmp_path)
    repository.prepare()
    for model in registry.BUILT_IN:
        repository.unload(model)
    database.dispose()
    with running(settings) as client:
        response = client.get("/health/ready")
        assert response.status_code == 503
        assert response.json()["code"] == "model_unavailable"
        assert response.json()["detail"] == "no model is loaded"
        assert client.get("/health/live").status_code == 200


def test_live_answers(client: httpx.Client) -> None:
    assert client.get("/health/live").json() == {"status": "live"}
