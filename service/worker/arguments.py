"""A job's plan -> the arguments of `perceptd train`, `import` and `evaluate`.

Paths are relative to the folder of the process, because its output is public.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from perceptd.service.jobs.plans import DATASETS, ImportPlan, Plan, TrainPlan, is_dataset
from perceptd.service.settings import Settings
from perceptd.service.store.feedback import Feedback
from perceptd.service.store.repository import Repository

CHECKPOINT = "checkpoint"  # the folder that a training or an import writes
FEEDBACK = "feedback.npz"


@dataclass(frozen=True)
class Arguments:
    """The arguments for one job, whose processes work in `folder`."""

    model: str
    plan: Plan
    folder: Path
    repository: Repository
    feedback: Feedback
    settings: Settings

    def training(self, plan: TrainPlan) -> list[str]:
        """Arguments of the training. Raises `CheckpointError` for a damaged parent."""
        arguments = ["train", plan.architecture, "--recipe", plan.recipe, "--progress", "json"]
        arguments += ["--epochs", str(plan.epochs), "--learning-rate", repr(plan.learning_rate)]
        arguments += ["--seed", str(plan.seed), "--out", CHECKPOINT]
        if plan.batch_size is not None:
            arguments += ["--batch-size", str(plan.batch_size)]
        if plan.start_from is not None:
            arguments += ["--start-from", self._version(plan.start_from)]
        return arguments + self._network() + self._data()

    def importing(self, plan: ImportPlan, weights: str) -> list[str]:
        """Arguments of the import of a file in the folder."""
        arguments = ["import", plan.architecture, weights, "--progress", "json"]
        return [*arguments, "--out", CHECKPOINT, *self._network(), *self._data()]

    def evaluation(self, versions: Sequence[int]) -> list[str]:
        """Arguments that measure versions. Raises `CheckpointError` for a damaged one."""
        arguments = ["evaluate", *map(self._version, versions), "--progress", "json"]
        if isinstance(self.plan, TrainPlan):
            arguments += ["--recipe", self.plan.recipe]
        return arguments + self._data()

    def _network(self) -> list[str]:
        return [f"--set={name}={json.dumps(value)}" for name, value in self.plan.config.items()]

    def _data(self) -> list[str]:
        """The rows to train on and to measure on, the same for both."""
        plan, settings = self.plan, self.settings
        arguments = ["--data-dir", self._path(settings.mnist_dir or settings.data_dir)]
        if plan.dataset is not None:
            folder = settings.data_dir.resolve() / DATASETS
            in_file = is_dataset(folder, plan.dataset)
            if in_file and not (self.folder / DATASETS).is_symlink():
                (self.folder / DATASETS).symlink_to(folder)  # so that output names no path outside
            arguments += ["--dataset", f"{DATASETS}/{plan.dataset}" if in_file else plan.dataset]
        if isinstance(plan, TrainPlan) and plan.feedback_until is not None:
            shape = self.repository.versions(self.model)[0].meta.spec.input.shape
            self.feedback.write(self.model, plan.feedback_until, shape, self.folder / FEEDBACK)
            arguments += ["--feedback", FEEDBACK]
        return arguments

    def _version(self, number: int) -> str:
        folder, _ = self.repository.verified_folder(self.model, number)
        return self._path(folder)

    def _path(self, path: Path) -> str:
        return os.path.relpath(path.resolve(), self.folder)
