"""Loss and accuracy of a module with known predictions."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from perceptd.training.evaluation.evaluate import BATCH_SIZE, classifier, evaluate


class Echo(nn.Module):
    """Answers with its input."""

    def forward(self, x: Tensor) -> Tensor:
        return x


def test_binary_answer_is_class_1_from_one_half_on() -> None:
    probabilities = torch.tensor([[0.5], [0.5], [0.4], [0.9]])

    metrics = evaluate(Echo(), probabilities, torch.tensor([1, 0, 0, 1]), "sigmoid")

    assert metrics["accuracy"] == 0.75
    expected = -(math.log(0.5) + math.log(0.5) + math.log(0.6) + math.log(0.9)) / 4
    assert metrics["loss"] == pytest.approx(expected)


def test_answer_among_many_is_the_largest_logit() -> None:
    logits = torch.tensor([[0.0, 2.0, 1.0], [3.0, 0.0, 0.0]])

    metrics = evaluate(Echo(), logits, torch.tensor([1, 2]), "softmax")

    assert metrics["accuracy"] == 0.5
    expected = -(2 - math.log(1 + math.e**2 + math.e) + 0 - math.log(math.e**3 + 2)) / 2
    assert metrics["loss"] == pytest.approx(expected)


def test_rows_beyond_one_batch_count_the_same() -> None:
    rows = BATCH_SIZE + 1
    probabilities = torch.full((rows, 1), 0.5)
    probabilities[-1] = 0.01
    targets = torch.ones(rows, dtype=torch.int64)

    metrics = evaluate(Echo(), probabilities, targets, "sigmoid")

    assert metrics["accuracy"] == pytest.approx(BATCH_SIZE / rows)
    expected = -(BATCH_SIZE * math.log(0.5) + math.log(0.01)) / rows
    assert metrics["loss"] == pytest.approx(expected, rel=1e-5)


def test_module_is_evaluated_without_dropout_and_keeps_its_mode() -> None:
    module = nn.Sequential(nn.Dropout(0.9)).train()
    probabilities = torch.full((50, 1), 0.5)

    metrics = evaluate(module, probabilities, torch.ones(50, dtype=torch.int64), "sigmoid")

    assert metrics["loss"] == pytest.approx(math.log(2))
    assert module.training


def test_classifier_leaves_mode_and_random_numbers_as_they_are() -> None:
    module = nn.Sequential(nn.Dropout(0.9), nn.BatchNorm1d(2)).train()
    before = {key: value.clone() for key, value in module.state_dict().items()}
    state = torch.get_rng_state()
    rows = np.ones((50, 2), dtype=np.float32)

    answers = classifier(module, "softmax")(rows)

    np.testing.assert_allclose(answers, 0.5 * rows)  # nothing is dropped
    assert module.training
    assert all(layer.training for layer in module)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())


def test_classifier_answers_with_both_probabilities_of_a_binary_model() -> None:
    rows = np.array([[0.25], [1.0]], dtype=np.float32)

    answers = classifier(Echo(), "sigmoid")(rows)

    assert answers.tolist() == [[0.75, 0.25], [0.0, 1.0]]
