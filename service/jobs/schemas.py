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

MAX_SIZE = 64  # points per axis of a boundary
MAX_RUNTIME_S = 31_536_000
Runtime = Annotated[float, Field(gt=0, le=MAX_RUNTIME_S, allow_inf_nan=False)]


def _one_of(words: tuple[str, ...], kind: tuple[type, ...]) -> Callable[[Any], str | None]:
    """Tags a value of a union: one of some words, or of some types; None for neither."""

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
    """A training. Fields that are left out come from the recipe and from production."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={"examples": [{"model": "dnn", "recipe": "fast", "epochs": 150}]},
    )

    model: str = Field(description="A model that serves.")
    recipe: str = Field("reference", description="`reference`, `fast` or one of a plug-in.")
    config: dict[str, Any] = Field({}, description="Changes to the network's settings.")
    epochs: Epochs | None = None
    learning_rate: LearningRate | None = None
    batch_size: BatchSize | None = None
    seed: Seed | None = None
    dataset: str | None = Field(
        None,
        description="A data set by name, or a CSV or NPZ file in `datasets` of the store.",
    )
    start_from: StartFrom = Field("scratch", description="The initial weights.")
    include_feedback: bool = Field(False, description="Also train on the corrected labels.")
    gate: GateField = Field(Gate(), description="The condition for promotion.")
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
        description="Named data sets that fit, and the files in `datasets` of the store."
    )
    current: dict[str, Any] = Field(description="The settings of the production version.")
    feedback: int = Field(description="Rows with corrected labels in the store.")


class ImportCreate(BaseModel):
    """The fields of an upload of weights, besides its `file`."""

    model_config = ConfigDict(extra="forbid")

    architecture: str | None = Field(None, description="Required for a new model.")
    config: dict[str, Any] = {}
    dataset: str | None = None
    gate: GateField = "never"


class JobProgress(BaseModel):
    """The progress of a training."""

    epoch: int
    epochs: int
    loss: FiniteFloat
    test_loss: FiniteFloat
    test_accuracy: FiniteFloat
    seconds: FiniteFloat = Field(description="Since the training began, over all attempts.")
    seconds_left: FiniteFloat = Field(description="An estimate.")


class JobBoundary(BaseModel):
    """The probabilities of a 2-D model after an epoch, on a square grid over its plane.

    Row by row from low to high y, each from low to high x, including the corners.
    """

    epoch: Epochs
    size: int = Field(ge=2, le=MAX_SIZE, description="Points per axis.")
    probabilities: list[Annotated[int, Field(ge=0, le=255)]] = Field(
        max_length=MAX_SIZE**2, description="Probability of the second label, times 255."
    )

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if len(self.probabilities) != self.size**2:
            raise ValueError(f"{len(self.probabilities)} probabilities, not {self.size**2}")
        return self


# Events for drawing a training, by kind.
DRAWN: dict[str, type[BaseModel]] = {"plane": PlaneData, "boundary": JobBoundary}


class Reproduction(BaseModel):
    """Whether a job that ran again gave the same weights."""

    of: int = Field(description="The job that ran again.")
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
    code: str | None = Field(None, description="The kind of failure.")
    version: int | None = Field(None, description="The version that the job made.")
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    runtime_s: float = Field(description="Seconds of work, over all attempts.")
    attempts: int
    request: dict[str, Any] = Field(description="The request as it was sent.")
    progress: JobProgress | None = None
    gate: Verdict | None = None
    reproduction: Reproduction | None = None


class JobDetail(JobPublic):
    """One job with its plan."""

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
    after: int | None = Field(description="The `after` of the next page; null on the last.")
