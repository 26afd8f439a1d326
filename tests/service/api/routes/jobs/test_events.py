"""The event stream of a job: order, resumption, many streams, shutdown."""

import json
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from perceptd.service.jobs.claims import Claims
from perceptd.service.jobs.events import Event
from perceptd.service.jobs.queue import Jobs
from tests.server import serving
from tests.service.admin import ADMIN, AS_ADMIN, PREDICT, problem
from tests.service.api.routes.jobs.conftest import submit
from tests.service.jobs.playing import EPOCH, VERDICT, claimed, succeed

StreamEvent = tuple[int, str, dict[str, Any]]


def parsed(lines: Iterator[str]) -> Iterator[StreamEvent]:
    """The events of a stream: number, kind and data."""
    event: dict[str, str] = {}
    for line in lines:
        if line:
            name, _, value = line.partition(": ")
            event[name] = value
        elif "data" in event:  # else it was a comment that keeps the connection alive
            yield int(event["id"]), event["event"], json.loads(event["data"])
            event = {}


@contextmanager
def following(
    admin: httpx.Client, number: int, last: int | None = None
) -> Iterator[Iterator[StreamEvent]]:
    headers = {} if last is None else {"Last-Event-ID": str(last)}
    with admin.stream("GET", f"/jobs/{number}/events", headers=headers) as response:
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        yield parsed(response.iter_lines())


def test_a_stream_has_all_events_in_order_and_ends_with_the_job(
    admin: httpx.Client, jobs: Jobs, claims: Claims
) -> None:
    number = submit(admin)
    job = claimed(claims)
    claims.heartbeat(
        job, runtime_s=1, events=[Event("epoch", EPOCH), Event("log", {"line": "a\nb ä"})]
    )
    succeed(claims, job)
    ended = {"attempts": 1, "promotion": "promoted", "reason": VERDICT["reason"]}
    with following(admin, number) as events:
        seen = list(events)
    assert seen == [
        (1, "status", {"status": "queued"}),
        (2, "status", {"status": "running", "attempts": 1}),
        (3, "epoch", EPOCH),
        (4, "log", {"line": "a\nb ä"}),
        (5, "gate", {"promotion": "promoted", **VERDICT}),
        (6, "status", {"status": "succeeded", **ended}),
    ]
    for last in range(6):
        with following(admin, number, last) as events:
            assert list(events) == seen[last:]
    for last in (6, 7, 10**30):  # a browser's EventSource stops at 204
        answer = admin.get(f"/jobs/{number}/events", headers={"Last-Event-ID": str(last)})
        assert (answer.status_code, answer.content) == (204, b"")


def test_a_stream_sends_events_as_they_happen_and_can_be_resumed(
    admin: httpx.Client, jobs: Jobs, claims: Claims
) -> None:
    number = submit(admin)
    with following(admin, number) as events:
        assert next(events)[:2] == (1, "status")
        job = claimed(claims)
        assert next(events)[2] == {"status": "running", "attempts": 1}
        claims.heartbeat(job, runtime_s=1, events=[Event("epoch", EPOCH)])
        assert next(events) == (3, "epoch", EPOCH)
        claims.heartbeat(job, runtime_s=2, events=[Event("log", {"line": "."})])
    # The connection has ended. Another continues where that one ended.
    with following(admin, number, 3) as events:
        assert next(events) == (4, "log", {"line": "."})
        jobs.cancel(number)
        assert next(events)[2]["status"] == "cancelling"
        claims.abort(job)
        assert next(events)[2]["status"] == "cancelled"
        assert list(events) == []


@pytest.mark.parametrize("last", ["x", "-1", "1.5"])
def test_an_invalid_last_event_id_is_refused(admin: httpx.Client, jobs: Jobs, last: str) -> None:
    response = admin.get(f"/jobs/{submit(admin)}/events", headers={"Last-Event-ID": last})
    assert problem(response) == (422, "invalid_input")


def test_many_streams_delay_neither_each_other_nor_predictions(
    admin: httpx.Client, jobs: Jobs
) -> None:
    number = submit(admin)
    limits = httpx.Limits(max_connections=None)
    url = str(admin.base_url)
    with httpx.Client(base_url=url, headers=AS_ADMIN, limits=limits, timeout=30) as client:
        streams = [
            client.send(client.build_request("GET", f"/jobs/{number}/events"), stream=True)
            for _ in range(60)
        ]
        answers = [parsed(stream.iter_lines()) for stream in streams]
        assert [next(answer)[0] for answer in answers] == [1] * 60
        body = {"model": "xor", "inputs": [[1, -1]]}
        assert client.post("/predict", json=body).status_code == 200
        jobs.cancel(number)
        assert [[event[0] for event in answer] for answer in answers] == [[2]] * 60
        for stream in streams:
            stream.close()


def test_a_server_that_stops_ends_its_streams_first(tmp_path: Path) -> None:
    environment = {
        "PERCEPTD_ADMIN_TOKEN": ADMIN,
        "PERCEPTD_PREDICT_TOKEN": PREDICT,
        "PERCEPTD_GRACE_S": "120",  # how long it would wait for a stream that does not end
    }
    with (
        serving(tmp_path, environment=environment) as (process, url),
        httpx.Client(base_url=url, headers=AS_ADMIN, timeout=60) as client,
    ):
        number = submit(client)
        with following(client, number) as events:
            assert next(events)[0] == 1
            asked_at = time.monotonic()
            process.send_signal(signal.SIGTERM)
            assert list(events) == []
        _, log = process.communicate()
        assert time.monotonic() - asked_at < 60
    assert process.returncode in (0, -signal.SIGTERM)
    assert "Traceback" not in log
