"""The plots of a checkpoint: loss curve, decision boundary, grid of predictions."""

import json
from pathlib import Path
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from perceptd.models.checkpoint import PLOT_FORMATS, CurvePoint
from perceptd.models.registry import Architecture
from perceptd.models.spec import ModelSpec, decide
from perceptd.training.data.splits import Dataset, Split
from perceptd.training.plotting.plane import Classifier, Plane, has_plane, plane_of

CLASS_COLORS = ("#2563eb", "#dc2626")
GRID = 5  # pictures per side of the square of predictions
LINEAR = {"perceptron"}  # its boundary is a line
RESOLUTION = 200  # grid points per axis of a drawn boundary
STYLE: dict[Any, Any] = {
    "svg.hashsalt": "perceptd",  # equal plots are equal files
    "svg.fonttype": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def draw(
    folder: Path,
    architecture: Architecture,
    classify: Classifier,
    data: Dataset | None,
    curve: list[CurvePoint],
) -> None:
    """Write the plots that suit this model into `folder`, each as SVG and PNG.

    With a boundary comes `boundary.json`: the plane's extent and points.
    """
    spec = architecture.spec
    with mpl.rc_context(STYLE):
        if curve:
            _save(loss_curve(curve), folder / "loss")
        if data is None:
            return
        match data_plot(spec):
            case "boundary":
                if (plane := plane_of(spec, data.train)) is None:
                    return
                linear = architecture.name in LINEAR
                _save(boundary(spec, classify, plane, linear=linear), folder / "boundary")
                facts = json.dumps(plane.facts(), separators=(",", ":"))
                (folder / "boundary.json").write_text(facts + "\n")
            case "predictions":
                _save(predictions(spec, classify, data.test), folder / "predictions")


def data_plot(spec: ModelSpec) -> Literal["boundary", "predictions"] | None:
    """The plot that shows a model's predictions for its data; None if there is none."""
    if has_plane(spec):
        return "boundary"
    return "predictions" if spec.input.picture else None


def loss_curve(curve: list[CurvePoint]) -> Figure:
    """Loss per epoch on the training rows and on the held-out rows."""
    figure = Figure(figsize=(5, 3.4), layout="constrained")
    axes = figure.subplots()
    epochs = [point.epoch for point in curve]
    marker = "o" if len(curve) == 1 else None
    axes.plot(epochs, [point.loss for point in curve], label="training", marker=marker)
    axes.plot(epochs, [point.test_loss for point in curve], label="held out", marker=marker)
    axes.set(xlabel="epoch", ylabel="loss", ylim=(0, None))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(frameon=False)
    return figure


def boundary(
    spec: ModelSpec, classify: Classifier, plane: Plane, *, linear: bool = False
) -> Figure:
    """The points of a 2-D model with its decision boundary.

    A linear model gets the line alone; others also get P(class 1) as filled contours.
    """
    x, y, field = plane.sample(classify, RESOLUTION)  # (RESOLUTION, RESOLUTION) each

    figure = Figure(figsize=(5, 4.2), layout="constrained")
    axes = figure.subplots()
    if not linear:
        filled = axes.contourf(x, y, field, levels=np.linspace(0, 1, 11), cmap="RdBu_r", alpha=0.6)
        filled.set_rasterized(True)  # thousands of vertices would bloat the SVG
        figure.colorbar(filled, label=f"P({spec.labels[1]})")
    if field.min() < 0.5 < field.max():
        axes.contour(x, y, field, levels=[0.5], colors="black")
    for index, (label, color) in enumerate(zip(spec.labels, CLASS_COLORS, strict=True)):
        chosen = plane.split.inputs[plane.split.targets == index]  # (N, 2)
        axes.scatter(
            chosen[:, 0],
            chosen[:, 1],
            s=14,
            color=color,
            edgecolors="white",
            linewidths=0.5,
            label=label,
        )
    axes.set(xlabel="x1", ylabel="x2", aspect="equal")
    axes.legend(loc="upper right", title="class")
    return figure


def predictions(spec: ModelSpec, classify: Classifier, split: Split) -> Figure:
    """A square of held-out pictures, titled with prediction and label, red if they differ."""
    rows = split.inputs[: GRID * GRID]
    predicted = decide(classify(rows), spec.head)  # (N,)
    figure = Figure(figsize=(5, 5.6), layout="constrained")
    for place, axes in enumerate(figure.subplots(GRID, GRID).flat):
        axes.axis("off")
        if place >= len(rows):
            continue
        answer, target = int(predicted[place]), int(split.targets[place])
        axes.imshow(rows[place].reshape(spec.input.picture), cmap="gray_r", vmin=0)
        axes.set_title(
            f"{spec.labels[answer]} (label {spec.labels[target]})",
            fontsize=8,
            color="black" if answer == target else CLASS_COLORS[1],
        )
    return figure


def _save(figure: Figure, stem: Path) -> None:
    for extension in PLOT_FORMATS:
        metadata = {"Date": None} if extension == "svg" else {"Software": None}
        figure.savefig(stem.with_suffix(f".{extension}"), dpi=100, metadata=metadata)
