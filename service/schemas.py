"""Response bodies. Those of requests depend on the model: see `service/request_schemas.py`."""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, Field

from models.checkpoint import CurvePoint, DatasetRef
from models.spec import InputSpec
from service.errors import FieldError


class Prediction(BaseModel):
    label: str
    index: int = Field(description="Position of the label in the model's `labels`.")


class PredictResponse(BaseModel):
    model: str
    version: int
    predictions: list[Prediction]


class ProbabilityPrediction(Prediction):
    probabilities: dict[str, float] = Field(description="By label; they sum to 1.")


class PredictProbaResponse(BaseModel):
    model: str
    version: int
    predictions: list[ProbabilityPrediction]


class ModelPublic(BaseModel):
    """A model that serves, and a body for `/predict` that works."""

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


class ModelsPublic(BaseModel):
    models: list[ModelPublic]
    failures: dict[str, str] = Field(description="Models that should serve and cannot, and why.")


class VersionPublic(BaseModel):
    """One version in a list."""

    model: str
    version: int
    aliases: list[str]
    created_at: datetime
    sha256: str = Field(description="SHA-256 of the weights file.")
    parent: int | None = Field(description="The version whose weights the training began with.")
    metrics: dict[str, dict[str, float]]


class VersionDetail(VersionPublic):
    """Where a version comes from: everything needed to make it again."""

    architecture: str
    config: dict[str, Any]
    recipe: dict[str, Any] | None
    dataset: DatasetRef | None
    curve: list[CurvePoint]
    libraries: dict[str, str]
    git_commit: str | None
    plots: list[str] = Field(description="Paths of the pictures made when it was trained.")


class VersionsPublic(BaseModel):
    versions: list[VersionPublic]


class Live(BaseModel):
    status: Literal["live"] = "live"


class Ready(BaseModel):
    status: Literal["ready"] = "ready"
    models: dict[str, int] = Field(description="The production version of each model.")


class ProblemBody(BaseModel):
    """RFC 9457 problem details, as every error of the native routes answers."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    instance: str
    code: str
    errors: list[FieldError] | None = None
    example: Any = None
