"""`perceptd jobs`: submit, follow, list and show, also over restarts of the server."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from sqlalchemy import Engine

from perceptd.service.jobs.claims import Claims
from perceptd.service.jobs.events import Event
from perceptd.service.jobs.queue import Job, Jobs
from perceptd.service.settings import Settings
from perceptd.service.store import db
from tests.server import running, serving
from tests.service.commands.test_cli import Result, perceptd
from tests.service.jobs.playing import VERDICT, claimed, claims_of, succeed
from tests.waiting import eventually


class Site(NamedTuple):
    """A running server, its store, and a worker's hold on the jobs in it."""

    url: str
    settings: Settings
    database: Engine
    claims: Claims

    def perceptd(self, *args: str, **env: str) -> Result:
        env = {"PERCEPTD_URL": self.url, **env}
        return perceptd(*args, data_dir=self.settings.data_dir, **env)

    def submit(self, *options: str) -> int:
        result = self.perceptd("jobs", "submit", "dnn", *options, "--json")
        assert result.returncode == 0, result.stderr
        number: int = json.loads(result.stdout)["id"]
        return number

    def claim(self, number: int) -> Job:
        job = claimed(self.claims)
        assert job.id == number
        return job


@contextmanager
def site_of(settings: Settings, url: str) -> Iterator[Site]:
    database = db.connect(settings)
    try:
        yield Site(url, settings, database, claims_of(database))
    finally:
        database.dispose()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    settings = Settings(data_dir=tmp_path_factory.mktemp("data"))
    with running(settings) as server, site_of(settings, str(server.base_url)) as site:
        yield site


def epoch(number: int, epochs: int = 4) -> Event:
    facts = {"epoch": number, "epochs": epochs, "loss": 0.5 / number, "test_loss": 0.25}
    times = {"seconds": number, "seconds_left": epochs - number}
    return Event("epoch", {**facts, "test_accuracy": 0.9, **times})


def log(line: str) -> Event:
    return Event("log", {"line": line})


PLANE = Event("plane", {"x": [0, 1], "y": [0, 1], "points": [[0.5, 0.5]], "targets": [1]})


def boundary(number: int) -> Event:
    return Event("boundary", {"epoch": number, "size": 2, "probabilities": [0, 1, 2, 3]})


def beat(claims: Claims, job: Job, *events: Event) -> None:
    progress = next((event.data for event in reversed(events) if event.kind == "epoch"), None)
    claims.heartbeat(job, runtime_s=1.5, progress=progress, events=events)


@contextmanager
def following(number: int, url: str, **streams: Any) -> Iterator[subprocess.Popen[str]]:
    """`perceptd jobs follow` in a process of its own."""
    process = subprocess.Popen(
        [sys.executable, "-m", "perceptd", "jobs", "follow", str(number), "--url", url],
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **streams},
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def wait_for_line(process: subprocess.Popen[str], start: str) -> list[str]:
    """Lines up to the first that begins so."""
    assert process.stdout
    lines = []
    for line in process.stdout:
        lines.append(line.rstrip("\n"))
        if line.startswith(start):
            return lines
    pytest.fail(f"no line {start!r} among {lines}")


def screen_of(terminal: int) -> list[str]:
    """What the lines of a terminal show in the end, with bars of one character per epoch."""
    written = b""
    with suppress(OSError):  # raised once the terminal is closed on the other side
        while chunk := os.read(terminal, 65536):
            written += chunk
    lines = re.sub(r"\x1b\[\?25[lh]", "", written.decode()).removesuffix("\r\n").split("\r\n")
    bars = [line.rpartition("\r")[2].rstrip() for line in lines]
    return [re.sub(r"(#|-)\1{8}", r"\1", line) for line in bars]


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
    assert site.perceptd("jobs", "cancel", str(first)).returncode == 0


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
    assert result.returncode == 1
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
    assert result.returncode == 2
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


def test_follow_prints_a_line_per_event_and_planes_only_as_json(site: Site) -> None:
    number = site.submit()
    job = site.claim(number)
    beat(site.claims, job, PLANE, epoch(1), boundary(1), log("a line"), epoch(4), boundary(4))
    succeed(site.claims, job)
    result = site.perceptd("jobs", "follow", str(number))
    assert result.returncode == 0
    assert result.stderr == ""
    assert result.stdout.splitlines() == [
        f"job {number}: queued",
        f"job {number}: running",
        "epoch 1 of 4  loss 0.5000  held-out accuracy 0.9000  3 s left",
        "  a line",
        "epoch 4 of 4  loss 0.1250  held-out accuracy 0.9000  0 s left",
        f"gate: passed, {VERDICT['reason']} (1000 held-out rows of circles)",
        f"job {number}: succeeded, promoted: {VERDICT['reason']}",
    ]
    told = site.perceptd("jobs", "follow", str(number), "--json").stdout.splitlines()
    events = [json.loads(line) for line in told]
    assert [event["id"] for event in events] == [*range(1, 11)]
    assert [event["data"] for event in events[2:5]] == [
        PLANE.data,
        epoch(1).data,
        boundary(1).data,
    ]


def test_follow_ends_with_the_reason_of_a_failed_or_cancelled_job(site: Site) -> None:
    number = site.submit()
    job = site.claim(number)
    site.claims.hand_back(job, "its worker was asked to end", counts=True)
    site.claims.fail(site.claim(number), "training_failed", "the data are gone")
    failed = site.perceptd("jobs", "follow", str(number))
    assert failed.returncode == 1
    assert failed.stderr == f"Error: job {number} failed: the data are gone\n"
    assert failed.stdout.splitlines()[2:] == [
        f"job {number}: queued: its worker was asked to end",
        f"job {number}: running, attempt 2",
    ]

    number = site.submit()
    site.perceptd("jobs", "cancel", str(number))
    cancelled = site.perceptd("jobs", "follow", str(number))
    assert cancelled.returncode == 1
    assert cancelled.stderr == f"Error: job {number} cancelled: cancelled before it ran\n"


def test_a_terminal_shows_a_live_bar_and_lines_between(site: Site) -> None:
    number = site.submit()
    job = site.claim(number)
    beat(site.claims, job, PLANE, epoch(1), boundary(1), epoch(2), log("a line"), epoch(4))
    succeed(site.claims, job)
    ours, theirs = os.openpty()
    with following(number, site.url, stdout=theirs) as process:
        os.close(theirs)
        assert process.wait(60) == 0
        lines = screen_of(ours)
    os.close(ours)
    assert lines == [
        f"job {number}: queued",
        f"job {number}: running",
        "epochs  [##--]  2/4  loss 0.2500  held-out accuracy 0.9000  2 s left",
        "  a line",
        "epochs  [####]  4/4  loss 0.1250  held-out accuracy 0.9000  0 s left",
        f"gate: passed, {VERDICT['reason']} (1000 held-out rows of circles)",
        f"job {number}: succeeded, promoted: {VERDICT['reason']}",
    ]


def test_ctrl_c_ends_follow_but_not_the_job(site: Site) -> None:
    number = site.submit()
    job = site.claim(number)
    with following(number, site.url) as process:
        wait_for_line(process, f"job {number}: running")
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said.startswith(f"job {number} continues: ")
    assert len(said.splitlines()) == 1
    assert Jobs(site.database).get(number).status == "running"
    site.claims.abort(job)


@pytest.mark.faults
def test_following_continues_after_restarts_without_gap_or_repeat(tmp_path: Path) -> None:
    with ExitStack() as stack:
        server, url = stack.enter_context(serving(tmp_path))
        settings = Settings(data_dir=tmp_path)
        site = stack.enter_context(site_of(settings, url))
        job = site.claim(site.submit())
        process = stack.enter_context(following(job.id, url))
        beat(site.claims, job, epoch(1), log("one"), log("one"))
        seen = wait_for_line(process, "  one") + wait_for_line(process, "  one")
        for number, how in enumerate((signal.SIGTERM, signal.SIGKILL), 2):
            server.send_signal(how)
            server.wait(60)
            beat(site.claims, job, epoch(number))  # while there is no server
            server, _ = stack.enter_context(serving(tmp_path, int(url.rpartition(":")[2])))
            seen += wait_for_line(process, f"epoch {number}")
        beat(site.claims, job, epoch(4), log("four"))
        succeed(site.claims, job)
        rest, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    lines = [line.split("  loss")[0] for line in seen + rest.splitlines()]
    assert lines[:-2] == [
        "job 1: queued",
        "job 1: running",
        "epoch 1 of 4",
        "  one",
        "  one",
        "epoch 2 of 4",
        "epoch 3 of 4",
        "epoch 4 of 4",
        "  four",
    ]
    assert lines[-1].startswith("job 1: succeeded, promoted: ")


def test_a_submitted_job_is_followed_to_its_version(site: Site) -> None:
    def work() -> None:
        """What a worker does."""
        eventually(lambda: Jobs(site.database).unfinished(), "a job is submitted")
        job = claimed(site.claims)
        beat(site.claims, job, epoch(1, 2), epoch(2, 2))
        with site.claims.holding(job) as connection:
            site.claims.set_version(job, 2, connection)
        succeed(site.claims, job, "skipped")

    with ThreadPoolExecutor(1) as pool:
        worked = pool.submit(work)
        options = ["--recipe", "fast", "--epochs", "2", "--gate", "never", "--follow"]
        result = site.perceptd("jobs", "submit", "dnn", *options)
        worked.result()
    assert result.returncode == 0, result.stderr
    first, *_, last = result.stdout.splitlines()
    number = first.split()[1].rstrip(",")
    assert first == f"job {number}, train of dnn: queued"
    assert [line.split("  ")[0] for line in result.stdout.splitlines() if "epoch" in line] == [
        "epoch 1 of 2",
        "epoch 2 of 2",
    ]
    assert last == f"job {number}: succeeded, version 2, skipped: {VERDICT['reason']}"
    assert "version       2" in site.perceptd("jobs", "show", number).stdout

    again = json.loads(site.perceptd("jobs", "reproduce", number, "--json").stdout)
    assert again["request"] == {"reproduces": int(number)}
    assert site.perceptd("jobs", "cancel", str(again["id"])).returncode == 0
