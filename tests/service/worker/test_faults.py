"""Each process of a retraining is killed at each of its stages, with SIGKILL, on both databases.

The job still makes one version, with the weights of an undisturbed training, and no unfinished file
is left.
"""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from perceptd.service.commands.common import opened_store
from perceptd.service.settings import Settings
from tests.service.site import (
    LEASE_S,
    Site,
    assert_one_whole_version,
    is_gone,
    kill,
    opened,
    site_of,
)
from tests.service.staged import IN_TRAINING, IN_WORKER, SELF
from tests.waiting import eventually

pytestmark = [pytest.mark.database, pytest.mark.faults]


@pytest.fixture
def site(store_settings: Settings, tmp_path: Path) -> Iterator[Site]:
    with site_of(store_settings, tmp_path / "stage") as site:
        yield site


@pytest.mark.parametrize("stage", [*IN_WORKER, *IN_TRAINING])
def test_a_killed_worker_is_replaced_and_its_training_ends(
    site: Site, stage: str, undisturbed: str
) -> None:
    site.serve()
    worker = site.start(*SELF, "worker", stage=stage)
    number = site.post()
    process, parent = site.reached()
    kill(worker.pid)
    worker.wait()

    if stage in IN_TRAINING:
        assert parent == worker.pid
        assert (
            eventually(lambda: is_gone(process), "the training ends", log=site.log) < 15
        )  # it is nice, and the machine may be busy
    killed_at = time.monotonic()
    site.start(*SELF, "worker")
    with opened(site.settings) as (jobs, _):
        eventually(
            lambda: jobs.get(number).attempts == 2, "another worker claims the job", log=site.log
        )
    assert time.monotonic() - killed_at < LEASE_S + 60
    assert_one_whole_version(site, number, undisturbed)


@pytest.mark.parametrize("stage", IN_TRAINING)
def test_a_killed_training_is_resumed(site: Site, stage: str, undisturbed: str) -> None:
    site.serve()
    site.start(*SELF, "worker", stage=stage)
    number = site.post()
    process, _ = site.reached()
    kill(process)

    assert_one_whole_version(site, number, undisturbed)
    assert site.ended(number).attempts == 2


@pytest.mark.parametrize("stage", ["mid-epoch", "promoting"])
def test_a_killed_server_does_not_disturb_the_job(site: Site, stage: str, undisturbed: str) -> None:
    server = site.serve()
    site.start(*SELF, "worker", stage=stage)
    number = site.post()
    site.reached()
    kill(server.pid)
    server.wait()
    site.go_on()

    assert_one_whole_version(site, number, undisturbed)
    assert site.ended(number).attempts == 1
    site.serve()
    assert site.ask("GET", f"/jobs/{number}").json()["status"] == "succeeded"
    assert site.ask("GET", "/models/dnn").json()["version"] == site.ended(number).version


@pytest.mark.parametrize("stage", [*IN_WORKER, *IN_TRAINING])
def test_a_job_is_resumed_after_all_processes_are_killed(
    site: Site, stage: str, undisturbed: str
) -> None:
    server = site.start(*SELF, "serve", stage=stage, PERCEPTD_WORKERS="1")
    site.wait_until_ready()
    number = site.post()
    process, parent = site.reached()
    kill(server.pid, *([parent, process] if stage in IN_TRAINING else [process]))
    server.wait()

    site.serve(workers=1)
    assert_one_whole_version(site, number, undisturbed)


def test_a_training_that_is_killed_each_time_fails_with_its_reason(site: Site) -> None:
    site.serve()
    site.start(*SELF, "worker", stage="first epoch", PERCEPTD_MAX_ATTEMPTS="1")
    number = site.post()
    process, _ = site.reached()
    kill(process)

    job = site.ended(number)
    assert (job.status, job.code, job.version) == ("failed", "training_killed", None)
    assert "SIGKILL" in str(job.reason)
    with opened_store(site.settings) as repository:
        assert [version.version for version in repository.versions("dnn")] == [1]


def test_a_worker_that_is_stopped_hands_its_job_back(site: Site, undisturbed: str) -> None:
    site.serve()
    worker = site.start(*SELF, "worker", stage="mid-epoch")
    number = site.post()
    process, _ = site.reached()
    worker.terminate()
    assert worker.wait(10) == 0
    assert is_gone(process)

    with opened(site.settings) as (jobs, _):
        job = jobs.get(number)
    assert (job.status, job.attempts) == ("queued", 0)
    site.start(*SELF, "worker")
    assert_one_whole_version(site, number, undisturbed)


def test_a_cancelled_job_ends_within_seconds_and_leaves_nothing(site: Site) -> None:
    site.serve()
    site.start(*SELF, "worker", stage="mid-epoch")
    number = site.post()
    process, _ = site.reached()
    asked_at = time.monotonic()
    assert site.ask("POST", f"/jobs/{number}/cancel").json()["status"] == "cancelling"

    assert site.ended(number).status == "cancelled"
    assert time.monotonic() - asked_at < 60
    assert is_gone(process)
    with opened_store(site.settings) as repository:
        assert [version.version for version in repository.versions("dnn")] == [1]
    folder = site.settings.data_dir / "jobs"
    eventually(lambda: not [*folder.iterdir()], "the job's folder is removed", log=site.log)
