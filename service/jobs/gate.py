"""The gate: whether what a job made is good enough to become production."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

DIGITS = 12  # differences are compared to so many, so that 0.3 - 0.2 is 0.1


class Gate(BaseModel):
    """What a candidate must do to be promoted, measured beside production on held-out rows."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    metric: str = Field("accuracy", description="What is compared.", examples=["accuracy"])
    min_absolute_change: FiniteFloat = Field(
        0.0, description="By how much the candidate must be better; 0: at least as good."
    )
    threshold: FiniteFloat | None = Field(
        None, description="What the candidate must reach, whatever production does."
    )
    greater_is_better: bool | None = Field(None, description="Default: as the metric has it.")


GateChoice = Gate | Literal["always", "never"]


class Verdict(BaseModel):
    """How a gate decided, on which figures."""

    passed: bool
    reason: str
    metric: str
    candidate: float
    production: float | None = Field(description="None: nothing was in production.")
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
    """Whether the candidate passes, and a sentence that says why."""
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
