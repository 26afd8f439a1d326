"""What `GET /models/{model}/drift` answers."""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, Field

from perceptd.service.schemas.responses import example

Unwatched = Literal["no_reference", "off", "failed"]
SHARES = [0.001, *[0.1] * 8, 0.099, 0.099, 0.001]


class FeatureDrift(BaseModel):
    """One figure of the inputs. Bins are between and beyond the edges, the lower one included."""

    name: str
    psi: float = Field(description="Population stability index; 0 where the shares are equal.")
    threshold: float = Field(
        description="Above which that is a drift: 0.25, and more while rows are few; a "
        "fifth less while a drift lasts."
    )
    drifted: bool
    edges: list[float]
    expected: list[float] = Field(description="Share of the training rows in each bin.")
    observed: list[float] = Field(description="Share of the rows looked at.")


class PredictionDrift(BaseModel):
    """The predicted classes. They may change with who asks, and decide nothing."""

    psi: float
    threshold: float
    drifted: bool
    expected: dict[str, float] = Field(description="Share of each label in training.")
    observed: dict[str, float] = Field(description="Share among the rows looked at.")


class DriftPublic(BaseModel):
    """How the latest rows of a version compare with those that it was trained on."""

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
        description="`collecting` until there are rows enough; `no_reference` where the checkpoint "
        "does not say what it was trained on; `off` where the server does not look; `failed` where "
        "it cannot."
    )
    since: datetime | None = Field(description="When that became the verdict.")
    hint: str = Field(description="The verdict in words.")
    rows: int = Field(description="Latest rows looked at, by all processes.")
    window: int = Field(description="About how many these are at most.")
    features: list[FeatureDrift]
    predictions: PredictionDrift | None = Field(
        description="None for a model of more than 100 labels."
    )
