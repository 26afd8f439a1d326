"""The images and `docker-compose.yml`, built and run by a real engine."""

import io
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
import yaml
from PIL import Image, ImageDraw

from tests.server import free_port
from tests.waiting import eventually

pytestmark = pytest.mark.containers

ROOT = Path(__file__).parent.parent
COMPOSE_FILE = ROOT / "docker-compose.yml"
BUILD_S = 3600
COMMAND_S = 180


@dataclass(frozen=True)
class Stack:
    """The services of `docker-compose.yml` under a project name and on a port of their own."""

    command: tuple[str, ...]
    project: str
    port: int
    prometheus_port: int

    def compose(
        self, *arguments: str, timeout: float = COMMAND_S
    ) -> subprocess.CompletedProcess[str]:
        return run(
            *self.command,
            "--project-name",
            self.project,
            *arguments,
            timeout=timeout,
            PERCEPTD_PORT=str(self.port),
            PROMETHEUS_PORT=str(self.prometheus_port),
        )

    def inside(self, service: str, *command: str) -> str:
        """What a command that must succeed prints in a service's container."""
        return succeeded(self.compose("exec", "-T", service, *command)).stdout.strip()

    def query(self, sql: str) -> str:
        options = ("--username=perceptd", "--dbname=perceptd", "--no-align", "--tuples-only")
        return self.inside("db", "psql", *options, "--quiet", f"--command={sql}")

    def up(self) -> None:
        succeeded(self.compose("up", "--detach"))
        eventually(self.ready, "the api is ready")

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=f"http://127.0.0.1:{self.port}", trust_env=False)

    def ready(self) -> bool:
        try:
            with self.client() as client:
                return client.get("/health/ready").is_success
        except httpx.TransportError:  # not listening yet
            return False

    def versions(self, model: str) -> dict[int, list[str]]:
        """The aliases of each version, as the API tells them."""
        with self.client() as client:
            answer = client.get(f"/models/{model}/versions").raise_for_status().json()
        return {version["version"]: version["aliases"] for version in answer["versions"]}


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    if os.environ.get("PERCEPTD_TEST_CONTAINERS") != "1":
        pytest.skip("builds images for minutes: PERCEPTD_TEST_CONTAINERS=1 asks for it")
    if not (command := compose_command()):
        pytest.skip("no Docker engine answers, or docker-compose is absent")
    stack = Stack(command, f"perceptd-test-{uuid4().hex[:8]}", free_port(), free_port())
    try:
        succeeded(stack.compose("build", timeout=BUILD_S))
        stack.up()
        yield stack
    finally:
        stack.compose("--profile", "observability", "down", "--volumes", "--remove-orphans")


def test_prediction_is_answered_over_the_published_port(stack: Stack) -> None:
    body = {"model": "dnn", "inputs": [[0.1, -0.2], [1.0, 0.3]]}

    with stack.client() as client:
        answer = client.post("/predict", json=body).raise_for_status().json()

    assert [prediction["label"] for prediction in answer["predictions"]] == ["1", "0"]


def test_drawn_digit_is_read(stack: Stack) -> None:
    picture = Image.new("L", (200, 200), "white")
    ImageDraw.Draw(picture).line([(105, 30), (95, 170)], fill="black", width=20)
    file = io.BytesIO()
    picture.save(file, "PNG")

    with stack.client() as client:
        headers = {"Content-Type": "image/png"}
        answer = client.post("/predict/image", content=file.getvalue(), headers=headers)

    assert answer.raise_for_status().json()["predictions"][0]["label"] == "1"


def test_port_is_published_on_loopback_only(stack: Stack) -> None:
    published = succeeded(stack.compose("port", "api", "8000")).stdout

    assert published.strip() == f"127.0.0.1:{stack.port}"


def test_api_becomes_healthy(stack: Stack) -> None:
    container = succeeded(stack.compose("ps", "-q", "api")).stdout.strip()

    def healthy() -> bool:
        state = run("docker", "inspect", "--format={{.State.Health.Status}}", container)
        return succeeded(state).stdout.strip() == "healthy"

    eventually(healthy, "the api is healthy")


@pytest.mark.parametrize("service", ["api", "worker"])
def test_process_is_not_root(stack: Stack, service: str) -> None:
    assert stack.inside(service, "id", "-u") != "0"


@pytest.mark.parametrize("service", ["api", "worker", "db"])
def test_root_file_system_is_read_only(stack: Stack, service: str) -> None:
    attempt = stack.compose("exec", "-T", "--user", "root", service, "touch", "/written")

    assert attempt.returncode != 0
    assert "Read-only file system" in attempt.stdout + attempt.stderr


def test_only_the_worker_has_torch(stack: Stack) -> None:
    attempt = stack.compose("exec", "-T", "api", "python", "-c", "import torch")

    assert "ModuleNotFoundError: No module named 'torch'" in attempt.stderr
    assert stack.inside("worker", "python", "-c", "import torch; print(torch.ones(2).sum())")


def test_versions_come_from_postgresql(stack: Stack) -> None:
    stack.query("INSERT INTO aliases VALUES ('dnn', 'from-sql', 1, now())")

    assert "from-sql" in stack.versions("dnn")[1]
    assert "perceptd.db" not in stack.inside("api", "ls", "/data")


def test_a_job_retrains_promotes_and_is_rolled_back(stack: Stack) -> None:
    headers = {"Authorization": f"Bearer {stack.inside('worker', 'perceptd', 'token')}"}
    body = {"model": "xor", "seed": 7, "gate": "always"}
    question = {"model": "xor", "inputs": [[-1, 1], [1, 1]]}

    with stack.client() as client:
        client.headers.update(headers)
        job = client.post("/jobs", json=body).raise_for_status().json()
        with client.stream("GET", f"/jobs/{job['id']}/events", timeout=300) as events:
            told = [line for line in events.iter_lines() if line.startswith("event: ")]
        job = client.get(f"/jobs/{job['id']}").raise_for_status().json()
        assert (job["status"], job["promotion"]) == ("succeeded", "promoted"), job
        assert told.count("event: epoch") == len(job["curve"]) > 100
        eventually(
            lambda: client.post("/predict", json=question).json()["version"] == 2,
            "version 2 answers",
        )
        labels = [
            row["label"] for row in client.post("/predict", json=question).json()["predictions"]
        ]
        assert labels == ["1", "0"]

    stack.inside("worker", "perceptd", "models", "rollback", "xor")
    assert stack.versions("xor") == {2: ["previous"], 1: ["production"]}


def test_a_worker_that_is_killed_is_started_again_and_its_job_goes_on(stack: Stack) -> None:
    headers = {"Authorization": f"Bearer {stack.inside('worker', 'perceptd', 'token')}"}
    body = {"model": "perceptron", "batch_size": 1, "epochs": 300, "gate": "never"}

    with stack.client() as client:
        client.headers.update(headers)
        number = client.post("/jobs", json=body).raise_for_status().json()["id"]

        def job() -> dict[str, Any]:
            answer: dict[str, Any] = client.get(f"/jobs/{number}").raise_for_status().json()
            return answer

        eventually(lambda: len(job()["curve"]) > 2, "the job trains")
        succeeded(stack.compose("kill", "worker"))
        succeeded(stack.compose("up", "--detach", "worker"))
        eventually(lambda: job()["status"] == "succeeded", "the job ends")
        assert job()["attempts"] == 2
        assert [point["epoch"] for point in job()["curve"]] == list(range(1, 301))


def test_prometheus_watches_the_api_and_its_rules_are_healthy(stack: Stack) -> None:
    """The profile `observability` of docs/observe.md; Grafana beside it shows what this one has."""
    image = yaml.safe_load(COMPOSE_FILE.read_text())["services"]["prometheus"]["image"]
    if run("docker", "image", "inspect", image).returncode:
        pytest.skip(f"the image {image} is not here, and none is downloaded")
    succeeded(stack.compose("--profile", "observability", "up", "--detach", "prometheus"))
    published = succeeded(stack.compose("port", "prometheus", "9090")).stdout.strip()
    assert published == f"127.0.0.1:{stack.prometheus_port}"

    with httpx.Client(base_url=f"http://{published}/api/v1", trust_env=False) as client:

        def asked(path: str, **parameters: str) -> Any:
            try:
                return client.get(path, params=parameters).raise_for_status().json()["data"]
            except httpx.HTTPError:
                return None

        def ready() -> list[str]:
            found = asked("query", query='perceptd_ready{job="perceptd"}') or {"result": []}
            return [series["value"][1] for series in found["result"]]

        def health() -> set[str]:
            groups = (asked("rules") or {"groups": []})["groups"]
            return {rule["health"] for group in groups for rule in group["rules"]}

        eventually(lambda: bool(ready()) and set(ready()) == {"1"}, "Prometheus sees the api")
        eventually(lambda: health() == {"ok"}, "all rules are healthy")
    attempt = stack.compose("exec", "-T", "--user", "root", "prometheus", "touch", "/written")
    assert "Read-only file system" in attempt.stdout + attempt.stderr


def test_new_containers_keep_the_data(stack: Stack) -> None:
    count = "SELECT count(*) FROM versions"
    rows, versions = stack.query(count), stack.versions("dnn")

    succeeded(stack.compose("down"))
    stack.up()

    assert stack.query(count) == rows
    assert stack.versions("dnn") == versions


def run(
    *command: str, timeout: float = COMMAND_S, **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def succeeded(result: subprocess.CompletedProcess[str]) -> subprocess.CompletedProcess[str]:
    if result.returncode:
        output = f"{result.stdout}\n{result.stderr}"
        pytest.fail(f"{' '.join(result.args)}: exit status {result.returncode}\n{output}")
    return result


def compose_command() -> tuple[str, ...] | None:
    """The Compose there is, as a plug-in or a program; None without it or without an engine."""
    if not shutil.which("docker") or run("docker", "version").returncode:
        return None
    if shutil.which("docker-compose"):
        return ("docker-compose",)
    return None if run("docker", "compose", "version").returncode else ("docker", "compose")
