"""`perceptd jobs follow`: lines, a live bar, JSON, Ctrl-C, and restarts of the server."""

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
from typing import Any

import pytest

from perceptd.service.jobs.queue import Jobs
from perceptd.service.settings import Settings
from tests.server import serving
from tests.service.commands.conftest import PLANE, Site, beat, boundary, epoch, log, site_of
from tests.service.jobs.playing import VERDICT, claimed, succeed
from tests.waiting import eventually


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


def test_follow_prints_a_line_per_event_and_planes_only_as_json(site: Site) -> None:
    number = site.submit()
    job = site.claim(number)
    beat(site.claims, job, PLANE, epoch(1), boundary(1), log("a line"), epoch(4), boundary(4))
    succeed(site.claims, job)
    result = site.perceptd("jobs", "follow", str(number))
    assert result.exit_code == 0
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
    assert failed.exit_code == 1
    assert failed.stderr == f"Error: job {number} failed: the data are gone\n"
    assert failed.stdout.splitlines()[2:] == [
        f"job {number}: queued: its worker was asked to end",
        f"job {number}: running, attempt 2",
    ]

    number = site.submit()
    site.perceptd("jobs", "cancel", str(number))
    cancelled = site.perceptd("jobs", "follow", str(number))
    assert cancelled.exit_code == 1
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
    assert result.exit_code == 0, result.stderr
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
    assert site.perceptd("jobs", "cancel", str(again["id"])).exit_code == 0
