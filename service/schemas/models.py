"""Bodies of the routes about models and their versions."""

from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    FiniteFloat,
    PositiveInt,
    model_validator,
)

from perceptd.models.checkpoint import MAX_PLANE_POINTS, CurvePoint, DatasetRef
from perceptd.models.spec import InputSpec
from perceptd.service.schemas.requests import whole
from perceptd.service.schemas.responses import example

METRICS = {"test": {"loss": 0.0285, "accuracy": 0.9911}}
MODEL_EXAMPLE: dict[str, Any] = {
    "name": "mnist-cnn",
    "description": "Reads a handwritten digit with two convolutions.",
    "architecture": "mnist-cnn",
    "version": 2,
    "labels": list("0123456789"),
    "input": {
        "name": "x",
        "shape": [1, 28, 28],
        "minimum": 0.0,
        "maximum": 1.0,
        "picture": [28, 28],
    },
    "example": {"model": "mnist-cnn", "dtype": "uint8", "inputs": [[0] * 784]},
    "metrics": METRICS,
    "device": "cpu",
    "runtime": "onnx",
    "max_rows": 1024,
}
VERSION_EXAMPLE: dict[str, Any] = {
    "model": "mnist-cnn",
    "version": 2,
    "aliases": ["production"],
    "created_at": "2026-01-31T12:00:00Z",
    "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "parent": 1,
    "job": 7,
    "metrics": METRICS,
}


class ModelPublic(BaseModel):
    """A model that serves, with a valid body for `/predict`."""

    model_config = example(**MODEL_EXAMPLE)

    name: str
    description: str
    architecture: str
    version: int
    labels: list[str]
    input: InputSpec
    example: dict[str, Any]
    metrics: dict[str, dict[str, float]]
    device: str
    runtime: str
    max_rows: int = Field(description="Maximum number of rows in one request.")


class ModelsPublic(BaseModel):
    model_config = example(models=[MODEL_EXAMPLE], failures={})

    models: list[ModelPublic]
    failures: dict[str, str] = Field(
        description="Why a model with a production version cannot serve, by model."
    )


class AliasPut(BaseModel):
    model_config = ConfigDict(
        extra="forbid", strict=True, json_schema_extra={"examples": [{"version": 1}]}
    )

    version: Annotated[PositiveInt, BeforeValidator(whole)]


class VersionPublic(BaseModel):
    """One version in a list."""

    model_config = example(**VERSION_EXAMPLE)

    model: str
    version: int
    aliases: list[str]
    created_at: datetime
    sha256: str = Field(description="SHA-256 of the weights file.")
    parent: int | None = Field(description="The version whose weights the training started from.")
    job: int | None = Field(description="The job that made this version.")
    metrics: dict[str, dict[str, float]]


class VersionsPublic(BaseModel):
    model_config = example(versions=[VERSION_EXAMPLE])

    versions: list[VersionPublic]


class VersionDetail(VersionPublic):
    """One version with its lineage: everything needed to train it again."""

    model_config = example(
        **VERSION_EXAMPLE,
        architecture="mnist-cnn",
        config={"channels": [32, 64], "activation": "relu"},
        recipe={"dataset": "mnist", "optimizer": "adam", "learning_rate": 0.001, "seed": 777},
        dataset={"name": "mnist", "sha256": "ab" * 32, "rows": {"train": 60000, "test": 10000}},
        curve=[{"epoch": 15, "loss": 0.006, "test_loss": 0.0285, "test_accuracy": 0.9911}],
        libraries={"torch": "2.14.1"},
        git_commit="0f" * 20,
        parent_sha256="cd" * 32,
        plots=["/models/mnist-cnn/versions/2/plots/loss.svg"],
    )

    architecture: str
    config: dict[str, Any]
    recipe: dict[str, Any] | None
    dataset: DatasetRef | None
    curve: list[CurvePoint]
    libraries: dict[str, str]
    git_commit: str | None
    parent_sha256: str | None = Field(
        description="SHA-256 of the weights that the training started from."
    )
    plots: list[str] = Field(
        description="Paths of the plots made after the training; the boundary's points are JSON."
    )


Pair = Annotated[list[FiniteFloat], Field(min_length=2, max_length=2)]


class PlaneData(BaseModel):
    """The input plane of a 2-D model with two labels, and training rows on it."""

    model_config = example(
        x=[-1.5, 1.5],
        y=[-1.5, 1.5],
        points=[[0.31, -0.78], [1.02, 0.11]],
        targets=[0, 1],
    )

    x: Pair = Field(description="Lowest and highest x shown; the same for y.")
    y: Pair
    points: list[Pair] = Field(max_length=MAX_PLANE_POINTS)
    targets: list[Literal[0, 1]] = Field(
        max_length=MAX_PLANE_POINTS,
        description="For each point, the position of its label in `labels`.",
    )

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if not (self.x[0] < self.x[1] and self.y[0] < self.y[1]):
            raise ValueError("the plane has no extent")
        if len(self.points) != len(self.targets):
            raise ValueError(f"{len(self.points)} points, {len(self.targets)} targets")
        return self
