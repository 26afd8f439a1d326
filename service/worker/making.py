"""How an attempt makes its checkpoint: by a training, by an import, or by an earlier attempt."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from perceptd.models import checkpoint
from perceptd.models.checkpoint import CheckpointError
from perceptd.service.jobs.plans import Plan, TrainPlan
from perceptd.service.store import db
from perceptd.service.worker.arguments import CHECKPOINT, Arguments

STATE = f".{CHECKPOINT}.state"  # from which a training resumes


class CheckpointMaker:
    """Makes the checkpoint of one attempt in its folder, next to those of earlier attempts.

    `run` runs a training process with some arguments.
    """

    def __init__(
        self,
        plan: Plan,
        folder: Path,
        arguments: Arguments,
        run: Callable[[Sequence[str]], object],
    ) -> None:
        self._plan = plan
        self._folder = folder
        self._arguments = arguments
        self._run = run

    def make(self) -> Path:
        """The folder of a verified checkpoint of the planned architecture.

        Raises `CheckpointError`, `DiskError`, and whatever `run` raises.
        """
        made = self._finished()
        if made is None:
            made = self._folder / CHECKPOINT
            if isinstance(self._plan, TrainPlan):
                self._copy_state()
                self._run(self._arguments.training(self._plan))
            else:
                weights = f"weights{self._plan.suffix}"
                with db.store_errors():
                    upload = self._folder.parents[1] / self._plan.upload
                    shutil.copyfile(upload, self._folder / weights)
                self._run(self._arguments.importing(self._plan, weights))
        self._verify(made)
        return made

    def _finished(self) -> Path | None:
        """A checkpoint that an earlier attempt finished but did not register."""
        for folder in sorted(self._folder.parent.glob(f"*/{CHECKPOINT}")):
            try:
                checkpoint.read(folder)
            except CheckpointError:
                continue
            return folder
        return None

    def _copy_state(self) -> None:
        """Copy the newest state of an earlier attempt, so that the training resumes from it."""
        states = [path for path in self._folder.parent.glob(f"*/{STATE}") if path.is_file()]
        # Folders are named by attempts, and each resumed the one before. A clock may be set back.
        newest = max(states, key=lambda path: int(path.parent.name), default=None)
        if newest and newest.parent != self._folder:
            unfinished = self._folder / f"{STATE}-unfinished"
            with db.store_errors():
                shutil.copyfile(newest, unfinished)
                unfinished.replace(self._folder / STATE)

    def _verify(self, made: Path) -> None:
        if not made.exists():
            raise CheckpointError("its training succeeded but left no checkpoint")
        try:
            meta = checkpoint.read(made)
        except CheckpointError as error:  # clients must not see the path
            raise CheckpointError(str(error).replace(f"{made}: ", "")) from error
        if meta.architecture != (planned := self._plan.architecture):
            raise CheckpointError(f"its training made a {meta.architecture}, expected a {planned}")
