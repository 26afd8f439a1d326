"""What a job does, with every default filled in.

A plan names everything that the result depends on, so that any worker can resume it and a later job
can reproduce it.
"""

import re
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from perceptd.service.jobs.gate import GateChoice
from perceptd.service.jobs.queue import Job

DATASETS = "datasets"  # the folder of the store with data sets in files
DATASET_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}\.(csv|npz)")


class TrainPlan(BaseModel):
    """Everything that the weights of a training depend on, and its gate."""

    architecture: str
    recipe: str
    dataset: str | None  # None: the recipe's own
    config: dict[str, Any]
    epochs: int
    learning_rate: float
    batch_size: int | None
    seed: int
    start_from: int | None  # a version; None: random weights
    feedback_until: int | None  # id of the newest feedback row to use
    gate: GateChoice
    greater_is_better: bool
    max_runtime_s: float
    threads: int | None = None  # None: the default of the first worker
    reproduces: int | None = None  # id of a job


class ImportPlan(BaseModel):
    """Everything that an import of weights depends on, and its gate."""

    architecture: str
    config: dict[str, Any]
    dataset: str | None
    upload: str = ""  # name of the file in the folder of jobs
    suffix: str
    gate: GateChoice
    greater_is_better: bool
    max_runtime_s: float


Plan = TrainPlan | ImportPlan


def plan_of(job: Job) -> Plan:
    return (TrainPlan if job.kind == "train" else ImportPlan).model_validate(job.plan)


def is_dataset(folder: Path, name: str) -> bool:
    """Whether a folder of data sets has a file of this name; links to outside do not count."""
    if not DATASET_FILE.fullmatch(name):
        return False
    path = folder / name
    return path.is_file() and path.resolve().is_relative_to(folder.resolve())
