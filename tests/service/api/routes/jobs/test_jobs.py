"""`/jobs`: lists, one job, cancellation, reproduction."""

from typing import Any

import httpx
import pytest
from sqlalchemy import Engine

from perceptd.service.jobs.claims import Claims
from perceptd.service.jobs.events import Event
from perceptd.service.jobs.queue import Jobs
from perceptd.service.settings import Settings
from perceptd.service.store.repository import PRETRAINED, Repository
from tests.service.admin import problem
from tests.service.api.routes.jobs.conftest import newest, submit
from tests.service.jobs.playing import EPOCH, VERDICT, claimed, succeed


def test_jobs_are_listed_in_pages_by_status_and_model(
    admin: httpx.Client, jobs: Jobs, claims: Claims
) -> None:
    before = newest(jobs)
    made = [submit(admin, model=model) for model in ("dnn", "xor", "dnn")]
    running = claimed(claims).id

    def listed(**query: Any) -> tuple[list[int], int | None]:
        answer = admin.get("/jobs", params=query).json()
        return [job["id"] for job in answer["jobs"] if job["id"] > before], answer["after"]

    assert listed()[0] == made[::-1]
    assert listed(status="running") == ([running], None)
    assert listed(model="nope") == listed(model="no\0pe") == ([], None)
    assert listed(limit=1, model="dnn") == ([made[2]], made[2])
    assert listed(after=made[2], limit=1, model="dnn")[0] == [made[0]]
    waiting = [number for number in made[::-1] if number != running]
    assert listed(limit=2, status="queued") == (waiting, None)  # full, and the last


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=201", "limit=x", "after=0", "after=-1", "after=x", "status=done", "status="],
)
def test_an_invalid_filter_is_refused(admin: httpx.Client, query: str) -> None:
    response = admin.get(f"/jobs?{query}")
    assert problem(response) == (422, "invalid_input")
    assert response.json()["errors"][0]["loc"] == ["query", query.partition("=")[0]]


@pytest.mark.parametrize(
    ("number", "refusal"),
    [
        ("2147483647", (404, "job_not_found")),
        ("2147483648", (404, "job_not_found")),
        ("9" * 30, (404, "job_not_found")),
        ("0", (422, "invalid_input")),
        ("-1", (422, "invalid_input")),
        ("one", (422, "invalid_input")),
        ("1.5", (422, "invalid_input")),
        ("%00", (422, "invalid_input")),
        ("9" * 5000, (422, "invalid_input")),
    ],
)
def test_an_unknown_job_is_refused(
    admin: httpx.Client, number: str, refusal: tuple[int, str]
) -> None:
    for method, path in (
        ("GET", f"/jobs/{number}"),
        ("GET", f"/jobs/{number}/events"),
        ("POST", f"/jobs/{number}/cancel"),
        ("POST", f"/jobs/{number}/reproduce"),
    ):
        assert problem(admin.request(method, path)) == refusal


def test_a_job_shows_its_progress_its_curve_and_its_result(
    admin: httpx.Client, jobs: Jobs, claims: Claims
) -> None:
    number = submit(admin)
    job = claimed(claims)
    epochs = [{**EPOCH, "epoch": epoch} for epoch in (1, 2)]
    events = [Event("epoch", epoch) for epoch in epochs]
    claims.heartbeat(job, runtime_s=2.5, progress={**epochs[-1], "threads": 1}, events=events)

    running = admin.get(f"/jobs/{number}").json()
    assert (running["status"], running["attempts"], running["runtime_s"]) == ("running", 1, 2.5)
    assert running["progress"] == epochs[-1]
    curve = ("epoch", "loss", "test_loss", "test_accuracy")
    assert running["curve"] == [{name: epoch[name] for name in curve} for epoch in epochs]

    succeed(claims, job)
    ended = admin.get(f"/jobs/{number}").json()
    assert (ended["status"], ended["promotion"]) == ("succeeded", "promoted")
    assert ended["reason"] == VERDICT["reason"]
    assert ended["gate"] == VERDICT
    assert ended["finished_at"]


def test_a_job_is_cancelled_over_http(admin: httpx.Client, jobs: Jobs, claims: Claims) -> None:
    number = submit(admin)
    job = claimed(claims)
    waiting = submit(admin)
    for asked, status in ((waiting, "cancelled"), (number, "cancelling"), (number, "cancelling")):
        response = admin.post(f"/jobs/{asked}/cancel")
        assert (response.status_code, response.json()["status"]) == (202, status)
    claims.abort(job)
    for ended in (number, waiting):
        assert problem(admin.post(f"/jobs/{ended}/cancel")) == (409, "conflict")


def test_a_job_without_a_version_cannot_be_reproduced(
    admin: httpx.Client, jobs: Jobs, claims: Claims
) -> None:
    queued = submit(admin)
    upload = {"file": ("weights.pt", b"weights")}
    imported = admin.post("/models/xor/versions", files=upload).json()["id"]
    before = newest(jobs)
    for number in (queued, imported):
        assert problem(admin.post(f"/jobs/{number}/reproduce")) == (409, "conflict")
    assert newest(jobs) == before


def test_a_training_that_made_a_version_is_reproduced(
    admin: httpx.Client, jobs: Jobs, claims: Claims, settings: Settings, database: Engine
) -> None:
    number = submit(admin, seed=5, gate="always")
    job = claimed(claims)
    repository = Repository(database, settings.data_dir)
    with claims.holding(job) as connection:
        _, version = repository.register(PRETRAINED / "dnn", "dnn", job=job.id, within=connection)
        claims.set_version(job, version, connection)
        claims.succeed(job, "skipped", "none was asked for", connection)

    headers = {"Idempotency-Key": "again"}
    response = admin.post(f"/jobs/{number}/reproduce", headers=headers)
    assert response.status_code == 202
    again = admin.get(response.headers["Location"]).json()
    assert again["request"] == {"reproduces": number}
    assert again["plan"] == {**job.plan, "gate": "never", "reproduces": number}
    same = admin.post(f"/jobs/{number}/reproduce", headers=headers)
    assert same.json()["id"] == again["id"]
    assert problem(admin.post("/jobs", json={"model": "dnn"}, headers=headers))[0] == 409
    assert problem(admin.post(f"/jobs/{again['id']}/reproduce")) == (409, "conflict")
