"""The saved state of an unfinished training, from which a killed one resumes."""

import os
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch


class StateFile:
    """One file beside the future checkpoint. `fingerprint` identifies the training."""

    def __init__(self, path: Path, fingerprint: str) -> None:
        self.path = path
        self.fingerprint = fingerprint

    @classmethod
    def beside(cls, target: Path, fingerprint: str) -> "StateFile":
        return cls(target.parent / f".{target.name}.state", fingerprint)

    def read(self) -> dict[str, Any] | None:
        """The saved state; None if it is missing, damaged or of another training."""
        try:
            state: dict[str, Any] = torch.load(self.path, map_location="cpu", weights_only=True)
        except (FileNotFoundError, UnpicklingError, RuntimeError, EOFError):
            return None
        return state if state.get("fingerprint") == self.fingerprint else None

    def write(self, state: dict[str, Any]) -> None:
        """Replace the saved state atomically: a kill leaves either the old or the new one."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._unfinished.open("wb") as file:
            torch.save({**state, "fingerprint": self.fingerprint}, file)
            file.flush()
            os.fsync(file.fileno())
        self._unfinished.replace(self.path)

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)
        self._unfinished.unlink(missing_ok=True)

    @property
    def _unfinished(self) -> Path:
        return self.path.with_name(self.path.name + "-unfinished")
