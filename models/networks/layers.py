"""Building blocks that more than one network uses."""

import torch
from torch import Tensor, nn

from perceptd.models.spec import Activation, Head

_ACTIVATIONS: dict[Activation, type[nn.Module]] = {
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
}


def activation(name: Activation) -> nn.Module:
    """A new activation module."""
    return _ACTIVATIONS[name]()


class Probabilities(nn.Module):
    """A module with its head applied: rows -> probabilities of every label, (N, K)."""

    def __init__(self, module: nn.Module, head: Head) -> None:
        super().__init__()
        self.module = module
        self.head = head

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.module(x)  # sigmoid: P(class 1), (N, 1); softmax: logits, (N, K)
        if self.head == "sigmoid":
            return torch.cat([1 - out, out], dim=1)  # (N, 2)
        return torch.softmax(out, dim=1)  # (N, K)
