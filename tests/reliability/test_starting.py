"""A server or worker that cannot start says why in one sentence and ends with a status."""

import os
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from perceptd.service.store.repository import PRETRAINED
from tests.reliability.small_disk import SmallDisk, small_disk

pytestmark = pytest.mark.reliability

PATIENCE_S = 90
CANNOT_START, BAD_SETTING = 1, 2
COMMANDS = ("serve", "worker")


def refused(command: str, *options: str, **variables: str) -> tuple[int, str]:
    """The status and the one error of a command, which is its last line."""
    ended = subprocess.run(
        [sys.executable, "-P", "-m", "perceptd", command, *options],
        env={**os.environ, "PERCEPTD_PORT": "0", **variables},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert "Traceback" not in ended.stderr, ended.stderr
    lines = ended.stderr.splitlines()
    assert sum(line.startswith("Error: ") for line in lines) == 1, ended.stderr
    assert lines[-1].startswith("Error: ")
    return ended.returncode, lines[-1]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "disk", megabytes=1) as disk:
        yield disk


@pytest.mark.parametrize("command", COMMANDS)
def test_a_full_disk_is_named(disk: SmallDisk, command: str) -> None:
    disk.fill()
    status, error = refused(command, PERCEPTD_DATA_DIR=str(disk.folder / "data"))
    assert status == CANNOT_START
    assert "--data-dir (PERCEPTD_DATA_DIR)" in error
    assert "No space left on device" in error or "disk is full" in error


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("has_a_store", [False, True])
def test_a_read_only_disk_is_named(disk: SmallDisk, command: str, has_a_store: bool) -> None:
    if has_a_store:
        disk.remount("size=64m")
        folder = {**os.environ, "PERCEPTD_DATA_DIR": str(disk.folder / "data")}
        made = [sys.executable, "-P", "-m", "perceptd", "models", "add", str(PRETRAINED / "dnn")]
        subprocess.run(made, env=folder, check=True, capture_output=True)
    disk.remount("ro")
    status, error = refused(command, PERCEPTD_DATA_DIR=str(disk.folder / "data"))
    assert status == CANNOT_START
    assert "--data-dir (PERCEPTD_DATA_DIR)" in error
    assert "Read-only" in error or "readonly" in error or "unable to open" in error


@pytest.mark.parametrize("command", COMMANDS)
def test_a_locked_database_is_named(tmp_path: Path, command: str) -> None:
    with sqlite3.connect(tmp_path / "perceptd.db", isolation_level=None) as other:
        other.execute("BEGIN EXCLUSIVE")
        status, error = refused(command, PERCEPTD_DATA_DIR=str(tmp_path))
    other.close()
    assert (status, "database is locked" in error) == (CANNOT_START, True)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_corrupt_database_is_named(tmp_path: Path, command: str) -> None:
    (tmp_path / "perceptd.db").write_bytes(b"not a database, whatever it is called" * 1000)
    status, error = refused(command, PERCEPTD_DATA_DIR=str(tmp_path))
    assert (status, "file is not a database" in error) == (CANNOT_START, True)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("silent", [False, True])
def test_an_unreachable_postgresql_is_named_without_its_password(
    tmp_path: Path, command: str, silent: bool
) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        if silent:  # it accepts connections and sends nothing
            listener.listen()
        port = listener.getsockname()[1]
        url = f"postgresql+psycopg://me:s3cret@127.0.0.1:{port}/db"
        status, error = refused(command, PERCEPTD_DATA_DIR=str(tmp_path), PERCEPTD_DATABASE_URL=url)
    assert (status, "PERCEPTD_DATABASE_URL" in error) == (CANNOT_START, True)
    assert "s3cret" not in error


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("PERCEPTD_PROCESSES", "none", "--processes (PERCEPTD_PROCESSES): "),
        ("PERCEPTD_DATADIR", "/data", "is not a setting: did you mean PERCEPTD_DATA_DIR?"),
    ],
)
def test_an_invalid_setting_is_named(
    tmp_path: Path, command: str, name: str, value: str, told: str
) -> None:
    status, error = refused(command, **{"PERCEPTD_DATA_DIR": str(tmp_path), name: value})
    assert (status, told in error) == (BAD_SETTING, True), error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", COMMANDS)
def test_a_database_of_a_newer_release_is_refused(tmp_path: Path, command: str) -> None:
    with sqlite3.connect(tmp_path / "perceptd.db") as other:
        other.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)")
        other.execute("INSERT INTO alembic_version VALUES ('9999')")
    other.close()
    status, error = refused(command, PERCEPTD_DATA_DIR=str(tmp_path))
    assert (status, "newer release: its revision is 9999" in error) == (CANNOT_START, True), error
