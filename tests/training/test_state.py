"""The state of an unfinished training: found again by the same training, and by no other."""

import os
from pathlib import Path

import pytest
import torch

from perceptd.training.state import StateFile


@pytest.fixture
def state_file(tmp_path: Path) -> StateFile:
    return StateFile.beside(tmp_path / "runs" / "1", "this training")


def test_latest_state_is_read_back(state_file: StateFile) -> None:
    assert state_file.read() is None
    state_file.write({"epoch": 2})
    state_file.write({"epoch": 3, "module": {"w": torch.ones(2)}, "curve": [{"loss": 0.5}]})

    state = state_file.read()

    assert state is not None
    assert (state["epoch"], state["curve"]) == (3, [{"loss": 0.5}])
    assert torch.equal(state["module"]["w"], torch.ones(2))
    assert [path.name for path in state_file.path.parent.iterdir()] == [".1.state"]


def test_state_of_another_training_is_none(state_file: StateFile) -> None:
    state_file.write({"epoch": 3})

    assert StateFile(state_file.path, "another training").read() is None


@pytest.mark.parametrize("kept", [0, 1, 100, -1])
def test_damaged_state_is_none(state_file: StateFile, kept: int) -> None:
    state_file.write({"epoch": 3})
    size = state_file.path.stat().st_size
    os.truncate(state_file.path, kept if kept >= 0 else size + kept)

    assert state_file.read() is None


def test_removed_state_leaves_no_file(state_file: StateFile) -> None:
    state_file.write({"epoch": 3})
    state_file.path.with_name(".1.state-unfinished").write_bytes(b"half a state")

    state_file.remove()

    assert list(state_file.path.parent.iterdir()) == []
    state_file.remove()
