"""Real jobs by two real workers beside a real server: what comes out of each kind."""

import io
import os
import pickle
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch

from perceptd.models import checkpoint
from perceptd.service.auth import credentials
from perceptd.service.client import read_events
from perceptd.service.jobs.events import Event
from perceptd.service.jobs.queue import ENDED
from perceptd.service.settings import Settings
from perceptd.service.store.repository import PRETRAINED
from tests.server import running, workers
from tests.waiting import eventually

WORKERS = 2
CORRECTIONS = [[0.4 + i / 100, -0.4] for i in range(10)]


class Malicious:
    """Unpickled by an incautious reader, it writes a file."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.trace}",)


@dataclass
class Site:
    """A server with workers, the folder of its store, and its jobs by what they are about."""

    client: httpx.Client
    data_dir: Path
    jobs: dict[str, int] = field(default_factory=dict)

    def post(self, about: str, path: str = "/jobs", **request: Any) -> None:
        answer = self.client.post(path, **request)
        assert answer.status_code == 202, answer.text
        self.jobs[about] = answer.json()["id"]

    def job(self, about: str) -> dict[str, Any]:
        """The job once it has ended."""
        self.events(about)
        job: dict[str, Any] = self.client.get(f"/jobs/{self.jobs[about]}").json()
        assert job["status"] in ENDED
        return job

    def events(self, about: str) -> list[Event]:
        """All events of the job: the stream ends with it."""
        with self.client.stream("GET", f"/jobs/{self.jobs[about]}/events") as stream:
            return list(read_events(stream.iter_bytes()))

    def version(self, model: str, number: int) -> dict[str, Any]:
        answer: dict[str, Any] = self.client.get(f"/models/{model}/versions/{number}").json()
        return answer


def state_dict_of(model: str) -> bytes:
    """The weights of a shipped model as a tutorial would save them."""
    weights = checkpoint.read_weights(PRETRAINED / model)
    file = io.BytesIO()
    torch.save({key: torch.from_numpy(value) for key, value in weights.items()}, file)
    return file.getvalue()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """All jobs are asked for at once, and run while the tests wait for theirs."""
    settings = Settings(data_dir=tmp_path_factory.mktemp("data"))
    with ExitStack() as stack:
        client = stack.enter_context(running(settings))
        token = credentials.admin_token(settings).get_secret_value()
        client.headers["Authorization"] = f"Bearer {token}"
        stack.enter_context(workers(settings, WORKERS))
        site = Site(client, settings.data_dir)
        feedback = {"model": "perceptron", "inputs": CORRECTIONS, "labels": ["1"] * 10}
        assert client.post("/feedback", json=feedback).status_code == 201

        site.post("worse", json={"model": "dnn", "recipe": "fast"})
        site.post("always", json={"model": "xor", "recipe": "fast", "gate": "always", "seed": 9})
        site.post(
            "feedback",
            json={"model": "perceptron", "start_from": "production", "include_feedback": True},
        )
        site.post(
            "upload",
            "/models/my-digits/versions",
            files={"file": ("mine.pt", state_dict_of("mnist-mlp"))},
            data={"architecture": "mnist-mlp", "dataset": "digits"},
        )
        trace = settings.data_dir / "executed"
        site.post(
            "malicious",
            "/models/perceptron/versions",
            files={"file": ("evil.pt", pickle.dumps(Malicious(trace)))},
        )
        site.post("too long", json={"model": "mnist-mlp", "dataset": "digits", "max_runtime_s": 1})
        yield site


def test_a_worse_version_is_not_promoted_and_the_reason_has_both_figures(site: Site) -> None:
    job = site.job("worse")

    assert (job["status"], job["promotion"]) == ("succeeded", "refused")
    gate = job["gate"]
    assert gate["metric"] == "accuracy"
    assert gate["candidate"] < gate["production"]
    assert (gate["production_version"], gate["dataset"], gate["rows"]) == (1, "circles", 1000)
    assert job["reason"] == gate["reason"]
    for figure in ("candidate", "production"):
        assert f"{gate[figure]:.4f}" in job["reason"]
    recorded = site.version("dnn", job["version"])["metrics"]["test"]["accuracy"]
    assert gate["candidate"] == pytest.approx(recorded, abs=1e-9)
    assert site.client.get("/models/dnn").json()["version"] == 1


def test_a_promoted_version_serves_within_a_second_and_leads_back_to_its_job(site: Site) -> None:
    job = site.job("always")

    assert (job["status"], job["promotion"]) == ("succeeded", "promoted")
    question = {"model": "xor", "inputs": [[-1, 1], [1, 1]]}

    def serves() -> bool:
        answer = site.client.post("/predict", json=question).json()
        return bool(answer["version"] == job["version"])

    eventually(serves, "the version serves", seconds=1)
    version = site.version("xor", job["version"])
    assert version["job"] == job["id"]
    assert (version["recipe"]["seed"], job["plan"]["seed"]) == (9, 9)
    assert version["dataset"]["name"] == "xor"
    assert version["aliases"] == ["production"]
    assert site.version("xor", 1)["aliases"] == ["previous"]


def test_the_streamed_curve_equals_the_stored_one(site: Site) -> None:
    job = site.job("always")
    kinds = [event.kind for event in site.events("always")]

    assert kinds.count("epoch") == len(job["curve"])
    assert job["curve"] == site.version("xor", job["version"])["curve"]
    assert job["progress"]["epoch"] == job["progress"]["epochs"] == job["plan"]["epochs"]
    assert job["progress"]["seconds_left"] == 0


def test_the_plane_and_its_boundaries_are_streamed_with_the_epochs(site: Site) -> None:
    job = site.job("worse")
    events = site.events("worse")

    (plane,) = [event for event in events if event.kind == "plane"]
    assert plane.number < min(event.number for event in events if event.kind == "epoch")
    assert len(plane.data["points"]) == len(plane.data["targets"]) == 500
    boundaries = [event for event in events if event.kind == "boundary"]
    assert len(boundaries) == 40
    drawn_in = [event.data["epoch"] for event in boundaries]
    assert drawn_in == sorted(set(drawn_in))
    assert (drawn_in[0], drawn_in[-1]) == (1, job["plan"]["epochs"])
    for event in boundaries:
        before = events[event.number - 2]
        assert (before.kind, before.data["epoch"]) == ("epoch", event.data["epoch"])
        assert (event.data["size"], len(event.data["probabilities"])) == (32, 1024)
    # The last one is what the version answers: the disc of class 1 in a ring of class 0.
    middle, corner = boundaries[-1].data["probabilities"][16 * 32 + 16], 0
    assert middle > 200 > 100 > boundaries[-1].data["probabilities"][corner]


def test_an_import_streams_only_its_statuses(site: Site) -> None:
    site.job("upload")
    assert {event.kind for event in site.events("upload")} == {"status"}


def test_a_reproduced_job_gives_the_same_weights(site: Site) -> None:
    original = site.job("always")
    site.post("again", f"/jobs/{original['id']}/reproduce")
    job = site.job("again")

    assert (job["status"], job["promotion"], job["version"]) == ("succeeded", "skipped", None)
    assert job["reason"] == "the weights are the same"  # as docs/retrain.md shows
    expected = site.version("xor", original["version"])["sha256"]
    assert job["reproduction"] == {
        "of": original["id"],
        "same": True,
        "sha256": expected,
        "expected_sha256": expected,
        "same_data": True,
    }
    assert len(site.client.get("/models/xor/versions").json()["versions"]) == 2


def test_corrections_are_trained_on_and_held_out(site: Site) -> None:
    job = site.job("feedback")

    version = site.version("perceptron", job["version"])
    assert version["parent"] == 1
    assert version["dataset"]["name"] == "blobs+feedback"
    assert version["dataset"]["rows"]["feedback"] == len(CORRECTIONS) // 5
    assert job["gate"]["dataset"] == "blobs+feedback"
    assert job["gate"]["rows"] == 1000 + len(CORRECTIONS) // 5


def test_an_uploaded_state_dict_becomes_a_model_that_serves(site: Site) -> None:
    job = site.job("upload")

    assert (job["status"], job["promotion"], job["version"]) == ("succeeded", "promoted", 1)
    assert site.version("my-digits", 1)["metrics"]["test"]["accuracy"] > 0.8
    mine = site.client.get("/models/mnist-mlp").json()["example"]
    eventually(
        lambda: "my-digits" in site.client.get("/health/ready").json()["models"], "it serves"
    )
    answers = [
        site.client.post("/predict_proba", json={**mine, "model": model}).json()["predictions"]
        for model in ("mnist-mlp", "my-digits")
    ]
    assert answers[0] == answers[1]


def test_a_malicious_pickle_is_refused_and_never_runs(site: Site) -> None:
    job = site.job("malicious")

    assert (job["status"], job["code"]) == ("failed", "training_failed")
    assert "only tensors are loaded" in job["reason"]
    assert any("weights.pt" in line for line in job["log"])
    assert str(site.data_dir) not in str(job)
    assert not (site.data_dir / "executed").exists()


def test_a_job_that_runs_too_long_is_ended(site: Site) -> None:
    job = site.job("too long")

    assert (job["status"], job["code"]) == ("failed", "max_runtime_exceeded")
    assert job["runtime_s"] < 30


def test_nothing_is_left_of_jobs_that_have_ended(site: Site) -> None:
    for about in site.jobs:
        site.job(about)
    folder = site.data_dir / "jobs"
    eventually(
        lambda: not [path for path in folder.iterdir() if path.name.isdecimal()],
        "the folders of the jobs are removed",
        seconds=10,
    )
