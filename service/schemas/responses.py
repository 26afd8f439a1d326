"""Bodies of answers that tell of predictions, feedback, health and errors."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from perceptd.service.errors import FieldError


def example(**fields: Any) -> ConfigDict:
    """The config of a class whose example in the OpenAPI document has these fields."""
    return ConfigDict(json_schema_extra={"examples": [fields]})


SEVEN = {"label": "7", "index": 7}


class Prediction(BaseModel):
    label: str
    index: int = Field(description="Position of the label in the model's `labels`.")


class PredictResponse(BaseModel):
    model_config = example(model="mnist-cnn", version=1, predictions=[SEVEN])

    model: str
    version: int
    predictions: list[Prediction]


class ProbabilityPrediction(Prediction):
    probabilities: dict[str, float] = Field(description="Probability of each label; the sum is 1.")


class PredictProbaResponse(BaseModel):
    model_config = example(
        model="dnn",
        version=1,
        predictions=[{"label": "1", "index": 1, "probabilities": {"0": 0.0116, "1": 0.9884}}],
    )

    model: str
    version: int
    predictions: list[ProbabilityPrediction]


class PredictImageResponse(PredictProbaResponse):
    """The answer of `/predict_proba` for the one row that the picture became."""

    model_config = example(
        model="mnist-cnn",
        version=1,
        predictions=[{**SEVEN, "probabilities": {"1": 0.0008, "7": 0.9992}}],
        pixels=[0, 0, 96, 255, 41, 0],
    )

    pixels: list[Annotated[int, Field(ge=0, le=255)]] | None = Field(
        None,
        description="The pixels that the network received, row by row: 0 is the background, 255 "
        "the ink. Present only with `pixels=true`.",
    )


class FeedbackPublic(BaseModel):
    model_config = example(model="mnist-cnn", kept=1, total=218)

    model: str
    kept: int = Field(description="Number of rows in this request.")
    total: int = Field(description="Number of rows stored for this model so far.")


class Live(BaseModel):
    model_config = example(status="live")

    status: Literal["live"] = "live"


class Ready(BaseModel):
    model_config = example(status="ready", models={"dnn": 1, "mnist-cnn": 3})

    status: Literal["ready"] = "ready"
    models: dict[str, int] = Field(description="The production version of each model.")


class ProblemBody(BaseModel):
    """RFC 9457 problem details: the body of every error of the native routes."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    instance: str
    code: str
    errors: list[FieldError] | None = None
    example: Any = None
