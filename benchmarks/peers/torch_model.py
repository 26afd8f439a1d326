"""A shipped checkpoint in torch, on one thread."""

import torch
from safetensors.torch import load_file
from torch import nn


class Perceptron(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(2, 1)

    def forward(self, x):  # (N, 2)
        x = torch.sigmoid(self.linear(x))
        return torch.cat([1 - x, x], dim=1)  # (N, 2)


class CNN(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer1 = nn.Sequential(nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))
        self.layer2 = nn.Sequential(nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))
        self.fc = nn.Linear(64 * 7 * 7, 10)

    def forward(self, x):  # (N, 784)
        x = self.layer2(self.layer1(x.view(-1, 1, 28, 28)))  # (N, 64, 7, 7)
        return torch.softmax(self.fc(x.flatten(1)), dim=1)  # (N, 10)


NETWORKS = {"perceptron": Perceptron, "mnist-cnn": CNN}


class TorchModel:
    def __init__(self, folder):
        torch.set_num_threads(1)
        self.network = NETWORKS[folder.name]()
        self.network.load_state_dict(load_file(folder / "model.safetensors"))
        self.network.eval()

    def numbers(self, inputs):
        return torch.as_tensor(inputs, dtype=torch.float32)  # (N, features)

    def picture(self, raw):
        return torch.frombuffer(bytearray(raw), dtype=torch.uint8)[None] / 255  # (1, 784)

    def __call__(self, rows):
        """Probabilities (..., K) of rows (..., features)."""
        with torch.inference_mode():
            flat = self.network(rows.flatten(0, -2))
            return flat.view(*rows.shape[:-1], -1)
