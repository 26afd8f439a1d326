"""Building blocks that more than one network uses."""

from torch import nn

from models.spec import Activation

_ACTIVATIONS: dict[Activation, type[nn.Module]] = {
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
}


def activation(name: Activation) -> nn.Module:
    """A fresh activation module of that name."""
    return _ACTIVATIONS[name]()
