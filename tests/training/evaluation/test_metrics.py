"""Metrics of known probabilities."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from perceptd.models import registry
from perceptd.models.spec import ModelSpec
from perceptd.training.evaluation import metrics
from perceptd.training.evaluation.metrics import Metric
from tests.training.conftest import Package

BINARY = registry.load("dnn").spec
THREE = BINARY.model_copy(update={"head": "softmax", "labels": ("a", "b", "c")})


def measured(
    spec: ModelSpec, targets: list[int], probabilities: list[list[float]]
) -> dict[str, float]:
    known = metrics.of(spec, metrics.plug_ins())
    rows: NDArray[np.float32] = np.array(probabilities, dtype=np.float32)
    return metrics.measure(known, np.array(targets, dtype=np.int64), rows, spec)


def sure_of(*answers: int) -> list[list[float]]:
    """Probabilities of three labels, 0.8 for the answer."""
    return [[0.8 if label == answer else 0.1 for label in range(3)] for answer in answers]


def test_metrics_are_those_of_the_text_book() -> None:
    values = measured(THREE, [0, 0, 0, 0, 1, 2], sure_of(0, 0, 0, 1, 1, 0))

    assert values == pytest.approx(
        {
            "loss": -(4 * math.log(0.8) + 2 * math.log(0.1)) / 6,
            "accuracy": 4 / 6,
            "balanced_accuracy": (3 / 4 + 1 + 0) / 3,
            "f1_macro": (3 / 4 + 2 / 3 + 0) / 3,
            "recall:a": 3 / 4,
            "recall:b": 1.0,
            "recall:c": 0.0,
        }
    )


def test_metric_of_a_label_without_rows_is_left_out() -> None:
    values = measured(THREE, [0, 0, 1], sure_of(0, 2, 1))

    assert (values["recall:a"], values["recall:b"]) == (0.5, 1.0)
    assert "recall:c" not in values
    assert values["balanced_accuracy"] == 0.75
    assert values["f1_macro"] == pytest.approx((2 / 3 + 1 + 0) / 3)


def test_rows_of_one_label_alone_are_measured() -> None:
    values = measured(BINARY, [1, 1], [[0.2, 0.8], [0.6, 0.4]])

    assert values.keys() == {"loss", "accuracy", "balanced_accuracy", "f1_macro", "recall:1"}
    assert values["recall:1"] == values["accuracy"] == 0.5


def test_loss_of_a_sure_and_wrong_answer_is_finite() -> None:
    assert 10 < measured(BINARY, [1], [[1.0, 0.0]])["loss"] < 1000


def test_greater_is_better_for_all_but_the_loss() -> None:
    better = {name: metric.greater_is_better for name, metric in metrics.of(THREE, {}).items()}

    assert [name for name, greater in better.items() if not greater] == ["loss"]
    assert Metric(lambda targets, probabilities, spec: 0.0).greater_is_better


PLUG_IN = """
from perceptd.training.evaluation.metrics import Metric

COST = Metric(lambda targets, probabilities, spec: len(targets), greater_is_better=False)
UNDEFINED = Metric(lambda targets, probabilities, spec: float("nan"))
BROKEN = Metric(lambda targets, probabilities, spec: 1 / 0)
ACCURACY = Metric(lambda targets, probabilities, spec: 7)
"""


def test_plug_in_adds_metrics_and_disturbs_none(
    package: Package, capsys: pytest.CaptureFixture[str]
) -> None:
    entries = {name: f"costly:{name.upper()}" for name in ("cost", "undefined", "broken")}
    package("costly", PLUG_IN, metrics={**entries, "accuracy": "costly:ACCURACY"})

    values = measured(BINARY, [1, 1], [[0.2, 0.8], [0.6, 0.4]])

    assert values["cost"] == 2.0
    assert not metrics.plug_ins()["cost"].greater_is_better
    assert not {"undefined", "broken"} & values.keys()
    assert values["accuracy"] == 0.5
    assert capsys.readouterr().err == "The metric broken is left out: division by zero\n"
