"""The supervisor with small programs; then `perceptd serve` and its worker, with real signals."""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from perceptd.service import supervisor
from perceptd.service.supervisor import KillChildren, Program, Supervisor
from tests.service.served import Served
from tests.service.site import is_gone
from tests.waiting import eventually

DEAF = "import os, time; os.write(0, b'.'); time.sleep(600)"
LISTENS = "import os; os.read(0, 1)"
REPORTS = "import os; os.write(0, b'.'); os.read(0, 1)"
# Writes its process id to a file; fails each time but the first.
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


def test_all_programs_that_report_are_waited_for() -> None:
    ended: list[int] = []
    programs = [program(REPORTS), program(LISTENS, reports_ready=False), program(REPORTS)]
    with Supervisor(programs, os.environ, ended.append) as kept:
        assert kept.wait_until_ready() == 0
    assert len(set(ended)) == 3
    assert all(is_gone(pid) for pid in ended)


@pytest.fixture
def second_signal() -> Iterator[signal.Signals]:
    """A signal that is handled as a server handles its second one."""

    def kill_children(*_: object) -> None:
        raise KillChildren(130)

    before = signal.signal(signal.SIGALRM, kill_children)
    yield signal.SIGALRM
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("after_s", [0, 0.2], ids=["in the block", "while it ends"])
def test_a_second_signal_kills_the_programs(second_signal: signal.Signals, after_s: float) -> None:
    ended: list[int] = []

    def run() -> None:
        with Supervisor([program(DEAF)], os.environ, ended.append) as kept:
            assert kept.wait_until_ready() == 0
            if not after_s:
                signal.raise_signal(second_signal)
            signal.setitimer(signal.ITIMER_REAL, after_s)

    began = time.monotonic()
    with pytest.raises(KillChildren):
        run()
    assert time.monotonic() - began < supervisor.END_S
    assert is_gone(ended[0])


def test_a_program_that_cannot_start_is_not_restarted() -> None:
    with Supervisor([program("raise SystemExit(3)"), program(REPORTS)], os.environ) as kept:
        assert kept.wait_until_ready() == 3


def fails(pid: int) -> None:
    raise ValueError("on_end failed")


@pytest.mark.parametrize("on_end", [lambda pid: None, fails], ids=["on_end", "on_end that fails"])
def test_a_program_that_once_started_is_restarted_again_and_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, on_end: Callable[[int], object]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(supervisor, "MIN_PAUSE_S", 0.01)

    def started() -> list[int]:
        return list(map(int, Path("pids").read_text().split()))

    with Supervisor([program(ONLY_ONCE)], os.environ, on_end) as kept:
        assert kept.wait_until_ready() == 0
        os.kill(started()[0], signal.SIGKILL)
        eventually(lambda: len(started()) >= 4, "the program is restarted three times")


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    served = Served(tmp_path, PERCEPTD_PROCESSES="1", PERCEPTD_WORKERS="1")
    yield served
    served.end()


@pytest.mark.faults
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_server_ends_with_its_worker(served: Served, number: signal.Signals) -> None:
    worker = served.worker(1)
    served.process.send_signal(number)
    assert served.process.wait(20) == 0
    assert is_gone(worker)
    assert "Traceback" not in served.log.read_text()


@pytest.mark.faults
def test_a_killed_server_leaves_no_worker_behind(served: Served) -> None:
    worker = served.worker(1)
    served.process.kill()
    assert served.eventually(lambda: is_gone(worker), "the worker ends") < 15


@pytest.mark.faults
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_worker_that_ends_is_replaced(served: Served, number: signal.Signals) -> None:
    first = served.worker(1)
    os.kill(first, number)
    second = served.worker(2)
    assert second != first
    ended = 0 if number == signal.SIGTERM else -number
    assert f"a worker ended ({ended})" in served.log.read_text()
    assert served.process.poll() is None
