import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from perceptd.service.jobs.gate import Gate, judge


def passes(
    candidate: float, production: float | None, *, greater: bool = True, **gate: Any
) -> bool:
    passed, reason = judge(
        Gate(**gate), candidate=candidate, production=production, greater_is_better=greater
    )
    assert reason.startswith(f"{Gate(**gate).metric} {candidate:.4f}")
    return passed


@pytest.mark.parametrize(
    ("candidate", "production", "passed"),
    [(0.95, 0.94, True), (0.95, 0.95, True), (0.94, 0.95, False), (0.0, None, True)],
)
def test_by_default_the_candidate_must_be_at_least_as_good_as_production(
    candidate: float, production: float | None, passed: bool
) -> None:
    assert passes(candidate, production) is passed


@pytest.mark.parametrize(
    ("candidate", "production", "passed"),
    [
        (0.9, 0.5, True),
        (0.91, None, True),
        (0.89, 0.5, False),
        (0.89, None, False),
        (0.95, 0.96, False),
    ],
)
def test_a_threshold_must_be_reached_as_well(
    candidate: float, production: float | None, passed: bool
) -> None:
    assert passes(candidate, production, threshold=0.9) is passed


def test_a_threshold_of_zero_counts() -> None:
    assert passes(0.0, None, threshold=0.0)
    assert not passes(-0.1, None, threshold=0.0)
    assert not passes(0.1, None, threshold=0.0, greater=False)


TEN_THOUSANDTHS = st.integers(-20_000, 20_000)


@given(candidate=TEN_THOUSANDTHS, production=TEN_THOUSANDTHS, change=TEN_THOUSANDTHS)
def test_the_minimum_change_is_compared_in_exact_decimals(
    candidate: int, production: int, change: int
) -> None:
    for greater in (True, False):
        better_by = candidate - production if greater else production - candidate
        passed = passes(
            candidate / 10_000,
            production / 10_000,
            greater=greater,
            min_absolute_change=change / 10_000,
        )
        assert passed is (better_by >= change)


FIGURES = st.floats(-1e6, 1e6)


def negative(figure: float | None) -> float | None:
    return None if figure is None else -figure


@given(
    candidate=FIGURES,
    production=FIGURES | st.none(),
    threshold=FIGURES | st.none(),
    change=FIGURES,
)
def test_less_is_better_is_the_mirror_of_more_is_better(
    candidate: float, production: float | None, threshold: float | None, change: float
) -> None:
    more, _ = judge(
        Gate(threshold=threshold, min_absolute_change=change),
        candidate=candidate,
        production=production,
        greater_is_better=True,
    )
    less, _ = judge(
        Gate(threshold=negative(threshold), min_absolute_change=change),
        candidate=-candidate,
        production=negative(production),
        greater_is_better=False,
    )
    assert more is less


def test_nan_is_not_better_than_production() -> None:
    for greater in (True, False):
        assert not passes(math.nan, 0.9, greater=greater)


@pytest.mark.parametrize(
    ("gate", "candidate", "production", "reason"),
    [
        ({}, 0.95, 0.94, "accuracy 0.9500 is at least as good as production's 0.9400"),
        ({}, 0.93, 0.94, "accuracy 0.9300 is worse than production's 0.9400"),
        (
            {"min_absolute_change": 0.01},
            0.96,
            0.94,
            "accuracy 0.9600 is better by 0.01 than production's 0.9400",
        ),
        (
            {"min_absolute_change": 0.01},
            0.945,
            0.94,
            "accuracy 0.9450 is not better by 0.01 than production's 0.9400",
        ),
        (
            {"threshold": 0.9},
            0.85,
            0.8,
            "accuracy 0.8500 does not reach the threshold of 0.9",
        ),
        ({}, 0.85, None, "accuracy 0.8500, and nothing was in production"),
    ],
)
def test_the_reason_names_the_figures(
    gate: dict[str, Any], candidate: float, production: float | None, reason: str
) -> None:
    _, given = judge(
        Gate(**gate), candidate=candidate, production=production, greater_is_better=True
    )
    assert given == reason


@pytest.mark.parametrize("figure", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", ["threshold", "min_absolute_change"])
def test_a_figure_of_a_gate_must_be_finite(name: str, figure: float) -> None:
    with pytest.raises(ValidationError):
        Gate.model_validate({name: figure})
