"""A foreign `.pt` or `.safetensors` -> the module it belongs to.

A `.pt` is read with `weights_only=True`: tensors and plain containers, never code.
"""

from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from models.checkpoint import describe_difference
from models.registry import Architecture
from models.spec import ModelConfig

WRAPPERS = ("state_dict", "model_state_dict", "model")  # keys under which trainers nest weights


class ImportFileError(ValueError):
    """A file that does not hold this architecture's weights; the text says what differs."""


def import_module(architecture: Architecture, config: ModelConfig, path: Path) -> nn.Module:
    """The architecture's module with the weights of that file, on the CPU.

    Raises `ImportFileError` where the file cannot be read safely, or keys or shapes differ.
    """
    state_dict = read_state_dict(path)
    module: nn.Module = architecture.module(config)
    expected = {key: list(value.shape) for key, value in module.state_dict().items()}
    found = {key: list(value.shape) for key, value in state_dict.items()}
    if difference := describe_difference(expected, found):
        raise ImportFileError(
            f"{path} does not fit {architecture.name} with {config.model_dump()}: {difference}"
        )
    if odd := [key for key, value in state_dict.items() if not _is_plain(value)]:
        raise ImportFileError(f"{path}: {', '.join(odd)} is not a dense tensor of real numbers")
    module.load_state_dict(state_dict)
    weights = module.state_dict()  # in the module's own precision
    if broken := [key for key, value in weights.items() if not value.isfinite().all()]:
        raise ImportFileError(f"{path}: {', '.join(broken)} holds NaN or infinities")
    return module.eval()


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Tensors by key, from a `.safetensors` file or a `.pt` saved by `torch.save(state_dict)`."""
    try:
        content: Any = (
            load_file(path)
            if path.suffix == ".safetensors"
            else torch.load(path, map_location="cpu", weights_only=True)
        )
    except FileNotFoundError as error:
        raise ImportFileError(f"{path} does not exist") from error
    except UnpicklingError as error:
        raise ImportFileError(
            f"{path} is damaged or holds more than tensors, and nothing else is ever loaded; "
            f"save the weights alone: torch.save(model.state_dict(), ...)"
        ) from error
    except Exception as error:  # the readers raise whatever the damaged file provokes
        raise ImportFileError(
            f"{path} is not a readable weights file: {str(error) or type(error).__name__}"
        ) from error
    for wrapper in WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    if not isinstance(content, dict) or not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in content.items()
    ):
        raise ImportFileError(
            f"{path} holds a {type(content).__name__}, expected a state_dict: tensors by name"
        )
    return content


def _is_plain(value: Tensor) -> bool:
    """Whether the tensor holds real numbers, one by one, that a module can take over."""
    return value.layout == torch.strided and not (
        value.is_quantized or value.is_complex() or value.is_meta
    )
