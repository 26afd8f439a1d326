"""The five networks: the published keys, shapes, counts and initial weights, and their settings."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor
from torch.nn import functional

from perceptd.models import registry
from perceptd.models.networks.layers import Probabilities
from perceptd.models.registry import BUILT_IN

PUBLISHED = {
    "perceptron": {"linear.weight": (1, 2), "linear.bias": (1,)},
    "dnn": {
        "linear1.weight": (4, 2),
        "linear1.bias": (4,),
        "linear2.weight": (1, 4),
        "linear2.bias": (1,),
    },
    "xor": {
        "linear_1.weight": (5, 2),
        "linear_1.bias": (5,),
        "linear_2.weight": (1, 5),
        "linear_2.bias": (1,),
    },
    "mnist-mlp": {
        "lin_1.weight": (256, 784),
        "lin_1.bias": (256,),
        "lin_2.weight": (10, 256),
        "lin_2.bias": (10,),
    },
    "mnist-cnn": {
        "layer1.0.weight": (32, 1, 3, 3),
        "layer1.0.bias": (32,),
        "layer2.0.weight": (64, 32, 3, 3),
        "layer2.0.bias": (64,),
        "fc.weight": (10, 3136),
        "fc.bias": (10,),
    },
}

PARAMETERS = {"perceptron": 3, "dnn": 17, "xor": 21, "mnist-mlp": 203_530, "mnist-cnn": 50_186}

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "relu": functional.relu,
    "leaky_relu": functional.leaky_relu,
}


def build(name: str, seed: int = 0, **config: Any) -> Any:
    architecture = registry.load(name)
    torch.manual_seed(seed)
    return architecture.module(architecture.config(**config)).eval()


@pytest.mark.parametrize("name", BUILT_IN)
def test_network_has_the_published_keys_shapes_and_number_of_parameters(name: str) -> None:
    module = build(name)

    shapes = {key: tuple(value.shape) for key, value in module.state_dict().items()}
    assert shapes == PUBLISHED[name]
    assert sum(parameter.numel() for parameter in module.parameters()) == PARAMETERS[name]


def test_perceptron_starts_from_the_published_weights() -> None:
    module = build("perceptron", seed=2)

    assert [round(value, 4) for value in module.linear.weight[0].tolist()] == [0.1622, -0.1683]
    assert round(module.linear.bias.item(), 4) == 0.1939


def test_mnist_mlp_starts_with_he_normal_weights_and_zero_biases() -> None:
    module = build("mnist-mlp")

    for layer, inputs in ((module.lin_1, 784), (module.lin_2, 256)):
        deviation = math.sqrt(2 / inputs)
        assert layer.weight.std().item() == pytest.approx(deviation, rel=0.05)
        assert layer.weight.abs().max() > 3 * deviation  # a uniform distribution ends at 1.73
        assert not layer.bias.any()


def test_mnist_cnn_starts_with_a_xavier_uniform_last_layer() -> None:
    weight = build("mnist-cnn").fc.weight
    bound = math.sqrt(6 / (3136 + 10))

    assert 0.99 * bound < weight.abs().max() <= bound
    assert weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.02)


@pytest.mark.parametrize("name", PUBLISHED)
def test_batch_of_rows_is_answered_row_by_row(name: str) -> None:
    spec = registry.load(name).spec
    classifier = Probabilities(build(name), spec.head)
    rows = torch.rand(5, *spec.input.shape)

    with torch.inference_mode():
        together = classifier(rows)
        alone = torch.cat([classifier(row.unsqueeze(0)) for row in rows])

    assert together.shape == (5, len(spec.labels))
    torch.testing.assert_close(together, alone, atol=1e-6, rtol=0)
    torch.testing.assert_close(together.sum(dim=1), torch.ones(5))


def test_sigmoid_head_answers_both_classes() -> None:
    module = build("perceptron")
    rows = torch.tensor([[0.5, -0.5], [3.0, 1.0]])

    with torch.inference_mode():
        answer = Probabilities(module, "sigmoid")(rows)
        of_class_1 = torch.sigmoid(rows @ module.linear.weight.T + module.linear.bias)

    torch.testing.assert_close(answer, torch.cat([1 - of_class_1, of_class_1], dim=1))


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activation_is_the_one_asked_for(activation: str) -> None:
    dnn, xor = (build(name, activation=activation) for name in ("dnn", "xor"))
    mlp = build("mnist-mlp", activation=activation, hidden=8)
    cnn = build("mnist-cnn", activation=activation, channels=[2, 3])
    act = ACTIVATIONS[activation]
    plane, flat, picture = torch.randn(6, 2), torch.rand(6, 784), torch.rand(6, 1, 28, 28)

    def convolved(x: Tensor, layer: Any) -> Tensor:
        convolution = functional.conv2d(x, layer[0].weight, layer[0].bias, padding=1)
        return functional.max_pool2d(act(convolution), 2)

    with torch.inference_mode():
        expected = torch.sigmoid(dnn.linear2(act(dnn.linear1(plane))))
        torch.testing.assert_close(dnn(plane), expected)
        expected = torch.sigmoid(xor.linear_2(act(xor.linear_1(plane))))
        torch.testing.assert_close(xor(plane), expected)
        torch.testing.assert_close(mlp(flat), mlp.lin_2(act(mlp.lin_1(flat))))
        expected = cnn.fc(convolved(convolved(picture, cnn.layer1), cnn.layer2).flatten(1))
        torch.testing.assert_close(cnn(picture), expected)


@pytest.mark.parametrize(
    ("name", "config", "key", "shape"),
    [
        ("dnn", {"hidden": 8}, "linear1.weight", (8, 2)),
        ("xor", {"hidden": 8}, "linear_2.weight", (1, 8)),
        ("mnist-mlp", {"hidden": 32}, "lin_2.weight", (10, 32)),
        ("mnist-cnn", {"channels": [4, 8]}, "layer2.0.weight", (8, 4, 3, 3)),
        ("mnist-cnn", {"channels": [4, 8]}, "fc.weight", (10, 392)),
    ],
)
def test_setting_changes_the_layer_sizes(
    name: str, config: dict[str, Any], key: str, shape: tuple[int, ...]
) -> None:
    assert tuple(build(name, **config).state_dict()[key].shape) == shape


@pytest.mark.parametrize(
    ("name", "config", "field"),
    [
        ("perceptron", {"hidden": 8}, "hidden"),
        ("dnn", {"hidden": 0}, "hidden"),
        ("dnn", {"hidden": "many"}, "hidden"),
        ("dnn", {"activation": "gelu"}, "activation"),
        ("xor", {"hidden": 4097}, "hidden"),
        ("xor", {"width": 3}, "width"),
        ("mnist-mlp", {"hidden": 2.5}, "hidden"),
        ("mnist-cnn", {"channels": [32]}, "channels.1"),
        ("mnist-cnn", {"channels": [32, 64, 128]}, "channels"),
        ("mnist-cnn", {"channels": [32, 0]}, "channels.1"),
    ],
)
def test_wrong_setting_is_refused_by_name(name: str, config: dict[str, Any], field: str) -> None:
    with pytest.raises(ValidationError) as refusal:
        registry.load(name).config(**config)

    assert [".".join(map(str, error["loc"])) for error in refusal.value.errors()] == [field]
