"""`perceptd jobs`: submit, list and show."""

import json
from typing import Any

import pytest

from tests.service.commands.conftest import Site, beat, epoch
from tests.service.jobs.playing import VERDICT, succeed


def test_submit_sends_only_the_given_options(site: Site) -> None:
    options = ["--recipe", "fast", "--epochs", "3", "--learning-rate", "0.5", "--batch-size", "8"]
    options += ["--seed", "0", "--dataset", "circles", "--set", "hidden=5"]
    options += ["--set", "activation=tanh", "--include-feedback", "--max-runtime-s", "60"]
    options += ["--gate", '{"metric": "loss", "threshold": 0.1}']
    asked: dict[str, Any] = {
        "model": "dnn",
        "recipe": "fast",
        "epochs": 3,
        "learning_rate": 0.5,
        "batch_size": 8,
        "seed": 0,
        "dataset": "circles",
        "config": {"hidden": 5, "activation": "tanh"},
        "include_feedback": True,
        "gate": {"metric": "loss", "threshold": 0.1},
        "max_runtime_s": 60.0,
    }
    for given, request in (
        ([], {"model": "dnn"}),
        (options, asked),
        (["--gate", "never", "--start-from", "1"], {"gate": "never", "start_from": 1}),
        (["--gate", "f1_macro", "--start-from", "production"], {"gate": {"metric": "f1_macro"}}),
    ):
        number = site.submit(*given)
        shown = json.loads(site.perceptd("jobs", "show", str(number), "--json").stdout)
        assert shown["request"].items() >= request.items()
        cancelled = site.perceptd("jobs", "cancel", str(number))
        assert cancelled.stdout == f"job {number}, train of dnn: cancelled\n"
    assert len(shown["request"]) == 3


def test_submit_with_the_same_key_returns_the_same_job(site: Site) -> None:
    first, again = (site.submit("--idempotency-key", "night") for _ in range(2))
    assert first == again
    assert site.perceptd("jobs", "cancel", str(first)).exit_code == 0


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--epochs", "0"], "this works: perceptd jobs submit dnn --recipe fast --epochs 150"),
        (["--recipe", "fats"], "did you mean fast?"),
        (["--learning-rate", "nan"], "learning_rate: expected a finite number, got NaN"),
        (["--set", "hiden=3"], "known setting (hidden, activation), got 3; did you mean hidden?"),
        (["--gate", "always-ish"], "gate.metric: expected one of loss, accuracy"),
        (["--start-from", "9"], "start_from: expected scratch, production or a version"),
        (["--idempotency-key", "é"], "header.Idempotency-Key: expected "),
    ],
)
def test_a_refused_request_is_one_sentence_with_a_working_command(
    site: Site, options: list[str], told: str
) -> None:
    result = site.perceptd("jobs", "submit", "dnn", *options)
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: ")
    assert told in result.stderr
    assert "; this works: " in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("options", "told"),
    [(["--set", "hidden"], "expected NAME=VALUE"), (["--gate", "{accuracy}"], "is not JSON")],
)
def test_an_unreadable_option_is_refused_without_a_request(
    site: Site, options: list[str], told: str
) -> None:
    result = site.perceptd("jobs", "submit", "dnn", *options, PERCEPTD_URL="http://127.0.0.1:1")
    assert result.exit_code == 2
    assert told in result.stderr


def test_list_shows_the_results_of_jobs_and_the_next_page(site: Site) -> None:
    first, second = site.submit(), site.submit("--epochs", "2")
    job = site.claim(first)
    succeed(site.claims, job)
    listed = site.perceptd("jobs", "list", "--model", "dnn", "--limit", "2")
    newer, older = listed.stdout.splitlines()
    assert newer.split()[:4] == [str(second), "train", "dnn", "queued"]
    assert older.split()[:5] == [str(first), "train", "dnn", "succeeded", "promoted"]
    assert older.endswith(VERDICT["reason"])
    site.perceptd("jobs", "cancel", str(second))
    page = ["jobs", "list", "--limit", "1"]
    assert site.perceptd(*page).stderr == f"older jobs: --after {second}\n"
    assert site.perceptd(*page, "--after", str(second)).stdout.split()[0] == str(first)
    answer = json.loads(site.perceptd(*page, "--status", "succeeded", "--json").stdout)
    assert [job["id"] for job in answer["jobs"]] == [first]
    assert site.perceptd("jobs", "list", "--model", "xor").stdout == ""


def test_show_prints_the_progress_of_a_job_and_why_it_failed(site: Site) -> None:
    number = site.submit("--epochs", "4")
    job = site.claim(number)
    beat(site.claims, job, epoch(1))
    shown = site.perceptd("jobs", "show", str(number)).stdout.splitlines()
    assert "progress      epoch 1 of 4  loss 0.5000  held-out accuracy 0.9000  3 s left" in shown
    assert 'request       model="dnn" epochs=4' in shown

    site.claims.fail(job, "training_failed", "the data are gone", ["reading", "no such file"])
    shown = site.perceptd("jobs", "show", str(number)).stdout.splitlines()
    assert {"status        failed", "reason        the data are gone"} <= set(shown)
    assert shown[-2:] == ["log           reading", "log           no such file"]
