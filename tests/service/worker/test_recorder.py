import logging
from dataclasses import replace
from typing import Any

import pytest

from perceptd.service.jobs.queue import Job
from perceptd.service.worker.process import LOG_CHARACTERS
from perceptd.service.worker.recorder import MAX_EVENTS, MAX_WARNINGS, Recorder

EPOCH: dict[str, Any] = {"event": "epoch", "epoch": 1, "epochs": 9, "loss": 0.5, "test_loss": 0.6}
EPOCH |= {"test_accuracy": 0.7, "seconds": 0.1, "seconds_left": 0.2}
PLANE: dict[str, Any] = {"event": "plane", "x": [-1.5, 2], "y": [0, 1]}
PLANE |= {"points": [[0.5, 1]], "targets": [1]}
BOUNDARY: dict[str, Any] = {"event": "boundary", "epoch": 1, "size": 2}
BOUNDARY |= {"probabilities": [0, 128, 255, 1]}

Kept = list[tuple[str, dict[str, Any]]]


def kept(recorder: Recorder, *events: dict[str, Any]) -> Kept:
    """What the recorder has pending after these events."""
    for event in events:
        recorder.record(event, threads=2)
    return [(event.kind, event.data) for event in recorder.pending]


def stored(*events: dict[str, Any]) -> Kept:
    return [
        (event["event"], {name: value for name, value in event.items() if name != "event"})
        for event in events
    ]


def test_public_events_are_kept_in_order(job: Job) -> None:
    line: dict[str, Any] = {"event": "log", "line": "a line"}
    events = [PLANE, EPOCH, BOUNDARY, line, EPOCH | {"epoch": 2}]
    recorder = Recorder(job)
    assert kept(recorder, {"event": "started"}, *events) == stored(*events)
    assert recorder.progress == dict(stored(events[-1])[0][1], threads=2)
    recorder.clear()
    assert recorder.pending == []


def test_epochs_that_a_resumed_training_repeats_are_dropped(job: Job) -> None:
    resumed = replace(job, progress={"epoch": 4})
    again = [EPOCH | {"epoch": epoch} for epoch in (3, 4, 5, 5, 6)]
    assert kept(Recorder(resumed), *again) == stored(again[2], again[4])


def test_each_kind_of_event_is_limited(job: Job) -> None:
    events = [{**PLANE, **BOUNDARY, "event": kind, "line": "x" * 1000} for kind in MAX_EVENTS]
    events = [event for event in events if event["event"] != "epoch"] * 1001
    pending = kept(Recorder(job), *events)
    kinds = [kind for kind, _ in pending]
    assert {kind: kinds.count(kind) for kind in kinds} == {
        kind: limit for kind, limit in MAX_EVENTS.items() if kind != "epoch"
    }
    assert {len(data["line"]) for kind, data in pending if kind == "log"} == {LOG_CHARACTERS}


@pytest.mark.parametrize("size", [2, 64])
def test_grids_of_any_size_in_the_limits_are_kept(job: Job, size: int) -> None:
    event = {**BOUNDARY, "size": size, "probabilities": [255] * size**2}
    assert kept(Recorder(job), event) == stored(event)


INVALID: list[dict[str, Any]] = [
    {"event": "epoch", "epoch": "one"},
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


def test_invalid_events_are_logged_in_short_and_dropped(
    job: Job, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "perceptd.worker"):
        assert kept(Recorder(job), *INVALID, PLANE) == stored(PLANE)

    assert len(caplog.messages) == len(INVALID)
    assert all("invalid event" in message for message in caplog.messages)
    assert max(map(len, caplog.messages)) < LOG_CHARACTERS + 50


def test_warnings_about_invalid_events_are_limited(
    job: Job, caplog: pytest.LogCaptureFixture
) -> None:
    kept(Recorder(job), *INVALID * 10)
    assert len(caplog.messages) == MAX_WARNINGS
