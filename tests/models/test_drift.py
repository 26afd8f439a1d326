"""Drift is measured as defined, and references of any training rows are usable."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import ValidationError

from perceptd.models.drift import (
    DESIGN_EFFECT,
    HYSTERESIS,
    MAX_CLASSES,
    THRESHOLD,
    Bins,
    FeatureReference,
    Reference,
    chi_square,
    reference,
)
from perceptd.models.spec import Example, InputSpec, ModelSpec

HALVES = Reference(
    rows=10_000,
    features=(FeatureReference(name="x[0]", edges=(0.0,), shares=(0.5, 0.5)),),
    classes=(0.25, 0.75),
)


def spec_of(numbers: int, labels: int = 2) -> ModelSpec:
    return ModelSpec(
        description="Whatever.",
        input=InputSpec(shape=(numbers,)),
        labels=tuple(map(str, range(labels))),
        head="softmax",
        example=Example(inputs=[[0.0] * numbers]),
    )


def column(*numbers: float) -> NDArray[np.float32]:
    return np.array(numbers, dtype=np.float32).reshape(-1, 1)


def zeros(rows: int) -> NDArray[np.intp]:
    return np.zeros(rows, dtype=np.intp)


def made(*numbers: float) -> Reference:
    found = reference(spec_of(1), column(*numbers), zeros(len(numbers)))
    assert found
    return found


def test_psi_is_the_one_computed_by_hand() -> None:
    bins = Bins(HALVES)
    psi = bins.psi(np.array([80.0, 20.0, 25.0, 75.0]), 100)
    low, high = 80.5 / 101, 20.5 / 101
    expected = (low - 0.5) * math.log(low / 0.5) + (high - 0.5) * math.log(high / 0.5)
    assert psi.tolist() == [pytest.approx(expected), pytest.approx(0)]


def test_threshold_is_higher_for_few_rows() -> None:
    inputs, classes = Bins(HALVES).thresholds(200)
    assert inputs == classes == pytest.approx(chi_square(1) * (DESIGN_EFFECT / 200 + 1 / 10_000))
    assert Bins(HALVES).thresholds(1_000_000).tolist() == [THRESHOLD, THRESHOLD]


def test_a_drift_of_inputs_lasts_until_it_is_clearly_below_the_threshold() -> None:
    bins = Bins(HALVES)
    lasting = bins.thresholds(10_000, lasting=True)
    assert lasting.tolist() == [pytest.approx(HYSTERESIS * THRESHOLD), THRESHOLD]
    for below, (new, old) in ((4500, (False, False)), (2620, (False, True)), (2400, (True, True))):
        counts = np.array([below, 10_000 - below, 5000, 5000], dtype=float)
        assert bins.drifted(counts, 10_000) is new, below
        assert bins.drifted(counts, 10_000, lasting=True) is old, below
        (measured, _) = bins.measure(counts, 10_000, lasting=True)
        assert measured.drifted is old


@pytest.mark.parametrize(("degrees", "value"), [(1, 15.14), (9, 33.72), (11, 37.37)])
def test_chi_square_is_close_to_the_tables(degrees: int, value: float) -> None:
    assert chi_square(degrees) == pytest.approx(value, rel=0.08)


counted = st.lists(st.integers(0, 10_000), min_size=2, max_size=30)


@given(counted, st.data())
def test_psi_is_never_negative_and_always_finite(counts: list[int], data: st.DataObject) -> None:
    shares = np.array(
        data.draw(st.lists(st.floats(1e-5, 1), min_size=len(counts), max_size=len(counts)))
    )
    edges = tuple(map(float, range(len(counts) - 1)))
    feature = FeatureReference(name="x", edges=edges, shares=tuple(shares.tolist()))
    bins = Bins(Reference(rows=100, features=(feature,)))
    (psi,) = bins.psi(np.array(counts, dtype=float), sum(counts))
    assert 0 <= psi < math.inf


@given(st.lists(st.floats(1e-3, 1), min_size=2, max_size=30), st.integers(1, 10_000))
def test_psi_of_rows_spread_as_expected_is_zero(shares: list[float], rows: int) -> None:
    edges = tuple(map(float, range(len(shares) - 1)))
    feature = FeatureReference(name="x", edges=edges, shares=tuple(shares))
    bins = Bins(Reference(rows=100, features=(feature,)))
    (psi,) = bins.psi(rows * np.array(shares) / sum(shares), rows)
    assert psi == pytest.approx(0, abs=1e-12)


finite = st.floats(-(2.0**100), 2.0**100, width=32)


@given(st.lists(finite, min_size=1, max_size=300))
def test_any_training_rows_make_a_reference_that_they_do_not_drift_from(
    values: list[float],
) -> None:
    found = made(*values)
    assert Reference.model_validate_json(found.model_dump_json()) == found
    assert sum(found.features[0].shares) == pytest.approx(1, abs=1e-5)
    assert found.classes
    assert sum(found.classes) == pytest.approx(1, abs=1e-5)
    bins = Bins(found)
    counts, rows = bins.count(spec_of(1).input, column(*values), zeros(len(values)))
    assert rows == len(values)
    assert counts.sum() == 2 * rows  # once each among the inputs and the classes
    assert not bins.drifted(counts, rows)


def test_constant_feature_drifts_when_it_changes() -> None:
    bins = Bins(made(*[0.1] * 1000))
    for value, drifted in ((0.1, False), (0.1000001, True), (0.09, True), (5.0, True)):
        counts, rows = bins.count(spec_of(1).input, column(*[value] * 500), zeros(500))
        assert bins.drifted(counts, rows) is drifted, value


def test_feature_drifts_when_one_of_its_two_values_is_gone() -> None:
    bins = Bins(made(*[0.0, 1.0] * 500))
    for values, drifted in (([0.0, 1.0], False), ([0.0, 0.0], True), ([0.0, 0.5], True)):
        counts, rows = bins.count(spec_of(1).input, column(*values * 500), zeros(1000))
        assert bins.drifted(counts, rows) is drifted, values


def test_nan_rows_are_left_out_and_infinities_fall_into_the_outer_bins() -> None:
    bins = Bins(HALVES)
    rows = column(math.nan, math.inf, -math.inf, 1)
    counts, counted = bins.count(spec_of(1).input, rows, zeros(4))
    assert (counts.tolist(), counted) == ([1, 2, 3, 0], 3)
    values = column(math.nan, *[0.0] * 9)
    assert reference(spec_of(1), values, zeros(10)) == made(*[0.0] * 9)
    assert reference(spec_of(1), column(math.nan), zeros(1)) is None


def test_other_predictions_are_no_drift_of_the_inputs() -> None:
    bins = Bins(HALVES)
    counts, rows = bins.count(spec_of(1).input, column(*[-1, 1] * 500), zeros(1000))
    inputs, predictions = bins.measure(counts, rows)
    assert (inputs.name, inputs.drifted, inputs.observed) == ("x[0]", False, [0.5, 0.5])
    assert (predictions.name, predictions.drifted) == (None, True)
    assert predictions.observed == [1, 0]
    assert not bins.drifted(counts, rows)


def test_reference_is_small_and_leaves_out_the_classes_of_many_labels() -> None:
    random = np.random.default_rng(0)
    spec = spec_of(16, MAX_CLASSES)
    rows = random.normal(size=(10_000, 16)).astype(np.float32)
    found = reference(spec, rows, random.integers(0, MAX_CLASSES, 10_000))
    assert found
    assert len(found.model_dump_json()) < 10_000
    assert found.fits(spec)
    assert not found.fits(spec_of(16))
    assert not found.fits(spec_of(2, MAX_CLASSES))

    many = spec_of(1, MAX_CLASSES + 1)
    without = reference(many, rows[:, :1], zeros(10_000))
    assert without
    assert without.classes is None
    assert without.fits(many)
    bins = Bins(without)
    counts, counted = bins.count(many.input, rows[:, :1], zeros(10_000))
    assert [one.name for one in bins.measure(counts, counted)] == ["x[0]"]


@pytest.mark.parametrize(
    "changes",
    [
        {"edges": (1.0, 0.0), "shares": (0.2, 0.2, 0.6)},
        {"shares": (1.0,)},
        {"shares": (0.0, 1.0)},
        {"edges": (math.nan,)},
    ],
)
def test_a_damaged_reference_is_refused(changes: dict[str, tuple[float, ...]]) -> None:
    with pytest.raises(ValidationError):
        FeatureReference(**{"name": "x", "edges": (0.0,), "shares": (0.5, 0.5), **changes})
