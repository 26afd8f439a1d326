"""`perceptd serve` and the worker beside it, as real processes that get real signals."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server import free_port
from tests.service.test_faults import eventually, is_gone

TAKES_JOBS = re.compile(r"worker [^ :]*:(\d+):\w+ takes jobs")


class Served:
    """A running `perceptd serve` with one worker, and what it says."""

    def __init__(self, folder: Path) -> None:
        self.log = folder / "log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "service", "serve"],
                env={
                    **os.environ,
                    "PERCEPTD_DATA_DIR": str(folder / "data"),
                    "PERCEPTD_PORT": str(free_port()),
                    "PERCEPTD_WORKERS": "1",
                },
                stdout=log,
                stderr=log,
            )

    def worker(self, number: int) -> int:
        """The process id of its first, second, ... worker, once that takes jobs."""
        eventually(lambda: len(self.workers()) >= number)
        return self.workers()[number - 1]

    def workers(self) -> list[int]:
        return [int(pid) for pid in TAKES_JOBS.findall(self.log.read_text())]


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    served = Served(tmp_path)
    yield served
    served.process.kill()
    served.process.wait()
    for worker in served.workers():
        eventually(lambda worker=worker: is_gone(worker))  # type: ignore[misc]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_server_that_is_asked_to_end_takes_its_worker_along(
    served: Served, number: signal.Signals
) -> None:
    worker = served.worker(1)
    served.process.send_signal(number)
    assert served.process.wait(20) == 0
    assert is_gone(worker)
    assert "Traceback" not in served.log.read_text()


def test_a_killed_server_leaves_no_worker_behind(served: Served) -> None:
    worker = served.worker(1)
    served.process.kill()
    assert eventually(lambda: is_gone(worker)) < 15


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_worker_that_ends_is_followed_by_another(served: Served, number: signal.Signals) -> None:
    first = served.worker(1)
    os.kill(first, number)
    second = served.worker(2)
    assert second != first
    ended = 0 if number == signal.SIGTERM else -number
    assert f"a worker ended ({ended})" in served.log.read_text()
    assert served.process.poll() is None
