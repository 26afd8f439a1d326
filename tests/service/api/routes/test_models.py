import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from perceptd.models import registry
from perceptd.models.checkpoint import BOUNDARY_DATA, META
from perceptd.service.commands.common import opened_store
from perceptd.service.schemas.models import PlaneData
from perceptd.service.settings import Settings
from perceptd.service.store.repository import PRETRAINED, shipped
from tests.service.admin import problem

PICTURES = {
    "perceptron": {"loss", "boundary"},
    "dnn": {"loss", "boundary"},
    "xor": {"loss", "boundary"},
    "mnist-mlp": {"loss", "predictions"},
    "mnist-cnn": {"loss", "predictions"},
}


def test_every_model_says_what_it_takes_and_how_good_it_is(client: httpx.Client) -> None:
    answer = client.get("/models").json()
    assert {model["name"] for model in answer["models"]} == set(registry.BUILT_IN)
    assert answer["failures"] == {}
    for model in answer["models"]:
        assert model == client.get(f"/models/{model['name']}").json()
        assert (model["version"], model["device"], model["runtime"]) == (1, "cpu", "onnx")
        assert 0.9 < model["metrics"]["test"]["accuracy"] <= 1
        assert model["max_rows"] == 1024


def test_a_request_may_carry_as_many_rows_as_the_model_says(
    serve: Callable[[Settings], httpx.Client], tmp_path: Path
) -> None:
    client = serve(Settings(data_dir=tmp_path, max_rows=3))
    most = client.get("/models/dnn").json()["max_rows"]
    assert most == client.get("/models").json()["models"][0]["max_rows"] == 3
    for rows, status in ((most, 200), (most + 1, 422)):
        body = {"model": "dnn", "inputs": [[0, 0]] * rows}
        assert client.post("/predict", json=body).status_code == status


@pytest.mark.parametrize("model", registry.BUILT_IN)
def test_a_version_leads_to_its_weights_recipe_seed_and_data(
    client: httpx.Client, model: str
) -> None:
    (listed,) = client.get(f"/models/{model}/versions").json()["versions"]
    version = client.get(f"/models/{model}/versions/1").json()

    assert listed.items() <= version.items()
    assert version["aliases"] == ["production"]
    weights = (PRETRAINED / model / "model.safetensors").read_bytes()
    assert version["sha256"] == hashlib.sha256(weights).hexdigest()
    assert isinstance(version["recipe"]["seed"], int)
    assert len(version["dataset"]["sha256"]) == 64
    assert version["curve"][-1]["epoch"] == version["recipe"]["epochs"]
    assert version["libraries"]["torch"]


@pytest.mark.parametrize("model", registry.BUILT_IN)
def test_the_pictures_of_a_version_are_served(client: httpx.Client, model: str) -> None:
    urls = client.get(f"/models/{model}/versions/1").json()["plots"]
    assert {url.rpartition("/")[2].partition(".")[0] for url in urls} == PICTURES[model]
    for url in urls:
        response = client.get(url)
        assert response.status_code == 200
        if url.endswith(".json"):
            assert response.headers["content-type"] == "application/json"
            PlaneData.model_validate(response.json())
        elif url.endswith(".svg"):
            assert response.headers["content-type"].startswith("image/svg+xml")
            assert b"<svg" in response.content
        else:
            assert response.headers["content-type"] == "image/png"
            assert response.content.startswith(b"\x89PNG")


BOUNDARY = {"x": [-1.5, 1.5], "y": [-1, 1.25], "points": [[0.5, -1], [1, 0.25]], "targets": [0, 1]}


def with_points(folder: Path) -> Path:
    """A copy of the dnn checkpoint that has the points of its boundary."""
    shutil.copytree(PRETRAINED / "dnn", folder)
    (folder / BOUNDARY_DATA).write_text(json.dumps(BOUNDARY))
    meta = json.loads((folder / META).read_bytes())
    digest = hashlib.sha256((folder / BOUNDARY_DATA).read_bytes()).hexdigest()
    meta["files"][BOUNDARY_DATA] = digest
    (folder / META).write_text(json.dumps(meta))
    return folder


def test_the_points_of_a_boundary_are_served_as_data(
    serve: Callable[[Settings], httpx.Client], tmp_path: Path
) -> None:
    settings = Settings(data_dir=tmp_path / "data")
    with opened_store(settings) as repository:
        repository.register(with_points(tmp_path / "dnn"))
    client = serve(settings)
    url = "/models/dnn/versions/2/plots/boundary.json"
    assert url in client.get("/models/dnn/versions/2").json()["plots"]
    response = client.get(url)
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.json() == BOUNDARY
    assert PlaneData.model_validate(BOUNDARY)

    (settings.data_dir / "checkpoints/dnn/2" / BOUNDARY_DATA).write_text("{}")
    assert problem(client.get(url)) == (503, "store_unavailable")


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/models/nope", 404, "model_not_found"),
        ("/models/%00/versions", 404, "model_not_found"),
        ("/models/nope/versions", 404, "model_not_found"),
        ("/models/nope/versions/1", 404, "model_not_found"),
        ("/models/dnn/versions/2", 404, "version_not_found"),
        ("/models/dnn/versions/0", 422, "invalid_input"),
        ("/models/dnn/versions/one", 422, "invalid_input"),
        ("/models/dnn/versions/99999999999999999999", 404, "version_not_found"),
        ("/models/dnn/versions/1/plots/predictions.svg", 404, "plot_not_found"),
        ("/models/mnist-cnn/versions/1/plots/boundary.json", 404, "plot_not_found"),
        ("/models/nope/versions/1/plots/boundary.json", 404, "model_not_found"),
        ("/models/dnn/versions/2/plots/boundary.json", 404, "version_not_found"),
        ("/models/dnn/versions/0/plots/boundary.json", 422, "invalid_input"),
        ("/models/dnn/versions/1/plots/meta.svg", 422, "invalid_input"),
        ("/models/dnn/versions/1/plots/loss.json", 422, "invalid_input"),
        ("/models/dnn/versions/1/plots/..%2Fmeta.json", 404, "not_found"),
        ("/models/..%2F..%2Fetc/versions", 404, "not_found"),
        ("/nope", 404, "not_found"),
    ],
)
def test_what_is_not_there_is_told(client: httpx.Client, path: str, status: int, code: str) -> None:
    response = client.get(path)
    assert (response.status_code, response.json()["code"]) == (status, code), response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["detail"]


def test_a_picture_altered_on_disk_is_not_served(
    serve: Callable[[Settings], httpx.Client], tmp_path: Path
) -> None:
    client = serve(Settings(data_dir=tmp_path))
    plots = tmp_path / "checkpoints/dnn/1/plots"
    (plots / "loss.svg").write_text("<svg><script>alert(1)</script></svg>")
    (plots / "loss.png").unlink()
    for extension in ("svg", "png"):
        response = client.get(f"/models/dnn/versions/1/plots/loss.{extension}")
        assert (response.status_code, response.json()["code"]) == (503, "store_unavailable")


def test_a_wrong_method_is_told(client: httpx.Client) -> None:
    response = client.get("/predict")
    assert (response.status_code, response.json()["code"]) == (405, "method_not_allowed")
    assert response.headers["allow"] == "POST"


def test_shipped_checkpoints_are_small() -> None:
    size = sum(path.stat().st_size for path in PRETRAINED.rglob("*") if path.is_file())
    assert size < 2_000_000
    assert [folder.name for folder in shipped()] == sorted(registry.BUILT_IN)
