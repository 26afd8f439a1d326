"""The perceptron: one linear layer and a sigmoid, 3 parameters."""

import torch
from torch import Tensor, nn

from perceptd.models.registry import Architecture
from perceptd.models.spec import Example, InputSpec, ModelConfig, ModelSpec


class PerceptronConfig(ModelConfig):
    """Empty: a perceptron has no hidden layer to configure."""


class Perceptron(nn.Module):
    def __init__(self, config: PerceptronConfig) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.linear(x))  # (N, 2) -> (N, 1)


ARCHITECTURE = Architecture(
    name="perceptron",
    module=Perceptron,
    config=PerceptronConfig,
    spec=ModelSpec(
        description="One neuron that separates two clouds of points in the plane by a line.",
        input=InputSpec(shape=(2,)),
        labels=("0", "1"),
        head="sigmoid",
        example=Example(inputs=[[0.5, -0.5]]),
    ),
)
