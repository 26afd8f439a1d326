"""The MNIST multilayer perceptron: 784 pixels, one hidden layer, 203,530 parameters."""

from pydantic import Field
from torch import Tensor, nn

from perceptd.models.networks.layers import activation
from perceptd.models.networks.mnist import digit_spec
from perceptd.models.registry import Architecture
from perceptd.models.spec import Activation, ModelConfig


class MnistMLPConfig(ModelConfig):
    hidden: int = Field(256, ge=1, le=4096)
    activation: Activation = "relu"


class MnistMLP(nn.Module):
    def __init__(self, config: MnistMLPConfig) -> None:
        super().__init__()
        self.lin_1 = nn.Linear(784, config.hidden)
        self.activation = activation(config.activation)
        self.lin_2 = nn.Linear(config.hidden, 10)
        for layer in (self.lin_1, self.lin_2):
            nn.init.kaiming_normal_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = self.activation(self.lin_1(x))  # (N, 784) -> (N, hidden)
        logits: Tensor = self.lin_2(x)  # (N, 10)
        return logits


ARCHITECTURE = Architecture(
    name="mnist-mlp",
    module=MnistMLP,
    config=MnistMLPConfig,
    spec=digit_spec("Reads a handwritten digit with one hidden layer.", shape=(784,)),
)
