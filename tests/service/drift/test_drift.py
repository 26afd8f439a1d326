"""Drift on real servers: the answer of `GET /models/{model}/drift`, and its metrics."""

import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from perceptd.models.checkpoint import META, read
from perceptd.service.commands.common import opened_store
from perceptd.service.drift import monitor
from perceptd.service.drift.drift import Drift
from perceptd.service.drift.monitor import BLOCK_ROWS
from perceptd.service.settings import Settings
from perceptd.service.store.repository import PRETRAINED
from perceptd.service.telemetry.metrics import FOLDER
from perceptd.training.data import datasets
from tests.service.admin import TOKENS, as_admin, problem
from tests.service.served import Served
from tests.service.telemetry.test_metrics import scrape
from tests.waiting import eventually

Points = NDArray[np.float32]  # (N, 2)
Serve = Callable[[Settings], httpx.Client]
REQUEST_ROWS = 32  # all of them are counted
DNN = ("dnn", "1")


@pytest.fixture(scope="module")
def points() -> Points:
    """960 test points of the dnn's dataset."""
    return datasets.circles(read(PRETRAINED / "dnn").spec, Path()).test.inputs[: 30 * REQUEST_ROWS]


def send(client: httpx.Client, inputs: Points, model: str = "dnn") -> list[int]:
    """The statuses of requests of `REQUEST_ROWS` rows each."""
    return [
        client.post("/predict", json={"model": model, "inputs": turn.tolist()}).status_code
        for turn in np.split(inputs, len(inputs) // REQUEST_ROWS)
    ]


def drift(client: httpx.Client, model: str = "dnn", **query: int) -> dict[str, Any]:
    answer: dict[str, Any] = (
        client.get(f"/models/{model}/drift", params=query).raise_for_status().json()
    )
    return answer


def drift_metrics(client: httpx.Client) -> dict[tuple[str, ...], float]:
    return {key: value for key, value in scrape(client).items() if "drift_" in key[0]}


@pytest.fixture
def whole_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows are counted when a block is full, never by the clock."""
    monkeypatch.setattr(monitor, "FLUSH_S", 3600.0)


@pytest.mark.usefixtures("whole_blocks")
def test_drift_is_reported_from_when_inputs_change_until_they_are_usual_again(
    serve: Serve, tmp_path: Path, points: Points
) -> None:
    client = serve(Settings(data_dir=tmp_path, drift_window=8 * BLOCK_ROWS))
    start = drift(client)
    assert (start["verdict"], start["rows"], start["window"]) == ("collecting", 0, 8 * BLOCK_ROWS)
    assert start["hint"] == "200 more rows are needed"
    assert drift_metrics(client) == {}

    send(client, points[:BLOCK_ROWS])
    first = drift_metrics(client)
    assert first[("perceptd_drift_rows", *DNN)] == BLOCK_ROWS
    assert first[("perceptd_drift_detected", *DNN)] == 0

    send(client, points[BLOCK_ROWS:])
    before = drift(client)
    assert (before["verdict"], before["rows"]) == ("stable", len(points) // BLOCK_ROWS * BLOCK_ROWS)
    assert before["since"] > start["since"]
    for feature in before["features"]:
        assert 0 <= feature["psi"] < feature["threshold"]
        assert not feature["drifted"]
        assert len(feature["expected"]) == len(feature["observed"]) == len(feature["edges"]) + 1
        assert sum(feature["observed"]) == pytest.approx(1)

    send(client, points + np.array([0, 3], dtype=np.float32))
    after = drift(client)
    assert after["verdict"] == "drifted"
    assert after["since"] > before["since"]
    assert after["hint"] == "x[1]: the inputs are not like those of the training"
    psi = {feature["name"]: feature["psi"] for feature in after["features"]}
    assert psi["x[1]"] > 2 > 0.2 > psi["x[0]"]
    assert drift_metrics(client) == {
        ("perceptd_drift_detected", *DNN): 1,
        ("perceptd_drift_rows", *DNN): after["rows"],
        ("perceptd_input_drift_psi", "x[0]", *DNN): pytest.approx(psi["x[0]"]),
        ("perceptd_input_drift_psi", "x[1]", *DNN): pytest.approx(psi["x[1]"]),
        ("perceptd_prediction_drift_psi", *DNN): pytest.approx(after["predictions"]["psi"]),
    }

    for _ in range(2):
        send(client, points)
    assert drift(client)["verdict"] == "stable"
    assert drift(client)["rows"] == 8 * BLOCK_ROWS


def clouds(signs: NDArray[np.int64]) -> Points:
    """Points of the xor's distribution, around the given corners, (N, 2)."""
    noise = np.random.default_rng(0).normal(0, 0.3, signs.shape)
    return (signs + noise).astype(np.float32)


@pytest.mark.usefixtures("whole_blocks")
def test_a_shift_of_the_predicted_classes_alone_is_reported_but_no_drift(
    serve: Serve, tmp_path: Path
) -> None:
    client = serve(Settings(data_dir=tmp_path))
    same = np.repeat(np.where(np.arange(960) % 2, 1, -1), 2).reshape(-1, 2)
    send(client, clouds(same), "xor")
    found = drift(client, "xor")
    assert found["verdict"] == "stable"
    assert found["predictions"]["drifted"]
    assert found["predictions"]["observed"]["0"] > 0.95


def test_rows_that_overflow_are_not_counted(serve: Serve, tmp_path: Path) -> None:
    client = serve(Settings(data_dir=tmp_path))
    points = clouds(np.random.default_rng(1).choice([-1, 1], (960, 2)))
    points[::REQUEST_ROWS] = 3e38
    assert set(send(client, points, "xor")) == {422}
    usable = 30 * (REQUEST_ROWS - 1)
    eventually(lambda: drift(client, "xor")["rows"] == usable, "all other rows are counted")
    found = drift(client, "xor")
    assert found["verdict"] == "stable"
    assert max(feature["psi"] for feature in found["features"]) < 0.5


def without_reference(folder: Path) -> Path:
    """The shipped xor as earlier releases wrote it."""
    shutil.copytree(PRETRAINED / "xor", folder)
    meta = json.loads((folder / META).read_text())
    del meta["drift"]
    (folder / META).write_text(json.dumps(meta))
    return folder


@pytest.mark.usefixtures("whole_blocks")
def test_versions_are_counted_apart_and_a_version_without_a_reference_says_so(
    serve: Serve, tmp_path: Path, points: Points
) -> None:
    settings = Settings(data_dir=tmp_path / "data", admin_token=TOKENS["admin_token"])
    with opened_store(settings) as repository:
        repository.register(PRETRAINED / "dnn")
        repository.register(without_reference(tmp_path / "old"), promote=True)
    client = as_admin(serve(settings))
    send(client, points + np.float32(3))
    assert drift(client)["verdict"] == "drifted"

    client.put("/models/dnn/aliases/production", json={"version": 2}).raise_for_status()
    found = drift(client)
    assert (found["version"], found["verdict"], found["rows"]) == (2, "collecting", 0)
    assert drift(client, version=1)["verdict"] == "drifted"

    assert set(send(client, points, "xor")) == {200}
    old = drift(client, "xor")
    assert (old["version"], old["verdict"], old["since"]) == (2, "no_reference", None)
    assert "drift-reference" in old["hint"]
    assert (old["rows"], old["features"], old["predictions"]) == (0, [], None)
    assert {key[-2:] for key in drift_metrics(client)} == {DNN}


def test_without_the_setting_nothing_is_measured(
    serve: Serve, tmp_path: Path, points: Points
) -> None:
    client = serve(Settings(data_dir=tmp_path, drift=False))
    send(client, points + np.float32(3))
    assert drift(client)["verdict"] == "off"
    assert drift_metrics(client) == {}


def test_unknown_models_and_versions_are_errors(client: httpx.Client) -> None:
    assert problem(client.get("/models/no/drift")) == (404, "model_not_found")
    assert problem(client.get("/models/dnn/drift?version=7")) == (404, "version_not_found")
    assert problem(client.get("/models/dnn/drift?version=0")) == (422, "invalid_input")


def test_a_version_whose_counts_cannot_be_stored_serves_and_says_so(
    serve: Serve, tmp_path: Path, points: Points, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(FOLDER, str(tmp_path / "gone"))
    client = serve(Settings(data_dir=tmp_path / "data"))
    assert set(send(client, points)) == {200}
    found = drift(client)
    assert (found["verdict"], found["since"], found["rows"]) == ("failed", None, 0)
    assert "could not be stored" in found["hint"]


def files_open() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.parametrize("is_shared", [False, True])
def test_the_counts_of_a_dropped_version_are_closed_after_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_shared: bool
) -> None:
    if is_shared:
        monkeypatch.setenv(FOLDER, str(tmp_path))
    meta = read(PRETRAINED / "dnn")
    mine, other = (Drift(Settings(data_dir=tmp_path)) for _ in range(2))
    before = files_open()
    monitors = [mine.observers("dnn", version, meta) for version in range(1, 6)]

    def count_row(version: int) -> None:
        watched = mine.find("dnn", version)
        assert watched
        no_counts = np.zeros(watched.bins.size)
        watched.store.update(lambda window: window.add(no_counts, 1, 4000, time.time()))

    for version in range(1, 6):
        count_row(version)

    def known(drift: Drift) -> list[int]:
        return sorted(watched.key[1] for watched in drift.all_versions())

    assert known(mine) == [1, 2, 3, 4, 5]
    assert known(other) == ([1, 2, 3, 4, 5] if is_shared else [])
    del monitors[1:]
    assert known(mine) == [1, 2, 3, 4, 5]  # they had requests recently
    monkeypatch.setattr("perceptd.service.drift.drift.RECENT_S", 0.0)
    for _ in range(2):
        assert known(mine) == [1]
        assert known(other) == []
        assert files_open() - before == is_shared
    assert mine.find("dnn", 2) is None


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    served = Served(tmp_path, PERCEPTD_PROCESSES="2", PERCEPTD_WORKERS="0")
    yield served
    served.end()


@pytest.mark.reliability
def test_processes_share_their_counts_which_survive_a_kill(served: Served, points: Points) -> None:
    url = served.url

    def ask(inputs: Points) -> None:
        """A connection per request, so that every process gets some."""
        for turn in np.split(inputs, len(inputs) // REQUEST_ROWS):
            body = {"model": "dnn", "inputs": turn.tolist()}
            httpx.post(f"{url}/predict", json=body, timeout=60).raise_for_status()

    def answers() -> set[tuple[str, int, float]]:
        """Of several connections, so of both processes."""
        found = set()
        for _ in range(8):
            with httpx.Client(base_url=url, timeout=60) as client:
                one = drift(client)
                found.add(
                    (
                        one["verdict"],
                        one["rows"],
                        drift_metrics(client)["perceptd_drift_rows", *DNN],
                    )
                )
        return found

    ask(points)
    eventually(lambda: answers() == {("stable", 960, 960)}, "all rows are counted", log=served.log)
    os.kill(served.server(1), signal.SIGKILL)
    ask(points + np.float32(3))
    eventually(lambda: answers() == {("drifted", 1920, 1920)}, "drift is seen", log=served.log)
    served.server(3)
    assert answers() == {("drifted", 1920, 1920)}
