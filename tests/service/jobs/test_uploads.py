"""Uploaded weights: kept for a job, removed when no job waits for them."""

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import Engine

from perceptd.service.errors import DiskError
from perceptd.service.jobs.queue import Jobs
from perceptd.service.jobs.uploads import JOBS, ORPHAN_S, Uploads
from tests.service.jobs.playing import claimed, claims_of

pytestmark = pytest.mark.database

WEIGHTS = b"weights"


@pytest.fixture
def uploads(jobs: Jobs, tmp_path: Path) -> Uploads:
    return Uploads(tmp_path / JOBS, jobs)


def age(folder: Path) -> None:
    """Make the files older than an orphan has to be."""
    old = time.time() - ORPHAN_S - 1
    for path in folder.iterdir():
        os.utime(path, (old, old))


def test_only_old_files_without_a_waiting_job_are_removed(
    uploads: Uploads, jobs: Jobs, database: Engine, tmp_path: Path
) -> None:
    uploads.tidy()  # the folder does not exist yet

    def job_for(model: str) -> str:
        name = uploads.save(WEIGHTS)
        jobs.submit("import", model, {}, {"upload": name})
        return name

    ended = job_for("dnn")
    jobs.cancel(1)
    running = job_for("dnn")
    claimed(claims_of(database))
    waiting, orphan = job_for("dnn"), uploads.save(WEIGHTS)
    jobs.submit("train", "dnn", {}, {})
    (tmp_path / JOBS / "2").mkdir()
    (tmp_path / JOBS / "notes.txt").write_text("somebody's own")
    age(tmp_path / JOBS)
    new = uploads.save(WEIGHTS)

    there = {path.name for path in (tmp_path / JOBS).iterdir()}
    uploads.tidy()
    left = {path.name for path in (tmp_path / JOBS).iterdir()}
    assert there - left == {ended, orphan}
    assert {running, waiting, new} <= left


def test_workers_may_tidy_at_the_same_time(uploads: Uploads, tmp_path: Path) -> None:
    (tmp_path / JOBS).mkdir()
    for _ in range(5):
        for number in range(300):
            (tmp_path / JOBS / f".upload-{number}").touch()
        age(tmp_path / JOBS)
        with ThreadPoolExecutor(4) as pool:
            for tidied in [pool.submit(uploads.tidy) for _ in range(4)]:
                tidied.result()
        assert list((tmp_path / JOBS).iterdir()) == []


def test_removing_a_file_twice_is_allowed(uploads: Uploads, tmp_path: Path) -> None:
    name = uploads.save(WEIGHTS)
    uploads.remove(name)
    uploads.remove(name)
    assert list((tmp_path / JOBS).iterdir()) == []


def test_a_full_disk_leaves_no_partial_file(
    uploads: Uploads, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DiskError, match="No space left"):
        uploads.save(WEIGHTS)
    assert list((tmp_path / JOBS).iterdir()) == []
