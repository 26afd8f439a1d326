"""Metrics of a model's predictions, by name.

A plug-in adds its own through the entry-point group `perceptd.metrics`, under the metric's name;
the value names a `Metric`: `confidence = "my_package.metrics:CONFIDENCE"`, where

    CONFIDENCE = Metric(lambda targets, probabilities, spec: probabilities.max(axis=1).mean())

scikit-learn takes two seconds to import, so only the functions that need it import it.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import EntryPoint, entry_points

import click
import numpy as np
from numpy.typing import NDArray

from perceptd.models.spec import ModelSpec, decide

GROUP = "perceptd.metrics"

Targets = NDArray[np.int64]  # (N,) class indices
Probabilities = NDArray[np.float32]  # (N, K)


@dataclass(frozen=True)
class Metric:
    """A function of (targets, probabilities, spec); None if the rows do not define its value."""

    function: Callable[[Targets, Probabilities, ModelSpec], float | None]
    greater_is_better: bool = True


Metrics = Mapping[str, Metric]


def loss(targets: Targets, probabilities: Probabilities, spec: ModelSpec) -> float:
    """Mean negative log-likelihood, as training minimises it."""
    from sklearn.metrics import log_loss

    return float(log_loss(targets, probabilities, labels=range(len(spec.labels))))


def accuracy(targets: Targets, probabilities: Probabilities, spec: ModelSpec) -> float:
    """Share of the rows that are predicted correctly."""
    from sklearn.metrics import accuracy_score

    return float(accuracy_score(targets, decide(probabilities, spec.head)))


def balanced_accuracy(targets: Targets, probabilities: Probabilities, spec: ModelSpec) -> float:
    """Mean recall of the labels that occur; rare labels count as much as common ones."""
    return _recall(targets, probabilities, spec, np.unique(targets).tolist())


def f1_macro(targets: Targets, probabilities: Probabilities, spec: ModelSpec) -> float:
    """Mean F1 of the labels that occur or are predicted."""
    from sklearn.metrics import f1_score

    return float(f1_score(targets, decide(probabilities, spec.head), average="macro"))


def recall(
    index: int, targets: Targets, probabilities: Probabilities, spec: ModelSpec
) -> float | None:
    """Share of one label's rows that are predicted as that label; None without such rows."""
    return _recall(targets, probabilities, spec, [index]) if index in targets else None


def _recall(
    targets: Targets, probabilities: Probabilities, spec: ModelSpec, labels: list[int]
) -> float:
    from sklearn.metrics import recall_score

    answers = decide(probabilities, spec.head)
    return float(recall_score(targets, answers, labels=labels, average="macro"))


def of(spec: ModelSpec, plug_ins: Metrics) -> dict[str, Metric]:
    """Every metric of a model, by name. A plug-in cannot replace the built-in ones."""
    recalls = {
        f"recall:{label}": Metric(partial(recall, index)) for index, label in enumerate(spec.labels)
    }
    return {
        **plug_ins,
        "loss": Metric(loss, greater_is_better=False),
        "accuracy": Metric(accuracy),
        "balanced_accuracy": Metric(balanced_accuracy),
        "f1_macro": Metric(f1_macro),
        **recalls,
    }


def plug_ins() -> dict[str, Metric]:
    """The metrics of installed packages. One that does not load is left out, as stderr says."""
    found = {}
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
        try:
            metric = _load(entry)
        except Exception as error:  # a plug-in's module may raise anything
            _leave_out(entry.name, error)
        else:
            found[entry.name] = replace(metric, function=partial(_guarded, entry.name, metric))
    return found


def _load(entry: EntryPoint) -> Metric:
    metric = entry.load()
    if not isinstance(metric, Metric):
        raise TypeError(f"{entry.value} is not a Metric")
    return metric


def _guarded(
    name: str, metric: Metric, targets: Targets, probabilities: Probabilities, spec: ModelSpec
) -> float | None:
    try:
        value = metric.function(targets, probabilities, spec)
        return None if value is None else float(value)
    except Exception as error:  # a plug-in's function may raise anything
        _leave_out(name, error)
        return None


def _leave_out(name: str, error: Exception) -> None:
    click.echo(f"The metric {name} is left out: {error}", err=True)


def measure(
    metrics: Metrics, targets: Targets, probabilities: Probabilities, spec: ModelSpec
) -> dict[str, float]:
    """The metrics that these rows define. Values that are not finite are left out."""
    values = {
        name: metric.function(targets, probabilities, spec) for name, metric in metrics.items()
    }
    return {
        name: value for name, value in values.items() if value is not None and math.isfinite(value)
    }
