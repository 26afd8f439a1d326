"""The answer of `GET /models/{model}/drift`."""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, Field

from perceptd.service.schemas.responses import example

Unwatched = Literal["no_reference", "off", "failed"]
SHARES = [0.001, *[0.1] * 8, 0.099, 0.099, 0.001]


class FeatureDrift(BaseModel):
    """One feature of the inputs. Bins lie between and beyond the edges, lower edge included."""

    name: str
    psi: float = Field(description="Population stability index; 0 if all shares are equal.")
    threshold: float = Field(
        description="The feature has drifted if its PSI is higher: 0.25, more while rows are few, "
        "a fifth less while a drift lasts."
    )
    drifted: bool
    edges: list[float]
    expected: list[float] = Field(description="Share of the training rows in each bin.")
    observed: list[float] = Field(description="Share of the counted rows in each bin.")


class PredictionDrift(BaseModel):
    """The predicted classes. They do not affect the verdict, as they depend on the callers."""

    psi: float
    threshold: float
    drifted: bool
    expected: dict[str, float] = Field(description="Share of each label in training.")
    observed: dict[str, float] = Field(description="Share of each label among the counted rows.")


class DriftPublic(BaseModel):
    """The latest rows of a version, compared with its training rows."""

    model_config = example(
        model="mnist-cnn",
        version=1,
        verdict="drifted",
        since="2026-01-31T12:00:00Z",
        hint="ink: the inputs are not like those of the training",
        rows=1000,
        window=4000,
        features=[
            {
                "name": "ink",
                "psi": 7.1,
                "threshold": 0.95,
                "drifted": True,
                "edges": [0.04, 0.08, 0.09, 0.11, 0.12, 0.13, 0.14, 0.15, 0.17, 0.19, 0.29],
                "expected": SHARES,
                "observed": [*[0.0] * 11, 1.0],
            }
        ],
        predictions={
            "psi": 1.4,
            "threshold": 0.86,
            "drifted": True,
            "expected": {"1": 0.11, "8": 0.1},
            "observed": {"1": 0.02, "8": 0.91},
        },
    )

    model: str
    version: int
    verdict: Literal["collecting", "stable", "drifted"] | Unwatched = Field(
        description="`collecting` until there are enough rows; `no_reference` if the checkpoint "
        "has no statistics of its training data; `off` if `PERCEPTD_DRIFT` is 0; `failed` if the "
        "counts could not be stored."
    )
    since: datetime | None = Field(description="When the verdict last changed.")
    hint: str = Field(description="The verdict in words.")
    rows: int = Field(description="Rows that were counted, by all processes.")
    window: int = Field(description="About the maximum of `rows`.")
    features: list[FeatureDrift]
    predictions: PredictionDrift | None = Field(
        description="Null for a model with more than 100 labels."
    )
