"""Programs that are kept running; then `perceptd serve` and its worker, with real signals."""

import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Event

import pytest

from perceptd.service import supervisor
from perceptd.service.supervisor import KillChildren, Program, Supervisor
from tests.service.served import Served
from tests.service.site import is_gone
from tests.waiting import eventually

DEAF = "import os, time; os.write(0, b'.'); time.sleep(600)"
LISTENS = "import os; os.read(0, 1)"
TELLS = "import os; os.write(0, b'.'); os.read(0, 1)"
# Notes its process id in a file; fails each time after the first.
ONLY_ONCE = """
import os, sys
first = not os.path.exists("pids")
with open("pids", "a") as pids:
    print(os.getpid(), file=pids)
if not first:
    sys.exit(3)
os.write(0, b".")
os.read(0, 1)
"""


def program(script: str, *, reports_ready: bool = True) -> Program:
    return Program("script", (sys.executable, "-c", script), reports_ready=reports_ready)


def test_all_that_tell_are_waited_for() -> None:
    ended: list[int] = []
    programs = [program(TELLS), program(LISTENS, reports_ready=False), program(TELLS)]
    with Supervisor(programs, os.environ, ended.append) as kept:
        assert kept.wait_until_ready() == 0
    assert len(set(ended)) == 3
    assert all(is_gone(pid) for pid in ended)


@pytest.mark.parametrize("comes", ["in the block", "as it ends"])
def test_a_second_signal_waits_for_nobody_whenever_it_comes(
    comes: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[int] = []

    def end() -> None:
        with Supervisor([program(DEAF)], os.environ, ended.append) as kept:
            assert kept.wait_until_ready() == 0
            if comes == "in the block":
                raise KillChildren(130)

            def interrupted() -> None:
                Event.set(kept._ending)
                raise KillChildren(130)

            monkeypatch.setattr(kept._ending, "set", interrupted)

    began = time.monotonic()
    with pytest.raises(KillChildren):
        end()
    assert time.monotonic() - began < supervisor.END_S
    assert is_gone(ended[0])


def test_one_that_cannot_start_is_not_started_again() -> None:
    with Supervisor([program("raise SystemExit(3)"), program(TELLS)], os.environ) as kept:
        assert kept.wait_until_ready() == 3


def test_one_that_cannot_start_later_is_tried_again_and_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(supervisor, "MIN_PAUSE_S", 0.01)

    def started() -> list[int]:
        return list(map(int, Path("pids").read_text().split()))

    with Supervisor([program(ONLY_ONCE)], os.environ) as kept:
        assert kept.wait_until_ready() == 0
        os.kill(started()[0], signal.SIGKILL)
        eventually(lambda: len(started()) >= 4)


def test_whatever_fails_about_an_end_another_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(supervisor, "MIN_PAUSE_S", 0.01)

    def fails(pid: int) -> None:
        raise ValueError("not to be counted")

    with Supervisor([program(ONLY_ONCE)], os.environ, fails) as kept:
        assert kept.wait_until_ready() == 0
        os.kill(int(Path("pids").read_text()), signal.SIGKILL)
        eventually(lambda: len(Path("pids").read_text().split()) >= 3)
    assert "not to be counted" in caplog.text


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    served = Served(tmp_path, PERCEPTD_PROCESSES="1", PERCEPTD_WORKERS="1")
    yield served
    served.end()


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
