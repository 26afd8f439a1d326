"""A training in a process of its own that is killed, interrupted, terminated or left alone."""

import io
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Timer
from typing import Any

import pytest
import torch

from perceptd.models import checkpoint
from perceptd.training import train
from tests.command_line import perceptd

# The state is saved after each epoch, however short.
PROGRAM = """
from perceptd.training import train
train.SAVE_S = 0.0
from perceptd.__main__ import main
main()
"""
PATIENCE = 120  # seconds until a process that hangs is killed

DNN = ["train", "dnn", "--batch-size", "50", "--progress", "json"]
ENDLESS = [*DNN, "--batch-size", "1", "--epochs", "399"]


@contextmanager
def training(
    *arguments: str | Path, program: str = PROGRAM, stdin: int = subprocess.PIPE
) -> Iterator[subprocess.Popen[str]]:
    """`perceptd` in a process of its own, which ends with the block."""
    # A process inherits what its parent ignores, and a shell's background job ignores Ctrl-C.
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(
        [sys.executable, "-c", program, *map(str, arguments)],
        stdin=stdin,
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


@pytest.mark.faults
def test_killed_training_resumes_and_ends_in_the_same_weights(tmp_path: Path) -> None:
    arguments = [*DNN, "--epochs", "50"]
    target = tmp_path / "killed"

    with training(*arguments, "--out", target) as process:
        wait_for_epoch(process, 3)  # so the second is saved
        process.kill()
        assert process.wait() == -signal.SIGKILL
    assert not target.exists()
    resumed = perceptd(*arguments, "--out", target)
    straight = perceptd(*arguments, "--out", tmp_path / "straight")

    assert (resumed.exit_code, straight.exit_code) == (0, 0)
    started, plane, *told, _ = resumed.events
    epochs = [event["epoch"] for event in told if event["event"] == "epoch"]
    boundaries = [event for event in told if event["event"] == "boundary"]
    assert 2 <= started["epoch"] < 50
    assert started["message"].endswith(f", resumed after epoch {started['epoch']}")
    assert epochs == list(range(1, 51))  # told again, then on
    assert plane["event"] == "plane"
    assert boundaries == [event for event in straight.events if event["event"] == "boundary"]
    assert len(boundaries) == 40
    assert resumed.events[-1]["sha256"] == straight.events[-1]["sha256"]
    killed, whole = checkpoint.read(target), checkpoint.read(tmp_path / "straight")
    assert (killed.curve, killed.metrics) == (whole.curve, whole.metrics)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["killed", "straight"]


def test_training_ends_with_a_signal_not_with_its_standard_input(tmp_path: Path) -> None:
    ended = subprocess.DEVNULL  # unlike a pipe
    with (
        training(*ENDLESS, "--out", tmp_path / "interrupted", stdin=ended) as interrupted,
        training(*ENDLESS, "--out", tmp_path / "terminated", stdin=ended) as terminated,
    ):
        wait_for_epoch(interrupted, 2)  # so the first is saved
        wait_for_epoch(terminated, 2)
        interrupted.send_signal(signal.SIGINT)
        terminated.send_signal(signal.SIGTERM)
        _, said = interrupted.communicate()
        terminated.communicate()

    assert (interrupted.returncode, terminated.returncode) == (130, 143)
    assert "The same command resumes from the last saved epoch.\n" in said
    assert said.endswith("Stopped.\n")
    assert [path for path in tmp_path.iterdir() if path.is_dir()] == []


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_while_the_state_is_saved_exits_as_the_signal_says(
    number: signal.Signals, status: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Interrupted(io.BytesIO):
        """A file whose writer gets the signal once something is written."""

        def write(self, content: Any) -> int:
            if self.tell():
                signal.raise_signal(number)
            return super().write(content)

    save = torch.save
    monkeypatch.setattr(torch, "save", lambda state, file: save(state, Interrupted()))
    monkeypatch.setattr(train, "SAVE_S", 0.0)

    outcome = perceptd(*DNN, "--epochs", "5", "--out", tmp_path / "out")

    assert outcome.exit_code == status
    assert outcome.stderr == ("Stopped.\n" if number == signal.SIGINT else "")
    assert [path for path in tmp_path.iterdir() if path.is_dir()] == []


@pytest.mark.faults
def test_training_ends_with_its_standard_input_and_cleans_up(tmp_path: Path) -> None:
    with training("--stop-on-eof", *ENDLESS, "--out", tmp_path / "out") as process:
        wait_for_epoch(process, 1)
        assert process.stdin
        process.stdin.write("more than nothing")
        process.stdin.flush()
        wait_for_epoch(process, 2)
        process.stdin.close()
        process.wait()

    assert process.returncode == 143
    assert not (tmp_path / "out").exists()
    assert [path for path in tmp_path.iterdir() if path.is_dir()] == []


# Starts a training as a worker does.
PARENT = """
import subprocess, sys
child = subprocess.Popen([sys.executable, *sys.argv[1:]], stdin=subprocess.PIPE)
child.wait()
"""


@pytest.mark.faults
def test_training_ends_with_the_process_that_started_it_even_if_that_was_killed(
    tmp_path: Path,
) -> None:
    arguments = ["-m", "perceptd", "--stop-on-eof", *ENDLESS, "--out"]

    with training(*arguments, tmp_path / "out", program=PARENT) as parent:
        wait_for_epoch(parent, 2)
        parent.kill()
        assert parent.stdout
        parent.stdout.read()  # ends when the training, which writes there as well, has ended

    assert not (tmp_path / "out").exists()


# Ignores SIGTERM, as native code does that does not return to Python.
BUSY = """
import signal, threading
from perceptd.training import lifeline
lifeline.GRACE_S = 0.1
signal.signal(signal.SIGTERM, lambda *_: None)
lifeline.hold()
print("{}", flush=True)
threading.Event().wait()
"""


def test_training_that_ignores_sigterm_exits_all_the_same() -> None:
    with training(program=BUSY) as process:
        assert process.stdout
        assert process.stdout.readline() == "{}\n"
        assert process.stdin
        process.stdin.close()
        process.wait()

    assert process.returncode == 143
