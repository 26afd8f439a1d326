"""A request for a job -> its plan: every default filled in, every mistake told before it is queued.

A plan names everything that the result depends on, so that it can be gone on with by any worker
and done again later.
"""

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator, TypeChecker
from jsonschema.exceptions import ValidationError
from jsonschema.validators import extend
from pydantic import BaseModel

from perceptd.models.trainable import Trainable
from perceptd.service.errors import (
    ConflictError,
    FieldError,
    InvalidInputError,
    ModelNotFoundError,
)
from perceptd.service.jobs.gate import Gate, GateChoice
from perceptd.service.jobs.queue import Job
from perceptd.service.jobs.schemas import ImportCreate, JobCreate, TrainableModel
from perceptd.service.jobs.trainables import Trainables
from perceptd.service.schemas.validation import shown
from perceptd.service.settings import Settings
from perceptd.service.store.aliases import PRODUCTION
from perceptd.service.store.feedback import Feedback
from perceptd.service.store.repository import Repository, Version, check_name

HYPERPARAMETERS = ("epochs", "learning_rate", "batch_size", "seed")
DATASET_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}\.(csv|npz)")
DATASETS = "datasets"  # the folder of the store that holds data sets in files


class TrainPlan(BaseModel):
    """Everything that a training's weights depend on, and how they are judged."""

    architecture: str
    recipe: str
    dataset: str | None  # None: the recipe's own
    config: dict[str, Any]
    epochs: int
    learning_rate: float
    batch_size: int | None
    seed: int
    start_from: int | None  # a version; None: from scratch
    feedback_until: int | None  # the newest row of feedback to train on
    gate: GateChoice
    greater_is_better: bool
    max_runtime_s: float
    threads: int | None = None  # None: as many as the first worker gives
    reproduces: int | None = None  # a job


class ImportPlan(BaseModel):
    """Foreign weights, and how they are judged."""

    architecture: str
    config: dict[str, Any]
    dataset: str | None
    upload: str = ""  # the file's name in the folder of jobs
    suffix: str
    gate: GateChoice
    greater_is_better: bool
    max_runtime_s: float


Plan = TrainPlan | ImportPlan


def is_dataset(folder: Path, name: str) -> bool:
    """Whether a folder of data sets has a file of that name; one that it only links to is not in
    it.
    """
    if not DATASET_FILE.fullmatch(name):
        return False
    path = folder / name
    return path.is_file() and path.resolve().is_relative_to(folder.resolve())


def plan_of(job: Job) -> Plan:
    return (TrainPlan if job.kind == "train" else ImportPlan).model_validate(job.plan)


@dataclass(frozen=True)
class Planner:
    repository: Repository
    feedback: Feedback
    trainables: Trainables
    settings: Settings

    def trainable(self, model: str) -> TrainableModel:
        """What a job may set for a model.

        Raises `ModelNotFoundError`, and `ConflictError` where no worker knows its architecture.
        """
        production = _production(model, self.repository.versions(model))
        architecture = production.meta.architecture
        trainable = self.trainables.find(architecture)
        if trainable is None:
            raise ConflictError(
                f"no worker can train {model}: its architecture {architecture} is not "
                f"{self._known_architectures()}"
            )
        return TrainableModel(
            **{**dict(trainable), "datasets": [*trainable.datasets, *self._dataset_files()]},
            model=model,
            current=production.meta.config,
            feedback=self.feedback.count(model),
        )

    def training(self, request: JobCreate) -> TrainPlan:
        """Raises `InvalidInputError`, `ModelNotFoundError`, `ConflictError`."""
        versions = self.repository.versions(request.model)
        production = _production(request.model, versions)
        architecture = production.meta.architecture
        check = _Check(None)
        trainable = self._trainable(architecture, check, "model")
        check = _Check({"model": request.model, "recipe": next(iter(trainable.recipes))})
        if request.recipe not in trainable.recipes:
            raise check.refuse("recipe", _one_of(trainable.recipes), request.recipe)
        recipe = trainable.recipes[request.recipe]
        parent = self._parent(request, production, versions, check)
        base = (parent or production).meta.config
        config = {**base, **request.config}
        check.config(trainable, config)
        if parent and config != base:
            expected = f"the settings of version {parent.version}, whose weights it starts from"
            raise check.refuse("config", expected, request.config)
        given = request.model_dump(include=set(HYPERPARAMETERS), exclude_none=True)
        hyperparameters = {name: recipe[name] for name in HYPERPARAMETERS} | given
        return TrainPlan(
            architecture=architecture,
            recipe=request.recipe,
            dataset=self._dataset(request.dataset, trainable, check),
            config=config,
            **hyperparameters,
            start_from=parent.version if parent else None,
            feedback_until=(
                self.feedback.newest(request.model) if request.include_feedback else None
            ),
            gate=request.gate,
            greater_is_better=check.gate(trainable, request.gate),
            max_runtime_s=request.max_runtime_s or self.settings.max_job_s,
        )

    def importing(self, model: str, request: ImportCreate, suffix: str) -> ImportPlan:
        """Raises `InvalidInputError`, `ConflictError` for a name that is none."""
        check_name(model)
        known_architectures = self.trainables.names()
        check = _Check(f"curl -F file=@weights.pt -F architecture={known_architectures[0]} ...")
        try:
            known = self.repository.versions(model)[0].meta.architecture
        except ModelNotFoundError:
            known = None
        architecture = request.architecture or known
        if architecture is None:
            expected = f"{_one_of(known_architectures)}, for the new model {model}"
            raise check.refuse("architecture", expected, None)
        if known and architecture != known:
            raise check.refuse("architecture", f"{known}, as {model} has", architecture)
        trainable = self._trainable(architecture, check, "architecture")
        check.config(trainable, request.config)
        return ImportPlan(
            architecture=architecture,
            config=request.config,
            dataset=self._dataset(request.dataset, trainable, check),
            suffix=suffix,
            gate=request.gate,
            greater_is_better=check.gate(trainable, request.gate),
            max_runtime_s=self.settings.max_job_s,
        )

    def reproduction(self, job: Job) -> TrainPlan:
        """The plan of a job that succeeded, to be done again. Raises `ConflictError`."""
        plan = plan_of(job)
        if not isinstance(plan, TrainPlan) or job.version is None:
            what = "an import" if job.kind == "import" else f"{job.status}, without a version"
            raise ConflictError(
                f"job {job.id} cannot be done again: it is {what}; only trainings that made a "
                "version can"
            )
        threads = (job.progress or {}).get("threads")
        return plan.model_copy(update={"reproduces": job.id, "gate": "never", "threads": threads})

    def _trainable(self, architecture: str, check: "_Check", field: str) -> Trainable:
        trainable = self.trainables.find(architecture)
        if trainable is None:
            raise check.refuse(field, self._known_architectures(), architecture)
        return trainable

    def _known_architectures(self) -> str:
        return (
            f"{_one_of(self.trainables.names())} (a package's own is known once a worker was "
            "started where it is installed)"
        )

    def _parent(
        self, request: JobCreate, production: Version, versions: list[Version], check: "_Check"
    ) -> Version | None:
        if request.start_from == "scratch":
            return None
        if request.start_from == "production":
            return production
        found = [one for one in versions if one.version == request.start_from]
        if not found or found[0].meta.architecture != production.meta.architecture:
            numbers = ", ".join(str(one.version) for one in reversed(versions))
            raise check.refuse(
                "start_from", f"scratch, production or a version ({numbers})", request.start_from
            )
        return found[0]

    def _dataset(self, name: str | None, trainable: Trainable, check: "_Check") -> str | None:
        if name is None or name in trainable.datasets:
            return name
        there = self._dataset_files()
        if name in there:
            return name
        files = f"a CSV or NPZ file in {DATASETS}/ of the store ({', '.join(there[:10]) or 'none'})"
        raise check.refuse("dataset", f"{_one_of(trainable.datasets)} or {files}", name)

    def _dataset_files(self) -> list[str]:
        """The CSV and NPZ files in the store's folder of data sets."""
        folder = self.settings.data_dir / DATASETS
        return sorted(path.name for path in folder.glob("*") if is_dataset(folder, path.name))


@dataclass(frozen=True)
class _Check:
    """Refuses what is wrong with a request, with an example that works where there is one."""

    example: Any

    def refuse(self, field: str, expected: str, got: object) -> InvalidInputError:
        return self._refused([field], expected, "nothing" if got is None else shown(got))

    def config(self, trainable: Trainable, config: dict[str, Any]) -> None:
        """Check settings against the schema of the architecture's config."""
        validator = _Validator(trainable.config)
        for error in sorted(validator.iter_errors(config), key=lambda error: list(error.path)):
            loc = ["config", *error.absolute_path]
            if error.validator == "additionalProperties":
                known = error.schema.get("properties", {})
                name = next(name for name in error.instance if name not in known)
                expected = f"no setting of this name (known: {', '.join(known) or 'none'})"
                raise self._refused([*loc, name], expected, shown(error.instance[name]))
            raise self._refused(loc, _expected(error), shown(error.instance))

    def gate(self, trainable: Trainable, gate: GateChoice) -> bool:
        """Whether more of the gate's metric is better."""
        if not isinstance(gate, Gate):
            return True
        if gate.metric not in trainable.metrics:
            raise self._refused(["gate", "metric"], _one_of(trainable.metrics), shown(gate.metric))
        if gate.greater_is_better is not None:
            return gate.greater_is_better
        return trainable.metrics[gate.metric]

    def _refused(self, loc: list[str | int], expected: str, got: str) -> InvalidInputError:
        return InvalidInputError.of([FieldError(loc=loc, expected=expected, got=got)], self.example)


def _production(model: str, versions: list[Version]) -> Version:
    """The one in production. Raises `ConflictError` where none is."""
    for version in versions:
        if PRODUCTION in version.aliases:
            return version
    raise ConflictError(f"{model} has no production version: promote one first")


def _one_of(names: Any) -> str:
    return f"one of {', '.join(names)}"


def _is_number(checker: TypeChecker, value: object) -> bool:
    """JSON has no NaN and no infinities, which Python's reader lets pass."""
    known = Draft202012Validator.TYPE_CHECKER
    finite = not isinstance(value, float) or math.isfinite(value)
    return finite and known.is_type(value, "number")


_Validator = extend(  # type: ignore[no-untyped-call]
    Draft202012Validator,
    type_checker=Draft202012Validator.TYPE_CHECKER.redefine("number", _is_number),
)
_PHRASES = {
    "maximum": "at most {}",
    "minimum": "at least {}",
    "exclusiveMaximum": "less than {}",
    "exclusiveMinimum": "more than {}",
    "minItems": "at least {} values",
    "maxItems": "at most {} values",
    "enum": "one of {}",
    "const": "{}",
    "type": "{}",
}


def _expected(error: ValidationError) -> str:
    """What a JSON Schema asks for, in a few words."""
    phrase = _PHRASES.get(str(error.validator))
    if phrase is None:
        return error.message
    value = error.validator_value
    if isinstance(value, list):
        value = ", ".join(item if isinstance(item, str) else json.dumps(item) for item in value)
    return phrase.format(value)
