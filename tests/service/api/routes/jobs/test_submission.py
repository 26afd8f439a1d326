"""Requests to `POST /jobs`: what is valid, what is refused, and idempotency keys."""

import json
from typing import Any

import httpx
import pytest

from perceptd.service.jobs.claims import Claims
from perceptd.service.jobs.queue import Jobs
from tests.service.admin import problem
from tests.service.api.routes.jobs.conftest import newest, submit
from tests.service.jobs.playing import claimed, succeed

JSON = {"Content-Type": "application/json"}


def refused(admin: httpx.Client, jobs: Jobs, **request: Any) -> dict[str, Any]:
    """Send an invalid request, which queues nothing. Returns its first error; its example works."""
    before = newest(jobs)
    response = admin.post("/jobs", **request)
    assert problem(response) == (422, "invalid_input")
    assert newest(jobs) == before
    assert admin.post("/jobs", json=response.json()["example"]).status_code == 202
    first: dict[str, Any] = response.json()["errors"][0]
    return first


def test_a_request_becomes_a_queued_job_with_its_plan(admin: httpx.Client, jobs: Jobs) -> None:
    body = {"model": "xor", "recipe": "fast", "seed": 0, "config": {"hidden": 7}, "gate": "never"}
    response = admin.post("/jobs", json=body)
    assert response.status_code == 202
    job = response.json()
    assert response.headers["Location"] == f"/jobs/{job['id']}"
    assert (job["kind"], job["model"], job["status"]) == ("train", "xor", "queued")
    assert job["request"] == body

    detail = admin.get(response.headers["Location"]).json()
    assert job.items() <= detail.items()
    assert (detail["curve"], detail["log"]) == ([], [])
    assert detail["plan"]["config"] == {"hidden": 7, "activation": "relu"}
    assert (detail["plan"]["epochs"], detail["plan"]["seed"]) == (40, 0)


Change = dict[str, Any]
Place = list[str | int]


def each(values: list[Any], *place: str) -> list[tuple[Change, Place]]:
    """A change for each of these values at one place of a request."""
    first, *rest = place
    return [({first: {rest[0]: value} if rest else value}, [*place]) for value in values]


RIGHT: list[tuple[Change, Place]] = [
    *each([1, 1_000_000], "epochs"),
    *each([1e-9, 1], "learning_rate"),
    *each([1], "batch_size"),
    *each([0, 2**63 - 1, None], "seed"),
    *each(["fast"], "recipe"),
    *each(["blobs"], "dataset"),
    *each([{}, {"hidden": 4096, "activation": "leaky_relu"}], "config"),
    *each(["scratch", "production", 1], "start_from"),
    *each([True], "include_feedback"),
    *each(["always", {}, {"greater_is_better": False, "threshold": None}], "gate"),
    *each([{"metric": "loss", "threshold": 1, "min_absolute_change": -0.5}], "gate"),
    *each([0.5, 31_536_000], "max_runtime_s"),
]


@pytest.mark.parametrize(("change", "loc"), RIGHT, ids=lambda case: json.dumps(case)[:60])
def test_a_valid_field_is_stored_in_the_request(
    admin: httpx.Client, jobs: Jobs, change: Change, loc: Place
) -> None:
    assert jobs.get(submit(admin, **change)).request == {"model": "dnn", **change}


# What the published schema refuses.
WRONG: list[tuple[Change, Place]] = [
    *each([0, -1, 1_000_001, 10**30, 1.5, "5", True, []], "epochs"),
    *each([0, -0.1, 100.5, "0.1", True, {}, [0.1]], "learning_rate"),
    *each([0, -8, 1_000_001, 2.5, "8", False], "batch_size"),
    *each([-1, 2**63, 10**30, 1.5, "1", True], "seed"),
    *each([0, -1, 1e12, "60", True], "max_runtime_s"),
    *each(["yes", 1, None], "include_feedback"),
    *each([3, None], "recipe"),
    *each([3], "dataset"),
    *each([[], "hidden", 4, None], "config"),
    *each([0, -1, 1.5, True, "yesterday", "", None, [1]], "start_from"),
    *each(["maybe", "", 1, 0.5, True, None, ["always"]], "gate"),
    *each([3, None], "gate", "metric"),
    *each(["0.9", True, []], "gate", "threshold"),
    *each(["0.9", True, [], None], "gate", "min_absolute_change"),
    *each(["no", 1, 0.0], "gate", "greater_is_better"),
    *each([0.9], "gate", "minimum"),
    *each([3], "epoch"),
    *each([3], ""),
    *each([3, None, [], {"name": "dnn"}], "model"),
]
# What only the planner refuses: `tests/service/jobs/test_planner.py` has every case.
UNFIT: list[tuple[Change, Place]] = [
    ({"model": "mnist-cnn", "config": {"channels": [32, "x"]}}, ["config", "channels", 1]),
    *each([10**30], "start_from"),
]


@pytest.mark.parametrize(("change", "loc"), WRONG + UNFIT, ids=lambda case: json.dumps(case)[:60])
def test_an_invalid_request_names_the_field_and_queues_nothing(
    admin: httpx.Client, jobs: Jobs, change: Change, loc: Place
) -> None:
    first = refused(admin, jobs, json={"model": "dnn", **change})
    assert first["loc"] == loc
    assert first["expected"]
    assert first["got"]


def test_all_invalid_fields_are_named_at_once(admin: httpx.Client, jobs: Jobs) -> None:
    response = admin.post(
        "/jobs", json={"epochs": 0, "seed": "x", "gate": {"threshold": None, "a": 1}}
    )
    assert [error["loc"] for error in response.json()["errors"]] == [
        ["model"],
        ["epochs"],
        ["seed"],
        ["gate", "a"],
    ]


RAW: dict[str, tuple[bytes, Place]] = {
    "nothing": (b"", []),
    "blank": (b"  ", []),
    "broken": (b'{"model": "dnn"', []),
    "not UTF-8": (b'{"model": "\xff"}', []),
    "null": (b"null", []),
    "a list": (b"[1]", []),
    "a text": (b'"dnn"', []),
    "NaN": (b'{"model": "dnn", "learning_rate": NaN}', ["learning_rate"]),
    "infinity": (b'{"model": "dnn", "max_runtime_s": Infinity}', ["max_runtime_s"]),
    "overflow": (b'{"model": "dnn", "learning_rate": 1e400}', ["learning_rate"]),
    "NaN gate": (b'{"model": "dnn", "gate": {"threshold": NaN}}', ["gate", "threshold"]),
    "NaN setting": (b'{"model": "dnn", "config": {"hidden": NaN}}', ["config", "hidden"]),
    "number of 401 digits": (
        b'{"model": "dnn", "config": {"hidden": 1' + b"0" * 400 + b"}}",
        ["config", "hidden"],
    ),
    "digits": (b'{"model": "dnn", "seed": 1' + b"0" * 5000 + b"}", []),
    "half a character": (b'{"model": "dnn", "recipe": "\\ud800"}', ["recipe"]),
    "half a name": (b'{"model": "dnn", "config": {"\\ud800": 1}}', ["config"]),
}


@pytest.mark.parametrize("name", RAW)
def test_an_unreadable_body_is_refused_and_queues_nothing(
    admin: httpx.Client, jobs: Jobs, name: str
) -> None:
    body, loc = RAW[name]
    first = refused(admin, jobs, content=body, headers=JSON)
    assert first["loc"][: len(loc)] == loc
    assert bool(first["loc"]) is bool(loc)
    assert "form" not in first["expected"]


def test_a_long_name_is_shortened_in_the_error(admin: httpx.Client) -> None:
    for change in ({"x" * 100_000: 1}, {"model": "x" * 100_000}, {"config": {"x" * 100_000: 1}}):
        response = admin.post("/jobs", json={"model": "dnn", **change})
        assert response.status_code in (404, 422)
        assert len(response.text) < 5_000


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"]
)
def test_another_content_type_is_refused(
    admin: httpx.Client, jobs: Jobs, content_type: str
) -> None:
    before = newest(jobs)
    headers = {"Content-Type": content_type}
    response = admin.post("/jobs", content=b'{"model": "dnn"}', headers=headers)
    assert problem(response) == (415, "unsupported_media_type")
    response = admin.put("/models/dnn/aliases/mine", content=b'{"version": 1}', headers=headers)
    assert problem(response) == (415, "unsupported_media_type")
    assert newest(jobs) == before


def test_a_missing_content_type_means_json(admin: httpx.Client, jobs: Jobs) -> None:
    assert admin.post("/jobs", content=b'{"model": "dnn"}').status_code == 202


def test_a_body_over_the_limit_is_refused(admin: httpx.Client, jobs: Jobs) -> None:
    body = {"model": "dnn", "config": {"a": "x" * 200_000}}
    assert problem(admin.post("/jobs", json=body)) == (413, "body_too_large")


@pytest.mark.parametrize("model", ["nope", "", "Dnn", "no\0pe", "../dnn"])
def test_an_unknown_model_is_refused(admin: httpx.Client, jobs: Jobs, model: str) -> None:
    before = newest(jobs)
    response = admin.post("/jobs", json={"model": model})
    assert problem(response) == (404, "model_not_found")
    assert newest(jobs) == before


def test_the_same_key_and_body_return_the_same_job(
    admin: httpx.Client, jobs: Jobs, claims: Claims
) -> None:
    headers = {"Idempotency-Key": "8e03978e-40d5-43dd-bc93-6894a57f9324"}
    first = admin.post("/jobs", json={"model": "dnn", "seed": 1}, headers=headers)
    again = admin.post("/jobs", content=b'{"seed":1, "model":"dnn"}', headers={**headers, **JSON})
    assert (first.status_code, again.status_code) == (202, 202)
    assert again.json() == first.json()
    assert again.headers["Location"] == first.headers["Location"]

    succeed(claims, claimed(claims))
    ended = admin.post("/jobs", json={"model": "dnn", "seed": 1}, headers=headers)
    assert (ended.json()["id"], ended.json()["status"]) == (first.json()["id"], "succeeded")

    other = admin.post("/jobs", json={"model": "dnn", "seed": 2}, headers=headers)
    assert problem(other) == (409, "conflict")
    assert f"job {first.json()['id']}" in other.json()["detail"]
    assert newest(jobs) == first.json()["id"]


def test_a_key_whose_request_was_refused_is_free(admin: httpx.Client, jobs: Jobs) -> None:
    headers = {"Idempotency-Key": "a key"}
    for change, status in (({"recipe": "nope"}, 422), ({}, 202)):
        response = admin.post("/jobs", json={"model": "dnn", **change}, headers=headers)
        assert response.status_code == status


@pytest.mark.parametrize("key", ["", "k" * 256, "ä", "a\tb"])
def test_an_invalid_key_is_refused_with_a_valid_example(
    admin: httpx.Client, jobs: Jobs, key: str
) -> None:
    headers = {b"Idempotency-Key": key.encode()}
    first = refused(admin, jobs, json={"model": "dnn"}, headers=headers)
    assert first["loc"] == ["header", "Idempotency-Key"]
