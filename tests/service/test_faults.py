"""Each process of a retraining is killed at each of its stages, with SIGKILL, on both databases.

Whatever was killed, one version comes out of the job, with the weights of a training that nobody
disturbed, and nothing half-written stays.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest

from models import checkpoint
from service import auth
from service.claims import Claims
from service.commands.common import opened_store
from service.jobs import Job, Jobs
from service.settings import Settings
from tests.server import free_port
from tests.service.staged import IN_TRAINING, IN_WORKER, SELF
from training.state import StateFile

pytestmark = [pytest.mark.database, pytest.mark.faults]

PATIENCE_S = 120
LEASE_S = 2.0
BODY = {
    "model": "dnn",
    "epochs": 6,
    "batch_size": 50,
    "seed": 3,
    "gate": {"min_absolute_change": -1.0},
}
SERVE = (sys.executable, "-P", "-m", "service", "serve")


@pytest.fixture(autouse=True, scope="session")
def asked_for() -> None:
    if os.environ.get("PERCEPTD_TEST_FAULTS") != "1":
        pytest.skip("kills processes for minutes: PERCEPTD_TEST_FAULTS=1 asks for it")


class Site:
    """A store with a server and whatever else a test starts; all of it ends with the test."""

    def __init__(self, settings: Settings, folder: Path, stack: ExitStack) -> None:
        self.settings = settings
        self.folder = folder
        self.port = free_port()
        self._stack = stack
        folder.mkdir()

    def start(self, *command: str, stage: str = "", **more: str) -> "subprocess.Popen[bytes]":
        """Start a process of this store; it is killed when the test ends."""
        environment = {
            **os.environ,
            "PERCEPTD_DATA_DIR": str(self.settings.data_dir),
            "PERCEPTD_PORT": str(self.port),
            "PERCEPTD_PROCESSES": "1",
            "PERCEPTD_LEASE_S": str(LEASE_S),
            "STAGE": stage,
            "STAGE_DIR": str(self.folder),
            **more,
        }
        if self.settings.database_url:
            environment["PERCEPTD_DATABASE_URL"] = self.settings.database_url
        process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE)
        assert process.stdin
        self._stack.callback(process.wait)
        self._stack.callback(process.kill)
        self._stack.callback(process.stdin.close)
        return process

    def serve(self, workers: int = 0) -> "subprocess.Popen[bytes]":
        server = self.start(*SERVE, PERCEPTD_WORKERS=str(workers))
        self.wait_until_ready()
        return server

    def wait_until_ready(self) -> None:
        def ready() -> bool:
            try:
                return self.ask("GET", "/health/ready").is_success
            except httpx.TransportError:
                return False

        eventually(ready)

    def ask(self, method: str, path: str, body: object = None) -> httpx.Response:
        """Ask the server, which may be another by now."""
        token = auth.admin_token(self.settings).get_secret_value()
        return httpx.request(
            method,
            f"http://127.0.0.1:{self.port}{path}",
            json=body,
            headers={"Authorization": f"Bearer {token}"},
            trust_env=False,
        )

    def reached(self) -> tuple[int, int]:
        """The process that has come to its stage, and its parent."""
        marker = self.folder / "reached"
        eventually(marker.exists)
        process, parent = marker.read_text().split()
        return int(process), int(parent)

    def go_on(self) -> None:
        (self.folder / "go").touch()

    def post(self) -> int:
        answer = self.ask("POST", "/jobs", BODY)
        assert answer.status_code == 202, answer.text
        number: int = answer.json()["id"]
        return number

    def ended(self, number: int) -> Job:
        """The job once it has ended."""
        with opened(self.settings) as (jobs, _):
            eventually(lambda: jobs.get(number).ended)
            return jobs.get(number)


@contextmanager
def opened(settings: Settings) -> Iterator[tuple[Jobs, Claims]]:
    with opened_store(settings) as repository:
        engine = repository._engine
        yield Jobs(engine), Claims(engine, "test", LEASE_S, 3)


@pytest.fixture
def site(store_settings: Settings, tmp_path: Path) -> Iterator[Site]:
    with ExitStack() as stack:
        yield Site(store_settings, tmp_path / "stage", stack)


def eventually(check: Callable[[], bool], seconds: float = PATIENCE_S) -> float:
    """Wait until it is so; how long that took."""
    began = time.monotonic()
    while not check():
        if time.monotonic() - began > seconds:
            pytest.fail(f"not so within {seconds:.0f} s")
        time.sleep(0.02)
    return time.monotonic() - began


def is_gone(pid: int) -> bool:
    """Whether a process has ended, be it that nobody has asked for its status."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except FileNotFoundError:
        return True


def kill(*processes: int) -> None:
    for process in processes:
        os.kill(process, signal.SIGKILL)


def assert_one_whole_version(site: Site, number: int, sha256: str) -> None:
    """The statement that every fault must leave true."""
    job = site.ended(number)
    assert (job.status, job.promotion) == ("succeeded", "promoted"), job.reason
    data_dir = site.settings.data_dir
    with opened_store(site.settings) as repository:
        made = [version for version in repository.versions("dnn") if version.job == number]
        assert [version.version for version in made] == [job.version]
        assert made[0].sha256 == sha256
        assert repository.production()["dnn"] == job.version
        assert made[0].aliases == ("production",)
        assert repository.version("dnn", 1).aliases == ("previous",)
        for version in repository.versions("dnn"):
            repository.verified_folder("dnn", version.version)
    versions = {path.name for path in (data_dir / "checkpoints" / "dnn").iterdir()}
    assert versions == {"1", str(job.version)}
    with opened(site.settings) as (jobs, _):
        events = jobs.events(number)
    assert [event.number for event in events] == list(range(1, len(events) + 1))
    epochs = [event.data["epoch"] for event in events if event.kind == "epoch"]
    assert epochs == list(range(1, BODY["epochs"] + 1))  # type: ignore[operator]
    assert events[-1].data["status"] == "succeeded"
    eventually(lambda: list((data_dir / "jobs").iterdir()) == [])


@pytest.fixture(scope="session")
def undisturbed(asked_for: None, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The weights of the same training, run once without a fault."""
    target = tmp_path_factory.mktemp("undisturbed") / "dnn"
    arguments = [
        f"--{name.replace('_', '-')}={BODY[name]}" for name in ("epochs", "batch_size", "seed")
    ]
    command = [sys.executable, "-m", "training", "dnn", *arguments, "--out", str(target)]
    subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert StateFile.beside(target, "").path.exists() is False
    return checkpoint.read(target).weights_sha256


@pytest.mark.parametrize("stage", [*IN_WORKER, *IN_TRAINING])
def test_a_killed_worker_is_replaced_and_its_training_dies_with_it(
    site: Site, stage: str, undisturbed: str
) -> None:
    site.serve()
    worker = site.start(*SELF, "worker", stage=stage)
    number = site.post()
    process, parent = site.reached()
    kill(worker.pid)
    worker.wait()

    if stage in IN_TRAINING:
        assert parent == worker.pid
        assert eventually(lambda: is_gone(process)) < 15  # it is nice, and the machine may be busy
    killed_at = time.monotonic()
    site.start(*SELF, "worker")
    with opened(site.settings) as (jobs, _):
        eventually(lambda: jobs.get(number).attempts == 2)
    assert time.monotonic() - killed_at < LEASE_S + 15
    assert_one_whole_version(site, number, undisturbed)


@pytest.mark.parametrize("stage", IN_TRAINING)
def test_a_killed_training_is_gone_on_with(site: Site, stage: str, undisturbed: str) -> None:
    site.serve()
    site.start(*SELF, "worker", stage=stage)
    number = site.post()
    process, _ = site.reached()
    kill(process)

    assert_one_whole_version(site, number, undisturbed)
    assert site.ended(number).attempts == 2


@pytest.mark.parametrize("stage", ["mid-epoch", "promoting"])
def test_a_killed_server_does_not_disturb_the_job(site: Site, stage: str, undisturbed: str) -> None:
    server = site.serve()
    site.start(*SELF, "worker", stage=stage)
    number = site.post()
    site.reached()
    kill(server.pid)
    server.wait()
    site.go_on()

    assert_one_whole_version(site, number, undisturbed)
    assert site.ended(number).attempts == 1
    site.serve()
    assert site.ask("GET", f"/jobs/{number}").json()["status"] == "succeeded"
    assert site.ask("GET", "/models/dnn").json()["version"] == site.ended(number).version


@pytest.mark.parametrize("stage", [*IN_WORKER, *IN_TRAINING])
def test_all_killed_at_once_go_on_where_they_were(site: Site, stage: str, undisturbed: str) -> None:
    server = site.start(*SELF, "serve", stage=stage, PERCEPTD_WORKERS="1")
    site.wait_until_ready()
    number = site.post()
    process, parent = site.reached()
    kill(server.pid, *([parent, process] if stage in IN_TRAINING else [process]))
    server.wait()

    site.serve(workers=1)
    assert_one_whole_version(site, number, undisturbed)


def test_a_training_that_is_killed_each_time_fails_with_its_reason(site: Site) -> None:
    site.serve()
    site.start(*SELF, "worker", stage="first epoch", PERCEPTD_MAX_ATTEMPTS="1")
    number = site.post()
    process, _ = site.reached()
    kill(process)

    job = site.ended(number)
    assert (job.status, job.code, job.version) == ("failed", "training_killed", None)
    assert "SIGKILL" in str(job.reason)
    with opened_store(site.settings) as repository:
        assert [version.version for version in repository.versions("dnn")] == [1]


def test_a_worker_that_is_lost_each_time_fails_the_job(site: Site) -> None:
    site.serve()
    worker = site.start(*SELF, "worker", stage="mid-epoch")
    number = site.post()
    site.reached()
    kill(worker.pid)
    worker.wait()

    site.start(*SELF, "worker", PERCEPTD_MAX_ATTEMPTS="1")
    job = site.ended(number)
    assert (job.status, job.code) == ("failed", "worker_lost")


def test_a_worker_asked_to_end_hands_its_job_back(site: Site, undisturbed: str) -> None:
    site.serve()
    worker = site.start(*SELF, "worker", stage="mid-epoch")
    number = site.post()
    process, _ = site.reached()
    worker.terminate()
    assert worker.wait(10) == 0
    assert is_gone(process)

    with opened(site.settings) as (jobs, _):
        job = jobs.get(number)
    assert (job.status, job.attempts) == ("queued", 0)
    site.start(*SELF, "worker")
    assert_one_whole_version(site, number, undisturbed)


def test_a_cancelled_job_ends_within_seconds_and_leaves_nothing(site: Site) -> None:
    site.serve()
    site.start(*SELF, "worker", stage="mid-epoch")
    number = site.post()
    process, _ = site.reached()
    asked_at = time.monotonic()
    assert site.ask("POST", f"/jobs/{number}/cancel").json()["status"] == "cancelling"

    assert site.ended(number).status == "cancelled"
    assert time.monotonic() - asked_at < 5
    assert is_gone(process)
    with opened_store(site.settings) as repository:
        assert [version.version for version in repository.versions("dnn")] == [1]
    eventually(lambda: list((site.settings.data_dir / "jobs").iterdir()) == [])
