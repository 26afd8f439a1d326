"""A module's predictions, and its loss and accuracy on one split."""

from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from perceptd.models.networks.layers import Probabilities
from perceptd.models.spec import Head
from perceptd.training.plotting.plane import Classifier

BATCH_SIZE = 1000
CPU = torch.device("cpu")


def loss_of(output: Tensor, targets: Tensor, head: Head) -> Tensor:
    """Mean loss: binary cross-entropy of P (N, 1), or cross-entropy of logits (N, K)."""
    if head == "sigmoid":
        return functional.binary_cross_entropy(output, targets.unsqueeze(1).to(output.dtype))
    return functional.cross_entropy(output, targets)


def correct(output: Tensor, targets: Tensor, head: Head) -> Tensor:
    """The number of rows predicted correctly, as a scalar tensor."""
    predicted = output[:, 0] >= 0.5 if head == "sigmoid" else output.argmax(dim=1)  # (N,)
    return (predicted == targets).sum()


@torch.inference_mode()
def evaluate(
    module: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    head: Head,
    precision: AbstractContextManager[None] | None = None,
) -> dict[str, float]:
    """Mean loss and accuracy over all rows, in eval mode."""
    was_training = module.training
    module.eval()
    loss = torch.zeros((), device=inputs.device)
    right = torch.zeros((), device=inputs.device)
    with precision or nullcontext():
        for first in range(0, len(inputs), BATCH_SIZE):
            x = inputs[first : first + BATCH_SIZE]  # (B, *shape)
            y = targets[first : first + BATCH_SIZE]  # (B,)
            output = module(x).float()  # (B, 1) or (B, K)
            loss += loss_of(output, y, head) * len(x)
            right += correct(output, y, head)
    module.train(was_training)
    return {"loss": loss.item() / len(inputs), "accuracy": right.item() / len(inputs)}


def classifier(module: nn.Module, head: Head, device: torch.device = CPU) -> Classifier:
    """A function from rows to probabilities (N, K), by a module on that device.

    It runs the module in eval mode and then restores the module's mode.
    """
    with_head = Probabilities(module, head)

    @torch.inference_mode()
    def classify(rows: NDArray[np.float32]) -> NDArray[np.float32]:
        was_training = module.training
        module.eval()
        answer: NDArray[np.float32] = with_head(torch.from_numpy(rows).to(device)).cpu().numpy()
        module.train(was_training)
        return answer

    return classify
