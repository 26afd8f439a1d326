"""A store and real processes that use it, for tests that kill, stop and starve them."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx

from perceptd.models import checkpoint
from perceptd.service.auth import credentials
from perceptd.service.commands.common import opened_store
from perceptd.service.jobs.claims import Claims
from perceptd.service.jobs.queue import Job, Jobs
from perceptd.service.settings import Settings
from tests.server import free_port
from tests.waiting import PATIENCE_S, eventually

LEASE_S = 2.0
BODY = {
    "model": "dnn",
    "epochs": 6,
    "batch_size": 50,
    "seed": 3,
    "gate": {"min_absolute_change": -1.0},
}
SERVE = (sys.executable, "-P", "-m", "perceptd", "serve")


class Site:
    """A store with a server and all other processes of a test; all end with the test."""

    def __init__(self, settings: Settings, folder: Path, stack: ExitStack) -> None:
        self.settings = settings
        self.folder = folder
        self.port = free_port()
        self.log = folder / "log"  # of all processes
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
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                command, env=environment, stdin=subprocess.PIPE, stdout=log, stderr=log
            )
        assert process.stdin
        self._stack.callback(process.wait)
        self._stack.callback(process.kill)
        self._stack.callback(process.stdin.close)
        return process

    def serve(self, workers: int = 0, **more: str) -> "subprocess.Popen[bytes]":
        server = self.start(*SERVE, PERCEPTD_WORKERS=str(workers), **more)
        self.wait_until_ready()
        return server

    def wait_until_ready(self, path: str = "/health/ready") -> None:
        def ready() -> bool:
            try:
                return self.ask("GET", path).is_success
            except httpx.TransportError:
                return False

        eventually(ready, f"{path} answers", log=self.log)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        headers: Mapping[str, str] | None = None,
        **more: Any,
    ) -> httpx.Response:
        """Send a request to the server, as the admin."""
        token = credentials.admin_token(self.settings).get_secret_value()
        return httpx.request(
            method,
            f"{self.url}{path}",
            json=body,
            headers={"Authorization": f"Bearer {token}", **(headers or {})},
            trust_env=False,
            timeout=PATIENCE_S,
            **more,
        )

    def said(self, words: str) -> int:
        """How often the log contains these words."""
        return self.log.read_text(errors="replace").count(words)

    def reached(self) -> tuple[int, int]:
        """The process that has reached its stage, and its parent."""
        marker = self.folder / "reached"
        eventually(marker.exists, "a process reaches its stage", log=self.log)
        process, parent = marker.read_text().split()
        return int(process), int(parent)

    def go_on(self) -> None:
        (self.folder / "go").touch()

    def post(self, **changes: object) -> int:
        answer = self.ask("POST", "/jobs", {**BODY, **changes})
        assert answer.status_code == 202, answer.text
        number: int = answer.json()["id"]
        return number

    def ended(self, number: int) -> Job:
        """The job, as soon as it has ended."""
        with opened(self.settings) as (jobs, _):
            eventually(lambda: jobs.get(number).ended, f"job {number} ends", log=self.log)
            return jobs.get(number)


@contextmanager
def opened(settings: Settings) -> Iterator[tuple[Jobs, Claims]]:
    with opened_store(settings) as repository:
        engine = repository._engine
        yield Jobs(engine), Claims(engine, "test", LEASE_S, 3)


@contextmanager
def site_of(settings: Settings, folder: Path) -> Iterator[Site]:
    """A site whose processes end with the block."""
    with ExitStack() as stack:
        yield Site(settings, folder, stack)


def state(pid: int) -> str:
    """The kernel's letter for the state of a process."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def is_gone(pid: int) -> bool:
    """Whether a process has ended, even if its parent has not waited for it."""
    try:
        return state(pid) in "ZX"
    except FileNotFoundError:
        return True


def kill(*processes: int) -> None:
    for process in processes:
        os.kill(process, signal.SIGKILL)


def assert_one_whole_version(site: Site, number: int, sha256: str) -> None:
    """What must hold after every fault: one version, whole, promoted and described by events."""
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
    folder = data_dir / "jobs"
    eventually(lambda: list(folder.iterdir()) == [], "the job's files are removed", log=site.log)


def train_undisturbed(folder: Path) -> str:
    """The SHA-256 of the weights of the same training without a fault."""
    target = folder / "dnn"
    arguments = [
        f"--{name.replace('_', '-')}={BODY[name]}" for name in ("epochs", "batch_size", "seed")
    ]
    command = [sys.executable, "-m", "perceptd", "train", "dnn", *arguments]
    command += ["--out", str(target)]
    subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert [*folder.iterdir()] == [target]
    return checkpoint.read(target).weights_sha256
