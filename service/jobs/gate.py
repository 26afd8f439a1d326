"""The gate: whether a candidate version is good enough to become production."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

DIGITS = 12  # of compared differences, so that 0.3 - 0.2 is 0.1


class Gate(BaseModel):
    """The condition for promoting a candidate, compared with production on held-out rows."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    metric: str = Field("accuracy", description="The metric to compare.", examples=["accuracy"])
    min_absolute_change: FiniteFloat = Field(
        0.0, description="How much better the candidate must be; 0: at least as good."
    )
    threshold: FiniteFloat | None = Field(
        None, description="The value that the candidate must reach."
    )
    greater_is_better: bool | None = Field(
        None, description="Default: the direction of the metric."
    )


GateChoice = Gate | Literal["always", "never"]


class Verdict(BaseModel):
    """The decision of a gate and the figures behind it."""

    passed: bool
    reason: str
    metric: str
    candidate: float
    production: float | None = Field(description="Null: nothing was in production.")
    production_version: int | None
    dataset: str
    rows: int = Field(description="Held-out rows that both were measured on.")


def judge(
    gate: Gate,
    *,
    candidate: float,
    production: float | None,
    greater_is_better: bool,
) -> tuple[bool, str]:
    """Whether the candidate passes, and the reason as a sentence."""
    sign = 1 if greater_is_better else -1
    figures = f"{gate.metric} {candidate:.4f}"
    if gate.threshold is not None and sign * (candidate - gate.threshold) < 0:
        return False, f"{figures} does not reach the threshold of {gate.threshold:g}"
    if production is None:
        return True, f"{figures}, and nothing was in production"
    better_by = round(sign * (candidate - production), DIGITS)
    passed = better_by >= gate.min_absolute_change
    if gate.min_absolute_change == 0:
        comparison = "at least as good as" if passed else "worse than"
    else:
        comparison = f"{'' if passed else 'not '}better by {gate.min_absolute_change:g} than"
    return passed, f"{figures} is {comparison} production's {production:.4f}"
