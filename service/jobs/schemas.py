"""Bodies of the routes about jobs."""

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    FiniteFloat,
    PositiveInt,
    Tag,
    model_validator,
)

from perceptd.models.checkpoint import CurvePoint
from perceptd.models.trainable import BatchSize, Epochs, LearningRate, Seed, Trainable
from perceptd.service.jobs.gate import Gate, Verdict
from perceptd.service.jobs.queue import Kind, Promotion, Status
from perceptd.service.schemas.models import PlaneData
from perceptd.service.schemas.responses import example

MAX_SIZE = 64  # points per axis of a boundary that is told
MAX_RUNTIME_S = 31_536_000
Runtime = Annotated[float, Field(gt=0, le=MAX_RUNTIME_S, allow_inf_nan=False)]


def _one_of(words: tuple[str, ...], kind: tuple[type, ...]) -> Callable[[Any], str | None]:
    """The tag of a value in a union of some words and something else; None for neither."""

    def choose(value: Any) -> str | None:
        if isinstance(value, str):
            return "word" if value in words else None
        return "value" if isinstance(value, kind) and not isinstance(value, bool) else None

    return choose


GateField = Annotated[
    Annotated[Gate, Tag("value")] | Annotated[Literal["always", "never"], Tag("word")],
    Discriminator(
        _one_of(("always", "never"), (dict, Gate)),
        "gate_type",
        "Input should be 'always', 'never' or an object",
    ),
]
StartFrom = Annotated[
    Annotated[PositiveInt, Tag("value")] | Annotated[Literal["scratch", "production"], Tag("word")],
    Discriminator(
        _one_of(("scratch", "production"), (int,)),
        "start_from_type",
        "Input should be 'scratch', 'production' or a version",
    ),
]


class JobCreate(BaseModel):
    """A retraining. Whatever is left out comes from the recipe and from production."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={"examples": [{"model": "dnn", "recipe": "fast", "epochs": 150}]},
    )

    model: str = Field(description="A model that serves.")
    recipe: str = Field("reference", description="`reference` or `fast`, or a plug-in's own.")
    config: dict[str, Any] = Field({}, description="Changes to the network's settings.")
    epochs: Epochs | None = None
    learning_rate: LearningRate | None = None
    batch_size: BatchSize | None = None
    seed: Seed | None = None
    dataset: str | None = Field(
        None,
        description="A data set by name, or a CSV or NPZ file in `datasets` of the store.",
    )
    start_from: StartFrom = Field("scratch", description="Whose weights to begin with.")
    include_feedback: bool = Field(False, description="Train on the corrected labels as well.")
    gate: GateField = Field(Gate(), description="What the result must do to become production.")
    max_runtime_s: Runtime | None = Field(None, description="Seconds, over all attempts.")


class TrainableModel(Trainable):
    """What a job may set for a model."""

    model_config = example(
        model="dnn",
        architecture="dnn",
        config={
            "type": "object",
            "properties": {"hidden": {"type": "integer", "minimum": 1, "maximum": 4096}},
            "additionalProperties": False,
        },
        recipes={"fast": {"dataset": "circles", "learning_rate": 0.2, "epochs": 150, "seed": 1}},
        datasets=["blobs", "circles", "xor", "mine.csv"],
        metrics={"loss": False, "accuracy": True},
        current={"hidden": 4},
        feedback=218,
    )

    model: str
    datasets: list[str] = Field(
        description="Data sets that fit it by name, and the files in `datasets` of the store."
    )
    current: dict[str, Any] = Field(description="The settings of the production version.")
    feedback: int = Field(description="Rows with corrected labels that are kept.")


class ImportCreate(BaseModel):
    """The fields of a form that brings weights, besides its `file`."""

    model_config = ConfigDict(extra="forbid")

    architecture: str | None = Field(None, description="Needed for a model that is not there yet.")
    config: dict[str, Any] = {}
    dataset: str | None = None
    gate: GateField = "never"


class JobProgress(BaseModel):
    """How far a training is."""

    epoch: int
    epochs: int
    loss: FiniteFloat
    test_loss: FiniteFloat
    test_accuracy: FiniteFloat
    seconds: FiniteFloat = Field(description="Since it began, over all attempts.")
    seconds_left: FiniteFloat = Field(description="An estimate.")


class JobBoundary(BaseModel):
    """How a model divides the plane after an epoch, on a square grid that fills it.

    Row by row from low to high y, each from low to high x, the corners included.
    """

    epoch: Epochs
    size: int = Field(ge=2, le=MAX_SIZE, description="Points per axis.")
    probabilities: list[Annotated[int, Field(ge=0, le=255)]] = Field(
        max_length=MAX_SIZE**2, description="Of the second label, in 255ths."
    )

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if len(self.probabilities) != self.size**2:
            raise ValueError(f"{len(self.probabilities)} probabilities, not {self.size**2}")
        return self


# What a training tells for those who draw it, by the kind of its events.
DRAWN: dict[str, type[BaseModel]] = {"plane": PlaneData, "boundary": JobBoundary}


class Reproduction(BaseModel):
    """Whether a job, done again, gave the same weights."""

    of: int = Field(description="The job that was done again.")
    same: bool
    sha256: str
    expected_sha256: str
    same_data: bool


JOB_EXAMPLE: dict[str, Any] = {
    "id": 7,
    "kind": "train",
    "model": "dnn",
    "status": "succeeded",
    "promotion": "promoted",
    "reason": "accuracy 0.9540 is at least as good as production's 0.9530",
    "version": 2,
    "created_at": "2026-01-31T12:00:00Z",
    "started_at": "2026-01-31T12:00:00Z",
    "finished_at": "2026-01-31T12:00:09Z",
    "runtime_s": 8.1,
    "attempts": 1,
    "request": {"model": "dnn", "recipe": "fast"},
    "progress": {
        "epoch": 150,
        "epochs": 150,
        "loss": 0.11,
        "test_loss": 0.15,
        "test_accuracy": 0.954,
        "seconds": 0.4,
        "seconds_left": 0.0,
    },
    "gate": {
        "passed": True,
        "reason": "accuracy 0.9540 is at least as good as production's 0.9530",
        "metric": "accuracy",
        "candidate": 0.954,
        "production": 0.953,
        "production_version": 1,
        "dataset": "circles",
        "rows": 1000,
    },
}


class JobPublic(BaseModel):
    """One job in a list."""

    model_config = example(**JOB_EXAMPLE)

    id: int
    kind: Kind
    model: str
    status: Status
    promotion: Promotion | None = Field(None, description="Of a job that succeeded.")
    reason: str | None = Field(None, description="Why it was promoted or not, failed or waits.")
    code: str | None = Field(None, description="What kind of failure it was.")
    version: int | None = Field(None, description="The version that came out of it.")
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    runtime_s: float = Field(description="Seconds of work, over all attempts.")
    attempts: int
    request: dict[str, Any] = Field(description="What was asked for.")
    progress: JobProgress | None = None
    gate: Verdict | None = None
    reproduction: Reproduction | None = None


class JobDetail(JobPublic):
    """One job, with the plan that its request led to."""

    model_config = example(
        **JOB_EXAMPLE,
        plan={"architecture": "dnn", "recipe": "fast", "seed": 1, "config": {"hidden": 4}},
        curve=[{"epoch": 150, "loss": 0.11, "test_loss": 0.15, "test_accuracy": 0.954}],
        log=[],
    )

    plan: dict[str, Any] = Field(description="The request with every default filled in.")
    curve: list[CurvePoint] = Field(description="Every evaluated epoch so far.")
    log: list[str] = Field(description="The last lines of a training that failed.")


class JobsPublic(BaseModel):
    model_config = example(jobs=[JOB_EXAMPLE], after=7)

    jobs: list[JobPublic] = Field(description="Newest first.")
    after: int | None = Field(description="Asks for the next page; null on the last.")
