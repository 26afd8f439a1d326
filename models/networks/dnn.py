"""The deep network: one hidden layer separates an inner circle from an outer ring."""

import torch
from pydantic import Field
from torch import Tensor, nn

from perceptd.models.networks.layers import activation
from perceptd.models.registry import Architecture
from perceptd.models.spec import Activation, Example, InputSpec, ModelConfig, ModelSpec


class DNNConfig(ModelConfig):
    hidden: int = Field(4, ge=1, le=4096)
    activation: Activation = "sigmoid"


class DNN(nn.Module):
    def __init__(self, config: DNNConfig) -> None:
        super().__init__()
        self.linear1 = nn.Linear(2, config.hidden)
        self.activation = activation(config.activation)
        self.linear2 = nn.Linear(config.hidden, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.activation(self.linear1(x))  # (N, hidden)
        return torch.sigmoid(self.linear2(x))  # (N, 1)


ARCHITECTURE = Architecture(
    name="dnn",
    module=DNN,
    config=DNNConfig,
    spec=ModelSpec(
        description="Two layers that tell the inner circle (1) from the ring around it (0).",
        input=InputSpec(shape=(2,)),
        labels=("0", "1"),
        head="sigmoid",
        example=Example(inputs=[[0.1, -0.2], [1.0, 0.3]]),
    ),
)
