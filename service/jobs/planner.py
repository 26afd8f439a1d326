"""A request for a job -> its plan. Every mistake is reported before the job is queued."""

from dataclasses import dataclass

from perceptd.models.trainable import Trainable
from perceptd.service.errors import ConflictError, ModelNotFoundError
from perceptd.service.jobs.checks import RequestCheck, one_of
from perceptd.service.jobs.plans import DATASETS, ImportPlan, TrainPlan, is_dataset, plan_of
from perceptd.service.jobs.queue import Job
from perceptd.service.jobs.schemas import ImportCreate, JobCreate, TrainableModel
from perceptd.service.jobs.trainables import Trainables
from perceptd.service.settings import Settings
from perceptd.service.store.aliases import PRODUCTION
from perceptd.service.store.feedback import Feedback
from perceptd.service.store.repository import Repository
from perceptd.service.store.versions import Version, check_name

HYPERPARAMETERS = ("epochs", "learning_rate", "batch_size", "seed")
MAX_FILES = 10  # named in an error


@dataclass(frozen=True)
class Planner:
    repository: Repository
    feedback: Feedback
    trainables: Trainables
    settings: Settings

    def trainable(self, model: str) -> TrainableModel:
        """What a job may set for a model.

        Raises `ModelNotFoundError`, and `ConflictError` if no worker knows its architecture.
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

    def plan_training(self, request: JobCreate) -> TrainPlan:
        """Raises `InvalidInputError`, `ModelNotFoundError`, `ConflictError`."""
        versions = self.repository.versions(request.model)
        production = _production(request.model, versions)
        architecture = production.meta.architecture
        check = RequestCheck(None)
        trainable = self._trainable(architecture, check, "model")
        check = RequestCheck({"model": request.model, "recipe": next(iter(trainable.recipes))})
        if request.recipe not in trainable.recipes:
            raise check.refuse("recipe", one_of(trainable.recipes), request.recipe)
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

    def plan_import(self, model: str, request: ImportCreate, suffix: str) -> ImportPlan:
        """Raises `InvalidInputError`, and `ConflictError` for an invalid name of a model."""
        check_name(model)
        known_architectures = self.trainables.names()
        check = RequestCheck(
            f"curl -F file=@weights.pt -F architecture={known_architectures[0]} ..."
        )
        try:
            known = self.repository.versions(model)[0].meta.architecture
        except ModelNotFoundError:
            known = None
        architecture = request.architecture or known
        if architecture is None:
            expected = f"{one_of(known_architectures)}, for the new model {model}"
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

    def plan_reproduction(self, job: Job) -> TrainPlan:
        """The plan of a finished training, to run again. Raises `ConflictError` without one."""
        plan = plan_of(job)
        if not isinstance(plan, TrainPlan) or job.version is None:
            what = "an import" if job.kind == "import" else f"{job.status}, without a version"
            raise ConflictError(
                f"job {job.id} cannot be reproduced: it is {what}; expected a training that made a "
                "version"
            )
        threads = (job.progress or {}).get("threads")
        return plan.model_copy(update={"reproduces": job.id, "gate": "never", "threads": threads})

    def _trainable(self, architecture: str, check: RequestCheck, field: str) -> Trainable:
        trainable = self.trainables.find(architecture)
        if trainable is None:
            raise check.refuse(field, self._known_architectures(), architecture)
        return trainable

    def _known_architectures(self) -> str:
        return (
            f"{one_of(self.trainables.names())} (start a worker where a plug-in is installed to "
            "make its architectures known)"
        )

    def _parent(
        self, request: JobCreate, production: Version, versions: list[Version], check: RequestCheck
    ) -> Version | None:
        if request.start_from == "scratch":
            return None
        if request.start_from == "production":
            return production
        found = [version for version in versions if version.version == request.start_from]
        if not found or found[0].meta.architecture != production.meta.architecture:
            numbers = ", ".join(str(version.version) for version in reversed(versions))
            raise check.refuse(
                "start_from", f"scratch, production or a version ({numbers})", request.start_from
            )
        return found[0]

    def _dataset(self, name: str | None, trainable: Trainable, check: RequestCheck) -> str | None:
        if name is None or name in trainable.datasets:
            return name
        files = self._dataset_files()
        if name in files:
            return name
        in_store = ", ".join(files[:MAX_FILES]) or "none"
        expected = (
            f"{one_of(trainable.datasets)} or a CSV or NPZ file in {DATASETS}/ of the store "
            f"({in_store})"
        )
        raise check.refuse("dataset", expected, name)

    def _dataset_files(self) -> list[str]:
        """The CSV and NPZ files in the store's folder of data sets, by name."""
        folder = self.settings.data_dir / DATASETS
        return sorted(path.name for path in folder.glob("*") if is_dataset(folder, path.name))


def _production(model: str, versions: list[Version]) -> Version:
    """The version in production. Raises `ConflictError` without one."""
    for version in versions:
        if PRODUCTION in version.aliases:
            return version
    raise ConflictError(f"{model} has no production version: promote one first")
