"""Training processes: their output, their limits, and how they end."""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from perceptd.service.worker.process import (
    LOG_CHARACTERS,
    LOG_LINES,
    Budget,
    TrainingProcess,
)
from tests.service.site import is_gone
from tests.waiting import eventually

BUDGET = Budget(threads=1, memory_mb=1024, nice=7)
Start = Callable[[str], TrainingProcess]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a program in place of a training."""
    with ExitStack() as stack:

        def run(program: str) -> TrainingProcess:
            process = TrainingProcess([], tmp_path, BUDGET, [sys.executable, "-c", program])
            stack.callback(process.close)
            return process

        yield run


def ended(process: TrainingProcess) -> tuple[int, list[dict[str, object]]]:
    """The exit code and all events."""
    said = []
    deadline = time.monotonic() + 60
    while (exit_code := process.poll()) is None:
        assert time.monotonic() < deadline
        said += process.events(0.05)
    return exit_code, said


def test_events_and_lines_are_told_apart_and_none_is_lost(start: Start) -> None:
    process = start(
        "import sys\n"
        'print(\'{"event": "epoch", "epoch": 1}\')\n'
        "print('{\"event\": 5}')\n"
        "print('{broken')\n"
        "print('plain')\n"
        "sys.stdout.buffer.write(b'\\xff\\0\\n')\n"
        "sys.exit(3)\n"
    )
    exit_code, said = ended(process)
    assert exit_code == 3
    assert said[0] == {"event": "epoch", "epoch": 1}
    assert [event.get("line") for event in said[1:]] == ['{"event": 5}', "{broken", "plain", "�"]
    assert list(process.log) == ['{"event": 5}', "{broken", "plain", "�"]


def test_the_last_output_of_a_killed_process_is_read(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    process = start("import os\nprint('almost done')\nos.kill(os.getpid(), 9)")
    assert ended(process)[0] == -signal.SIGKILL
    assert list(process.log) == ["almost done"]


def test_a_flood_of_output_is_read_in_parts_and_only_its_end_is_kept(start: Start) -> None:
    process = start(
        "import sys\nfor i in range(50_000): sys.stdout.write(f'{i} ' + 'x' * 1000 + '\\n')"
    )
    parts = []
    while process.poll() is None:
        parts.append(len(process.events(0.05)))
    assert sum(parts) == 50_000
    assert max(parts) <= 1000
    assert len(process.log) == LOG_LINES
    assert process.log[-1].startswith("49999 ")
    assert len(process.log[-1]) == LOG_CHARACTERS


def test_a_line_that_never_ends_is_cut(start: Start) -> None:
    exit_code, said = ended(start("print('x' * 10_000_000)"))
    assert exit_code == 0
    assert sum(len(str(event["line"])) for event in said) == 10_000_000


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not bound another's memory")
def test_a_process_over_its_memory_budget_fails(start: Start) -> None:
    exit_code, _ = ended(start("bytearray(500 * 2**20)"))
    assert exit_code == 0
    process = start("bytearray(2000 * 2**20)")
    exit_code, _ = ended(process)
    assert exit_code == 1
    assert process.log[-1] == "MemoryError"


def test_a_process_is_nice_and_has_its_threads_but_no_secrets(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PERCEPTD_ADMIN_TOKEN", "PGPASSWORD", "PGPASSFILE"):
        monkeypatch.setenv(name, "not-for-a-training")
    _, said = ended(
        start(
            "import os; print(os.nice(0), os.environ['OMP_NUM_THREADS'], "
            "[name for name in os.environ if name.startswith(('PERCEPTD_', 'PG'))])"
        )
    )
    assert said[0]["line"] == f"{max(BUDGET.nice, os.nice(0))} 1 []"


def test_a_stopped_process_ends_with_its_children_even_if_it_ignores_sigterm(start: Start) -> None:
    process = start(
        "import os, signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    (line,) = process.events(30)
    child = int(line["line"])
    began = time.monotonic()
    process.stop()
    assert time.monotonic() - began < 5
    assert is_gone(process.pid)
    assert eventually(lambda: is_gone(child), "the child ends") < 5


def test_a_child_that_outlives_the_process_does_not_delay_its_end(start: Start) -> None:
    process = start(
        "import subprocess, sys\n"
        "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
    )
    assert ended(process)[0] == 0


def test_a_child_in_another_session_that_holds_the_output_does_not_delay_close(
    start: Start,
) -> None:
    process = start(
        "import subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(20)'],"
        " start_new_session=True)\n"
        "print(child.pid, flush=True)\n"
    )
    (line,) = process.events(30)
    began = time.monotonic()
    process.close()
    assert time.monotonic() - began < 10
    os.kill(int(line["line"]), 9)
