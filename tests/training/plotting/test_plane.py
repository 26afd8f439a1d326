"""The plane of a 2-D model: its reported points, and the decision boundary on it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from perceptd.models import registry
from perceptd.models.checkpoint import MAX_PLANE_POINTS
from perceptd.training.data import datasets
from perceptd.training.data.splits import Split
from perceptd.training.plotting.plane import (
    DECIMALS,
    MARGIN,
    SIZE,
    Plane,
    evenly,
    has_plane,
    plane_of,
)

Rows = NDArray[np.float32]


def points(rows: int) -> Split:
    inputs = np.random.default_rng(0).normal(size=(rows, 2)).astype(np.float32)
    return Split(inputs, (inputs[:, 0] > 0).astype(np.int64))


def answering(of_class_1: Callable[[Rows], Rows]) -> Callable[[Rows], Rows]:
    def classify(rows: Rows) -> Rows:
        p = of_class_1(rows).astype(np.float32)
        return np.stack([1 - p, p], axis=1)

    return classify


@pytest.mark.parametrize(("name", "rows"), [("perceptron", 100), ("dnn", 500), ("xor", 80)])
def test_every_point_of_a_built_in_set_is_reported_with_its_class(name: str, rows: int) -> None:
    spec = registry.load(name).spec
    made = {"perceptron": "blobs", "dnn": "circles", "xor": "xor"}[name]
    train = datasets.load(made, spec, Path("unused")).train

    plane = plane_of(spec, train)
    assert plane
    facts = plane.facts()

    assert len(facts["points"]) == len(facts["targets"]) == rows
    np.testing.assert_allclose(facts["points"], train.inputs, atol=0.51 * 10**-DECIMALS)
    assert facts["targets"] == train.targets.tolist()
    for axis, name in enumerate("xy"):
        outermost = (train.inputs[:, axis].min(), train.inputs[:, axis].max())
        low, high = outermost[0] - MARGIN, outermost[1] + MARGIN
        assert facts[name] == pytest.approx([low, high], abs=10**-DECIMALS)


def test_reported_points_are_rounded() -> None:
    facts = Plane(points(50)).facts()

    numbers = [*facts["x"], *facts["y"], *np.ravel(facts["points"]).tolist()]
    assert all(len(str(number).partition(".")[2]) <= DECIMALS for number in numbers)


def test_many_points_are_sampled_evenly_within_the_extent_of_all() -> None:
    many = points(10 * MAX_PLANE_POINTS)
    many.inputs[1] = (9, -9)  # the second point, which the sample leaves out

    facts = Plane(many).facts()

    assert len(facts["points"]) == len(facts["targets"]) == MAX_PLANE_POINTS
    assert facts["points"][0] == pytest.approx(many.inputs[0].tolist(), abs=1e-4)
    assert facts["points"][-1] == pytest.approx(many.inputs[-1].tolist(), abs=1e-4)
    assert [9, -9] not in facts["points"]
    assert facts["x"][1] == pytest.approx(9 + MARGIN)
    assert facts["y"][0] == pytest.approx(-9 - MARGIN)


@pytest.mark.parametrize("name", ["mnist-mlp", "mnist-cnn"])
def test_model_of_pictures_has_no_plane(name: str) -> None:
    assert not has_plane(registry.load(name).spec)
    assert plane_of(registry.load(name).spec, points(3)) is None


def test_model_of_three_labels_has_no_plane() -> None:
    spec = registry.load("dnn").spec

    assert has_plane(spec)
    assert not has_plane(spec.model_copy(update={"labels": ("a", "b", "c")}))


def test_boundary_goes_row_by_row_from_the_lower_left_corner() -> None:
    plane = Plane(Split(np.array([[0, 0], [1, 3]], dtype=np.float32), np.array([0, 1])))
    width, height = 1 + 2 * MARGIN, 3 + 2 * MARGIN

    rightwards = plane.boundary(answering(lambda rows: (rows[:, 0] + MARGIN) / width))
    upwards = plane.boundary(answering(lambda rows: (rows[:, 1] + MARGIN) / height))

    assert rightwards
    assert upwards
    ramp = np.rint(np.linspace(0, 255, SIZE)).tolist()
    assert rightwards.size == upwards.size == SIZE
    assert np.reshape(rightwards.probabilities, (SIZE, SIZE)).tolist() == [ramp] * SIZE
    assert np.reshape(upwards.probabilities, (SIZE, SIZE)).T.tolist() == [ramp] * SIZE
    assert {type(value) for value in rightwards.probabilities} == {int}


@pytest.mark.parametrize(("coordinate", "seen"), [(1e8, True), (-1e8, True), (1e17, False)])
def test_points_far_out_have_a_plane_while_it_has_an_extent(coordinate: float, seen: bool) -> None:
    inputs = np.array([[0, coordinate], [1, coordinate]], dtype=np.float32)

    plane = plane_of(registry.load("dnn").spec, Split(inputs, np.array([0, 1])))

    assert (plane is not None) == seen
    if plane:
        facts = plane.facts()
        assert facts["y"] == [coordinate - MARGIN, coordinate + MARGIN]
        assert plane.boundary(answering(lambda rows: 0 * rows[:, 0]))


def test_nan_gives_no_boundary() -> None:
    def half(rows: Rows) -> Rows:
        return np.where(rows[:, 0] > 0, np.nan, 0.5)

    assert Plane(points(9)).boundary(answering(half)) is None


@pytest.mark.parametrize(
    ("count", "limit", "expected"),
    [(1, 40, [0]), (2, 40, [0, 1]), (5, 5, [0, 1, 2, 3, 4]), (9, 3, [0, 4, 8]), (6, 2, [0, 5])],
)
def test_evenly_takes_the_first_the_last_and_none_twice(
    count: int, limit: int, expected: list[int]
) -> None:
    assert evenly(count, limit) == expected
