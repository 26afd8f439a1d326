"""The plots: which ones a model gets, that viewers open them, and what they show."""

import io
import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.colors import to_hex
from numpy.typing import NDArray
from PIL import Image

from perceptd.models import registry
from perceptd.models.checkpoint import CurvePoint
from perceptd.training.data import datasets
from perceptd.training.data.splits import Dataset, Split
from perceptd.training.plotting import plots
from perceptd.training.plotting.plane import Plane

CURVE = [
    CurvePoint(epoch=epoch, loss=1 / epoch, test_loss=1.2 / epoch, test_accuracy=0.5)
    for epoch in range(1, 6)
]


def by_sign(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Class 1 below the diagonal, less and less certain towards it."""
    of_class_1 = 1 / (1 + np.exp(rows[:, 1] - rows[:, 0]))
    return np.stack([1 - of_class_1, of_class_1], axis=1, dtype=np.float32)


def always_three(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.tile(np.eye(10, dtype=np.float32)[3], (len(rows), 1))


def draw(folder: Path, name: str, data: Dataset | None, curve: list[CurvePoint]) -> list[str]:
    folder.mkdir()
    architecture = registry.load(name)
    classify = always_three if architecture.spec.input.picture else by_sign
    plots.draw(folder, architecture, classify, data, curve)
    return sorted(path.name for path in folder.iterdir())


def dataset_of(name: str) -> Dataset:
    spec = registry.load(name).spec
    made = {"perceptron": "blobs", "dnn": "circles", "xor": "xor"}.get(name, "digits")
    return datasets.load(made, spec, Path("unused"))


PLANE = ["boundary.json", "boundary.png", "boundary.svg", "loss.png", "loss.svg"]
DIGITS = ["loss.png", "loss.svg", "predictions.png", "predictions.svg"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [("perceptron", PLANE), ("dnn", PLANE), ("xor", PLANE), ("mnist-mlp", DIGITS)],
)
def test_model_gets_its_plots_the_same_each_time(
    name: str, expected: list[str], tmp_path: Path
) -> None:
    data = dataset_of(name)

    assert draw(tmp_path / "one", name, data, CURVE) == expected
    assert draw(tmp_path / "two", name, data, CURVE) == expected

    for picture in expected:
        content = (tmp_path / "one" / picture).read_bytes()
        assert content == (tmp_path / "two" / picture).read_bytes(), picture
        if picture.endswith(".svg"):
            assert ElementTree.fromstring(content).tag == "{http://www.w3.org/2000/svg}svg"
        elif picture.endswith(".png"):
            with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
                assert min(image.size) >= 300
                assert len(image.convert("RGB").getcolors(maxcolors=2**24) or []) > 10


def test_plots_without_a_curve_or_without_data_are_left_out(tmp_path: Path) -> None:
    assert draw(tmp_path / "no-curve", "xor", dataset_of("xor"), []) == PLANE[:3]
    assert draw(tmp_path / "no-data", "mnist-mlp", None, CURVE) == ["loss.png", "loss.svg"]


def test_loss_curve_shows_both_splits_and_a_single_epoch_as_a_point() -> None:
    (axes,) = plots.loss_curve(CURVE).axes

    lines = {line.get_label(): np.asarray(line.get_xydata()).tolist() for line in axes.lines}
    assert lines == {
        "training": [[point.epoch, point.loss] for point in CURVE],
        "held out": [[point.epoch, point.test_loss] for point in CURVE],
    }
    (axes,) = plots.loss_curve(CURVE[:1]).axes
    assert [line.get_marker() for line in axes.lines] == ["o", "o"]


def test_linear_model_gets_a_line_and_others_filled_contours() -> None:
    spec, split = registry.load("dnn").spec, dataset_of("dnn").train

    line = plots.boundary(spec, by_sign, Plane(split), linear=True)
    filled = plots.boundary(spec, by_sign, Plane(split))

    assert len(line.axes) == 1  # no colour bar
    assert len(filled.axes) == 2
    assert len(filled.axes[0].collections) == len(line.axes[0].collections) + 1


def test_boundary_lies_where_the_answer_changes() -> None:
    spec, split = registry.load("dnn").spec, dataset_of("dnn").train
    (axes,) = plots.boundary(spec, by_sign, Plane(split), linear=True).axes

    (path,) = axes.collections[0].get_paths()

    x, y = np.asarray(path.vertices).T
    assert len(x) > 10
    np.testing.assert_allclose(x, y, atol=0.05)


def test_every_point_is_drawn_in_the_colour_of_its_class() -> None:
    spec, split = registry.load("dnn").spec, dataset_of("dnn").train
    (axes,) = plots.boundary(spec, by_sign, Plane(split), linear=True).axes

    *_, zeros, ones = axes.collections

    for target, points in enumerate((zeros, ones)):
        expected = split.inputs[split.targets == target]
        np.testing.assert_array_equal(points.get_offsets(), expected)
        assert to_hex(np.asarray(points.get_facecolor())[0]) == plots.CLASS_COLORS[target]


def test_one_sided_model_has_no_boundary_to_draw(tmp_path: Path) -> None:
    spec, split = registry.load("dnn").spec, dataset_of("dnn").train

    undecided = plots.boundary(spec, lambda rows: 0 * by_sign(rows), Plane(split), linear=True)
    (axes,) = undecided.axes

    assert len(axes.collections) == 2  # the points of either class, and no line


def test_boundary_json_matches_the_plot(tmp_path: Path) -> None:
    spec, data = registry.load("xor").spec, dataset_of("xor")
    draw(tmp_path / "plots", "xor", data, [])

    facts = json.loads((tmp_path / "plots" / "boundary.json").read_text())

    axes, *_ = plots.boundary(spec, by_sign, Plane(data.train)).axes
    assert facts["x"] == pytest.approx(axes.get_xlim(), abs=1e-4)
    assert facts["y"] == pytest.approx(axes.get_ylim(), abs=1e-4)
    assert facts == Plane(data.train).facts()


def test_predictions_are_titled_and_mistakes_are_red() -> None:
    spec, split = registry.load("mnist-mlp").spec, dataset_of("mnist-mlp").test

    figure = plots.predictions(spec, always_three, split)

    assert len(figure.axes) == 25
    targets = split.targets[:25].tolist()
    assert [axes.get_title() for axes in figure.axes] == [f"3 (label {t})" for t in targets]
    colors = [axes.title.get_color() for axes in figure.axes]
    assert colors == ["black" if t == 3 else plots.CLASS_COLORS[1] for t in targets]
    assert len(set(colors)) == 2


def test_few_pictures_leave_places_empty() -> None:
    spec, split = registry.load("mnist-cnn").spec, dataset_of("mnist-cnn").test
    three = Split(split.inputs[:3], split.targets[:3])

    figure = plots.predictions(spec, always_three, three)

    assert [len(axes.images) for axes in figure.axes] == [1] * 3 + [0] * 22


def test_points_without_a_plane_have_no_boundary_to_draw(tmp_path: Path) -> None:
    inputs = np.array([[0, 1e17], [1, 1e17]], dtype=np.float32)
    split = Split(inputs, np.array([0, 1]))

    drawn = draw(tmp_path / "far", "dnn", Dataset("far", split, split), CURVE)
    near = Split(np.array([[1e8, 1e8], [1e8 + 8, 1e8]], dtype=np.float32), split.targets)
    seen = draw(tmp_path / "near", "dnn", Dataset("near", near, near), CURVE)

    assert drawn == ["loss.png", "loss.svg"]
    assert seen == PLANE
