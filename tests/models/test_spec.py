"""Specs are validated, the built-in ones are right, and `decide` picks the predicted class."""

import json
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pydantic import ValidationError

from perceptd.models import preprocessing, registry
from perceptd.models.networks.layers import Probabilities
from perceptd.models.registry import BUILT_IN
from perceptd.models.spec import Example, InputSpec, ModelSpec, decide


def spec(**changes: Any) -> ModelSpec:
    fields: dict[str, Any] = {
        "description": "Two classes.",
        "input": InputSpec(shape=(2,)),
        "labels": ("no", "yes"),
        "head": "sigmoid",
        "example": Example(inputs=[[0.0, 1.0]]),
    }
    return ModelSpec(**{**fields, **changes})


def row(*probabilities: float) -> NDArray[np.float32]:
    return np.array([probabilities], dtype=np.float32)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("perceptron", (2,)),
        ("dnn", (2,)),
        ("xor", (2,)),
        ("mnist-mlp", (784,)),
        ("mnist-cnn", (1, 28, 28)),
    ],
)
def test_plane_models_have_two_labels_and_digit_models_ten(
    name: str, shape: tuple[int, ...]
) -> None:
    model = registry.load(name).spec

    assert model.input.shape == shape
    if shape == (2,):
        assert (model.labels, model.head) == (("0", "1"), "sigmoid")
        assert model.input.picture is None
    else:
        assert (model.labels, model.head) == (tuple("0123456789"), "softmax")
        assert model.input.picture == (28, 28)
        assert (model.input.minimum, model.input.maximum) == (0.0, 1.0)


@pytest.mark.parametrize("name", BUILT_IN)
def test_example_is_accepted_and_answered(name: str) -> None:
    architecture = registry.load(name)
    model = architecture.spec
    example = Example.model_validate(json.loads(model.example.model_dump_json()))

    rows = preprocessing.from_numbers(model.input, example.inputs, example.dtype)
    checked = preprocessing.check_rows(model.input, rows)
    with torch.inference_mode():
        module = architecture.module(architecture.config())
        answer = Probabilities(module, model.head)(torch.from_numpy(checked)).numpy()

    assert answer.shape == (len(example.inputs), len(model.labels))
    assert set(decide(answer, model.head)) <= set(range(len(model.labels)))


@pytest.mark.parametrize("name", BUILT_IN)
def test_spec_survives_json(name: str) -> None:
    model = registry.load(name).spec

    assert ModelSpec.model_validate_json(model.model_dump_json()) == model


def test_binary_model_answers_class_1_from_one_half_on() -> None:
    below = float(np.nextafter(np.float32(0.5), np.float32(0)))

    assert decide(row(0.5, 0.5), "sigmoid").tolist() == [1]
    assert decide(row(1 - below, below), "sigmoid").tolist() == [0]
    assert decide(row(0.1, 0.9), "sigmoid").tolist() == [1]
    assert decide(row(0.9, 0.1), "sigmoid").tolist() == [0]


def test_model_of_many_classes_answers_the_arg_max_of_each_row() -> None:
    probabilities = np.concatenate([row(0.2, 0.5, 0.3), row(0.4, 0.2, 0.4), row(0.1, 0.3, 0.6)])

    assert decide(probabilities, "softmax").tolist() == [1, 0, 2]


def test_size_counts_the_numbers_of_a_row() -> None:
    assert InputSpec(shape=(1, 28, 28)).size == 784


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"labels": ("no", "yes", "maybe")}, "a sigmoid head has exactly two labels"),
        ({"labels": ("yes", "yes")}, "labels must differ"),
        ({"labels": ("yes",), "head": "softmax"}, "labels"),
        ({"head": "argmax"}, "head"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_contradictory_model_spec_is_refused(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        spec(**changes)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"shape": (783,), "picture": (28, 28)}, "does not fill a row"),
        ({"shape": (0,)}, "shape"),
        ({"shape": ()}, "shape"),
        ({"shape": (2,), "unit": "cm"}, "unit"),
    ],
)
def test_contradictory_input_spec_is_refused(fields: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        InputSpec(**fields)


def test_spec_cannot_be_changed_in_place() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        setattr(spec(), "description", "Other.")  # noqa: B010 - mypy knows that it is frozen
