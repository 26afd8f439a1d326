import json
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from perceptd.service.errors import DiskError
from perceptd.service.jobs.claims import CancelledError, Claims
from perceptd.service.jobs.queue import Job, Jobs
from perceptd.service.worker.lease import Lease
from perceptd.service.worker.monitor import (
    MAX_RESULTS,
    KilledError,
    Monitor,
    StalledError,
    StoppingError,
    TimedOutError,
    TrainingFailedError,
)
from perceptd.service.worker.process import Budget
from perceptd.service.worker.recorder import Recorder

pytestmark = pytest.mark.database

SLEEP = "import time; time.sleep(600)"
Run = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def run(job: Job, claims: Claims, stop: threading.Event, tmp_path: Path) -> Run:
    """Run a program as the job's training."""

    def one(program: str, *, max_runtime_s: float = 60, max_silence_s: float = 60) -> object:
        lease = Lease(job, claims, stop, time.monotonic())
        limits = {"max_runtime_s": max_runtime_s, "max_silence_s": max_silence_s}
        monitor = Monitor(lease, Recorder(job), stop, **limits)
        return monitor.run([], tmp_path, Budget(1, 1024, 0), [sys.executable, "-c", program])

    return one  # type: ignore[return-value]


def test_metrics_are_returned_and_public_events_are_stored(run: Run, job: Job, jobs: Jobs) -> None:
    metrics = {"event": "metrics", "accuracy": 0.5}
    assert (
        run(f"for _ in range(200): print('''{json.dumps(metrics)}''')\nprint('a line')")
        == [metrics] * MAX_RESULTS
    )
    assert jobs.events(job.id)[-1].data == {"line": "a line"}


@pytest.mark.parametrize(
    ("program", "error", "text"),
    [
        ("raise SystemExit('Error: the loss is NaN\\n')", TrainingFailedError, "the loss is NaN"),
        ("raise SystemExit(3)", TrainingFailedError, "exit status 3"),
        ("import os; os.kill(os.getpid(), 9)", KilledError, "SIGKILL"),
        ("raise SystemExit(143)", KilledError, "SIGTERM"),
        (f"print('full'); raise SystemExit({os.EX_IOERR})", DiskError, "could not .*: full"),
    ],
)
def test_each_exit_of_a_training_has_its_error(
    run: Run, program: str, error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        run(program)


@pytest.mark.parametrize(
    ("limits", "error"),
    [({"max_silence_s": 0.3}, StalledError), ({"max_runtime_s": 0.3}, TimedOutError)],
)
def test_a_training_over_its_limits_is_stopped(
    run: Run, limits: dict[str, float], error: type[Exception]
) -> None:
    with pytest.raises(error):
        run(SLEEP, **limits)


def test_a_training_is_stopped_with_its_worker_and_with_its_job(
    run: Run, stop: threading.Event, job: Job, jobs: Jobs
) -> None:
    jobs.cancel(job.id)
    with pytest.raises(CancelledError):
        run(SLEEP)
    stop.set()
    with pytest.raises(StoppingError):
        run(SLEEP)
