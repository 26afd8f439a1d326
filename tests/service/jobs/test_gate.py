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
def test_by_default_at_least_as_good_is_good_enough(
    candidate: float, production: float | None, passed: bool
) -> None:
    assert passes(candidate, production) is passed


@pytest.mark.parametrize(
    ("candidate", "production", "passed"),
    [(0.2, 0.3, True), (0.3, 0.3, True), (0.4, 0.3, False), (9.0, None, True)],
)
def test_of_a_loss_less_is_better(candidate: float, production: float | None, passed: bool) -> None:
    assert passes(candidate, production, greater=False, metric="loss") is passed


@pytest.mark.parametrize(
    ("greater", "candidate", "change", "passed"),
    [
        (True, 0.92, 0.01, True),
        (True, 0.91, 0.01, True),
        (True, 0.905, 0.01, False),
        (True, 0.90, 0.01, False),
        (True, 0.89, -0.01, True),
        (True, 0.88, -0.01, False),
        (False, 0.88, 0.01, True),
        (False, 0.89, 0.01, True),
        (False, 0.895, 0.01, False),
        (False, 0.91, -0.01, True),
        (False, 0.92, -0.01, False),
    ],
)
def test_the_least_change_is_an_amount_by_which_it_must_be_better_or_may_be_worse(
    greater: bool, candidate: float, change: float, passed: bool
) -> None:
    assert passes(candidate, 0.90, greater=greater, min_absolute_change=change) is passed


@pytest.mark.parametrize(
    ("greater", "candidate", "production", "passed"),
    [
        (True, 0.9, 0.5, True),
        (True, 0.91, None, True),
        (True, 0.89, 0.5, False),
        (True, 0.89, None, False),
        (True, 0.95, 0.96, False),
        (False, 0.9, 1.5, True),
        (False, 0.91, 1.5, False),
        (False, 0.91, None, False),
        (False, 0.89, None, True),
    ],
)
def test_a_threshold_must_be_reached_whatever_production_does(
    greater: bool, candidate: float, production: float | None, passed: bool
) -> None:
    assert passes(candidate, production, greater=greater, threshold=0.9) is passed


def test_a_threshold_of_zero_counts() -> None:
    assert passes(0.0, None, threshold=0.0)
    assert not passes(-0.1, None, threshold=0.0)
    assert not passes(0.1, None, threshold=0.0, greater=False)


TEN_THOUSANDTHS = st.integers(-20_000, 20_000)


@given(candidate=TEN_THOUSANDTHS, production=TEN_THOUSANDTHS, change=TEN_THOUSANDTHS)
def test_figures_are_compared_as_they_are_written_not_as_floats_round_them(
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


@given(candidate=FIGURES, production=FIGURES, threshold=FIGURES, change=FIGURES)
def test_less_is_better_is_the_mirror_of_more_is_better(
    candidate: float, production: float, threshold: float, change: float
) -> None:
    more, _ = judge(
        Gate(threshold=threshold, min_absolute_change=change),
        candidate=candidate,
        production=production,
        greater_is_better=True,
    )
    less, _ = judge(
        Gate(threshold=-threshold, min_absolute_change=change),
        candidate=-candidate,
        production=-production,
        greater_is_better=False,
    )
    assert more is less


def test_a_figure_that_is_no_number_is_not_better_than_production() -> None:
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
    _, told = judge(
        Gate(**gate), candidate=candidate, production=production, greater_is_better=True
    )
    assert told == reason


@pytest.mark.parametrize(
    "gate",
    [
        {"metric": None},
        {"threshold": math.nan},
        {"threshold": math.inf},
        {"threshold": "0.9"},
        {"threshold": True},
        {"min_absolute_change": None},
        {"min_absolute_change": -math.inf},
        {"greater_is_better": "no"},
        {"greater_is_better": 1},
        {"minimum": 0.9},
    ],
)
def test_a_gate_that_is_none_is_refused(gate: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Gate(**gate)
