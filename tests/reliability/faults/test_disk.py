"""The disk of the store is full, to the last byte, and has space again."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from perceptd.service.commands.common import opened_store
from perceptd.service.settings import Settings
from perceptd.service.store import db
from perceptd.service.store.repository import PRETRAINED
from tests.reliability.load import fault
from tests.reliability.small_disk import BALLAST, SmallDisk, small_disk
from tests.service.site import Site, assert_one_whole_version, site_of
from tests.service.staged import SELF
from tests.waiting import eventually

pytestmark = pytest.mark.faults

CORRECTION = {"model": "dnn", "inputs": [[0.1, -0.2]], "labels": ["1"]}
WAITS = "waits for the database"  # what a worker says that cannot write


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "data") as disk:
        yield disk


@pytest.fixture
def site(disk: SmallDisk, tmp_path: Path) -> Iterator[Site]:
    with site_of(Settings(data_dir=disk.folder), tmp_path / "stage") as site:
        yield site


def fill(disk: SmallDisk) -> None:
    """Fill it; the database's log, which would take the next lines in its old place, included."""
    import sqlite3

    with closing(sqlite3.connect(disk.folder / db.FILE, timeout=30)) as connection:
        while connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
            pass
    disk.fill()


def all_writes(site: Site) -> dict[str, httpx.Response]:
    weights = (PRETRAINED / "dnn" / "model.safetensors").read_bytes()
    upload = {"file": ("weights.safetensors", weights)}
    return {
        "promotion": site.ask("PUT", "/models/dnn/aliases/production", {"version": 2}),
        "feedback": site.ask("POST", "/feedback", CORRECTION),
        "upload": site.ask("POST", "/models/dnn/versions", files=upload),
        "job": site.ask("POST", "/jobs", {"model": "dnn"}),
        "unload": site.ask("POST", "/v2/repository/models/xor/unload"),
    }


def files(disk: SmallDisk) -> set[Path]:
    return {path for path in disk.folder.rglob("*") if path.name != BALLAST}


def test_on_a_full_disk_writes_are_refused_and_predictions_continue(
    site: Site, disk: SmallDisk
) -> None:
    site.serve()
    with opened_store(site.settings) as repository:
        repository.register(PRETRAINED / "dnn", "dnn")
    (disk.folder / "jobs").mkdir(exist_ok=True)
    before = files(disk)

    with fault(site.url) as load:
        fill(disk)
        answers = all_writes(site)
        read = site.ask("GET", "/models/dnn/versions")
        ready = site.ask("GET", "/health/ready")
        left = files(disk)
        disk.free()
        again = all_writes(site)
        asked = load.requests
        eventually(lambda: load.requests > asked, "predictions continue", log=site.log)

    assert {name: answer.status_code for name, answer in answers.items()} == dict.fromkeys(
        answers, 503
    )
    for name, answer in answers.items():
        assert answer.headers["Retry-After"] == "5", name
        assert "No space" not in answer.text, name
        assert answer.json().get("code", "store_unavailable") == "store_unavailable", name
    assert left == before
    assert (read.status_code, ready.status_code) == (200, 200)
    assert read.json()["versions"][1]["aliases"] == ["production"]
    assert {name: answer.status_code for name, answer in again.items()} == {
        "promotion": 200,
        "feedback": 201,
        "upload": 202,
        "job": 202,
        "unload": 200,
    }
    assert again["feedback"].json()["total"] == 1
    assert len(site.ask("GET", "/jobs").json()["jobs"]) == 2


@pytest.mark.parametrize("stage", ["mid-epoch", "writing", "registering", "promoting"])
def test_a_job_waits_for_free_space_and_succeeds(
    site: Site, disk: SmallDisk, stage: str, undisturbed: str
) -> None:
    site.serve()
    site.start(*SELF, "worker", stage=stage, PERCEPTD_LEASE_S="60")
    number = site.post()
    site.reached()

    with fault(site.url):
        if stage == "promoting":  # within a transaction
            disk.fill()
        else:
            fill(disk)
        site.go_on()
        eventually(lambda: site.said(WAITS) > 0, "the worker waits", log=site.log)
        disk.free()
        assert_one_whole_version(site, number, undisturbed)


def test_a_token_is_whole_or_absent(disk: SmallDisk) -> None:
    def token() -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "perceptd", "token"],
            env={**os.environ, "PERCEPTD_DATA_DIR": str(disk.folder)},
            capture_output=True,
            text=True,
        )

    disk.fill()
    refused = token()
    assert refused.returncode == 1
    assert "Error: the data folder cannot be used: No space left on device\n" in refused.stderr
    assert refused.stdout == ""
    assert files(disk) == set()
    disk.free()
    assert len(token().stdout.strip()) > 40


def test_an_upload_that_finds_no_space_for_its_parts_is_refused(
    tmp_path: Path,
) -> None:
    with (
        small_disk(tmp_path / "temporary") as disk,
        site_of(Settings(data_dir=tmp_path / "data"), tmp_path / "stage") as site,
    ):
        site.serve(TMPDIR=str(disk.folder))
        upload = {"file": ("weights.safetensors", b"\0" * 3_000_000)}
        # Python looks once for a folder that it can write to, and then stays with it.
        assert site.ask("POST", "/models/dnn/versions", files=upload).status_code == 202
        with fault(site.url):
            disk.fill()
            answer = site.ask("POST", "/models/dnn/versions", files=upload)
            disk.free()
            assert site.ask("POST", "/models/dnn/versions", files=upload).status_code == 202

    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
    assert answer.json()["code"] == "store_unavailable"
