"""A training in a process of its own that is killed, interrupted or terminated."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Timer

import pytest

from models import checkpoint
from tests.training.conftest import command

# The state is saved after each epoch, however short.
PROGRAM = """
import training.train
training.train.SAVE_SECONDS = 0.0
from training.__main__ import main
main()
"""
PATIENCE = 120  # seconds until a process that hangs is killed

DNN = ["dnn", "--batch-size", "50", "--progress", "json"]


@contextmanager
def training(*arguments: str | Path) -> Iterator[subprocess.Popen[str]]:
    """`python -m training` in a process of its own, which ends with the block."""
    # A process inherits what its parent ignores, and a shell's background job ignores Ctrl-C.
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    signal.signal(signal.SIGINT, handler)
    watch = Timer(PATIENCE, process.kill)
    watch.start()
    try:
        with process:
            try:
                yield process
            finally:
                process.kill()
    finally:
        watch.cancel()


def wait_for_epoch(process: subprocess.Popen[str], epoch: int) -> None:
    assert process.stdout
    for line in process.stdout:
        if json.loads(line).get("epoch") == epoch:
            return
    assert process.stderr
    pytest.fail(f"the training ended before epoch {epoch}: {process.stderr.read()}")


def test_killed_training_resumes_and_ends_in_the_same_weights(tmp_path: Path) -> None:
    arguments = [*DNN, "--epochs", "50"]
    target = tmp_path / "killed"

    with training(*arguments, "--out", target) as process:
        wait_for_epoch(process, 3)  # so the second is saved
        process.kill()
        assert process.wait() == -signal.SIGKILL
    assert not target.exists()
    resumed = command(*arguments, "--out", target)
    straight = command(*arguments, "--out", tmp_path / "straight")

    assert (resumed.exit_code, straight.exit_code) == (0, 0)
    started, next_epoch, *_ = resumed.events
    assert 2 <= started["epoch"] < 50
    assert started["message"].endswith(f", resumed after epoch {started['epoch']}")
    assert next_epoch["epoch"] == started["epoch"] + 1
    assert resumed.events[-1]["sha256"] == straight.events[-1]["sha256"]
    killed, whole = checkpoint.read(target), checkpoint.read(tmp_path / "straight")
    assert (killed.curve, killed.metrics) == (whole.curve, whole.metrics)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["killed", "straight"]


def test_stopped_training_leaves_no_checkpoint_and_tells_by_its_exit_code(tmp_path: Path) -> None:
    arguments = [*DNN, "--batch-size", "1", "--epochs", "399"]

    with (
        training(*arguments, "--out", tmp_path / "interrupted") as interrupted,
        training(*arguments, "--out", tmp_path / "terminated") as terminated,
    ):
        wait_for_epoch(interrupted, 2)  # so the first is saved
        wait_for_epoch(terminated, 2)
        interrupted.send_signal(signal.SIGINT)
        terminated.send_signal(signal.SIGTERM)
        _, said = interrupted.communicate()
        terminated.communicate()

    assert (interrupted.returncode, terminated.returncode) == (130, 143)
    assert "The same command goes on from the last saved epoch.\n" in said
    assert said.endswith("Stopped.\n")
    assert [path for path in tmp_path.iterdir() if path.is_dir()] == []
