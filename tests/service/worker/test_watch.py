"""What a training says, as the job's events keep it: in order, checked, each once."""

import itertools
import json
import logging
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, text

from perceptd.service.errors import StoreError
from perceptd.service.jobs.claims import Claims
from perceptd.service.jobs.queue import Jobs
from perceptd.service.worker import watch as watching
from perceptd.service.worker.process import LOG_CHARACTERS, Budget
from perceptd.service.worker.watch import Watch

pytestmark = pytest.mark.database

EPOCH = {"event": "epoch", "epoch": 1, "epochs": 9, "loss": 0.5, "test_loss": 0.6}
EPOCH |= {"test_accuracy": 0.7, "seconds": 0.1, "seconds_left": 0.2}
PLANE = {"event": "plane", "x": [-1.5, 2], "y": [0, 1], "points": [[0.5, 1]], "targets": [1]}
BOUNDARY = {"event": "boundary", "epoch": 1, "size": 2, "probabilities": [0, 128, 255, 1]}

Told = list[tuple[str, dict[str, Any]]]
Tell = Callable[..., Told]


@pytest.fixture
def watched(jobs: Jobs, database: Engine) -> Callable[[], Watch]:
    """A new watch over one claimed job."""
    job = jobs.submit("train", "dnn", {"model": "dnn"}, {"architecture": "dnn"})
    claims = Claims(database, "a worker", lease_s=600, max_attempts=3)
    claimed = claims.claim()
    assert claimed

    return lambda: Watch(
        jobs.get(job.id),
        claims,
        threading.Event(),
        max_runtime_s=60,
        max_silence_s=60,
        claimed_at=time.monotonic(),
    )


@pytest.fixture
def tell(watched: Callable[[], Watch], jobs: Jobs, tmp_path: Path) -> Tell:
    """Let a training of a job say these events; those that are kept of it."""

    def run(*said: dict[str, Any]) -> Told:
        watch = watched()
        (tmp_path / "said").write_text("".join(json.dumps(event) + "\n" for event in said))
        program = [sys.executable, "-c", "print(open('said').read(), end='')"]
        assert watch.run([], tmp_path, Budget(1, 1024, 0), program) == []
        return [(event.kind, event.data) for event in jobs.events(watch.job.id, after=2)]

    return run


def kept(event: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    return event["event"], {name: value for name, value in event.items() if name != "event"}


def after(epoch: int) -> list[dict[str, Any]]:
    return [{**EPOCH, "epoch": epoch}, {**BOUNDARY, "epoch": epoch}]


def test_what_is_drawn_is_kept_in_order_with_the_epochs(tell: Tell) -> None:
    said = [PLANE, *after(1), EPOCH | {"epoch": 2}, *after(3)]

    assert tell({"event": "started"}, *said) == [kept(event) for event in said]


def test_training_that_is_gone_on_with_tells_nothing_twice(tell: Tell) -> None:
    first = [PLANE, *after(1), *after(4), *after(6)]
    again = [PLANE, *after(1)[:1], *after(4), *after(6), *after(9)]

    tell(*first)

    assert tell(*again) == [kept(event) for event in (*first, *after(9))]


NONSENSE: list[dict[str, Any]] = [
    {"event": "plane"},
    {**PLANE, "x": [1, 1]},
    {**PLANE, "y": [2, 1]},
    {**PLANE, "x": [0, float("nan")]},
    {**PLANE, "y": [0, float("inf")]},
    {**PLANE, "x": [0, 1, 2]},
    {**PLANE, "targets": []},
    {**PLANE, "targets": [2]},
    {**PLANE, "points": [[0.5]]},
    {**PLANE, "points": [[0.5, None]]},
    {**PLANE, "points": [[0, 0]] * 501, "targets": [0] * 501},
    {"event": "boundary"},
    {**BOUNDARY, "epoch": 0},
    {**BOUNDARY, "epoch": 10**30},
    {**BOUNDARY, "size": 1, "probabilities": [0]},
    {**BOUNDARY, "size": 65, "probabilities": [0] * 65**2},
    {**BOUNDARY, "size": 3},
    {**BOUNDARY, "probabilities": [0, 1, 2, 256]},
    {**BOUNDARY, "probabilities": [0, 1, 2, -1]},
    {**BOUNDARY, "probabilities": [0, 1, 2, 0.5]},
    {**BOUNDARY, "probabilities": "0123"},
]


def test_nonsense_is_logged_in_short_and_nothing_is_kept_of_it(
    tell: Tell, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "perceptd.worker"):
        assert tell(*NONSENSE, PLANE, *after(1)) == [kept(event) for event in (PLANE, *after(1))]

    assert len(caplog.messages) == len(NONSENSE)
    assert all("an event that is none" in message for message in caplog.messages)
    assert max(map(len, caplog.messages)) < LOG_CHARACTERS + 50


@pytest.mark.parametrize("size", [2, 64])
def test_grids_of_any_size_between_are_kept(tell: Tell, size: int) -> None:
    event = {**BOUNDARY, "size": size, "probabilities": [255] * size**2}

    assert tell(event) == [kept(event)]


def test_a_database_that_is_away_is_asked_ever_less_often_and_told_of_once(
    watched: Callable[[], Watch], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(watching, "RETRY_S", 0.02)
    monkeypatch.setattr(watching, "MAX_RETRY_S", 0.08)
    asked: list[float] = []

    def write() -> str:
        asked.append(time.monotonic())
        if len(asked) < 6:
            raise StoreError("away")
        return "written"

    assert watched().persist(write) == "written"
    pauses = [after - before for before, after in itertools.pairwise(asked)]
    for pause, least in zip(pauses, (0.02, 0.04, 0.08, 0.08, 0.08), strict=True):
        assert pause >= least
    assert [record.getMessage() for record in caplog.records] == [
        "job 1 waits for the database: away"
    ]


def test_tables_of_another_release_are_not_waited_for(
    watched: Callable[[], Watch], jobs: Jobs, database: Engine
) -> None:
    watch = watched()
    with database.begin() as connection:
        connection.execute(text("ALTER TABLE job_events RENAME TO renamed"))
    with pytest.raises(StoreError, match="job_events"):
        watch.persist(lambda: jobs.events(watch.job.id))
