"""The XOR network: two layers for a problem that one layer cannot solve."""

import torch
from pydantic import Field
from torch import Tensor, nn

from perceptd.models.networks.layers import activation
from perceptd.models.registry import Architecture
from perceptd.models.spec import Activation, Example, InputSpec, ModelConfig, ModelSpec


class XORConfig(ModelConfig):
    hidden: int = Field(5, ge=1, le=4096)
    activation: Activation = "relu"


class XOR(nn.Module):
    def __init__(self, config: XORConfig) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(2, config.hidden)
        self.activation = activation(config.activation)
        self.linear_2 = nn.Linear(config.hidden, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.activation(self.linear_1(x))  # (N, 2) -> (N, hidden)
        return torch.sigmoid(self.linear_2(x))  # (N, 1)


ARCHITECTURE = Architecture(
    name="xor",
    module=XOR,
    config=XORConfig,
    spec=ModelSpec(
        description="Exclusive or in the plane: 1 where the signs of the two numbers differ.",
        input=InputSpec(shape=(2,)),
        labels=("0", "1"),
        head="sigmoid",
        example=Example(inputs=[[-1.0, 1.0], [1.0, 1.0]]),
    ),
)
