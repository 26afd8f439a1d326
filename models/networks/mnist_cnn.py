"""The MNIST convolutional network: two convolutions and one linear layer, 50,186 parameters."""

from typing import Annotated

from pydantic import Field
from torch import Tensor, nn

from perceptd.models.networks.layers import activation
from perceptd.models.networks.mnist import digit_spec
from perceptd.models.registry import Architecture
from perceptd.models.spec import Activation, ModelConfig

Channels = Annotated[int, Field(ge=1, le=1024)]


class MnistCNNConfig(ModelConfig):
    channels: tuple[Channels, Channels] = (32, 64)
    activation: Activation = "relu"


class MnistCNN(nn.Module):
    def __init__(self, config: MnistCNNConfig) -> None:
        super().__init__()
        first, second = config.channels
        self.layer1 = nn.Sequential(
            nn.Conv2d(1, first, kernel_size=3, stride=1, padding=1),
            activation(config.activation),
            nn.MaxPool2d(2),
        )
        self.layer2 = nn.Sequential(
            nn.Conv2d(first, second, kernel_size=3, stride=1, padding=1),
            activation(config.activation),
            nn.MaxPool2d(2),
        )
        self.fc = nn.Linear(second * 7 * 7, 10)
        nn.init.xavier_uniform_(self.fc.weight)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer1(x)  # (N, 32, 14, 14)
        x = self.layer2(x)  # (N, 64, 7, 7)
        logits: Tensor = self.fc(x.flatten(1))  # (N, 10)
        return logits


ARCHITECTURE = Architecture(
    name="mnist-cnn",
    module=MnistCNN,
    config=MnistCNNConfig,
    spec=digit_spec("Reads a handwritten digit with two convolutions.", shape=(1, 28, 28)),
)
