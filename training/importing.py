"""Turns a `.pt` or `.safetensors` file into a module of an architecture, and into a checkpoint.

A `.pt` is read with `weights_only=True`: tensors and plain containers, never code.
"""

import time
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import click
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from perceptd.models import registry
from perceptd.models.checkpoint import describe_difference
from perceptd.models.registry import Architecture
from perceptd.models.spec import ModelConfig
from perceptd.training import recipes
from perceptd.training.data import datasets
from perceptd.training.data.splits import Dataset
from perceptd.training.errors import DataError, ImportFileError, UnknownRecipeError
from perceptd.training.evaluation.evaluate import evaluate
from perceptd.training.options import free_target, parse
from perceptd.training.progress import report_checkpoint, reporter, summary
from perceptd.training.save import save

WRAPPERS = ("state_dict", "model_state_dict", "model")  # keys under which trainers nest weights


def import_file(
    name: str,
    file: Path,
    *,
    dataset: str | None,
    data_dir: Path,
    config: dict[str, Any] | None,
    out: Path | None,
    progress: str,
) -> None:
    """Write a checkpoint of the architecture `name` with the weights in `file`."""
    began = time.monotonic()
    architecture = registry.load(name)
    target = free_target(out, name)
    settings = parse(architecture.config, config or {}, "--set")
    module = import_module(architecture, settings, file)
    data = import_data(architecture, dataset, data_dir)
    head = architecture.spec.head
    metrics = {
        key: evaluate(module, torch.from_numpy(rows.inputs), torch.from_numpy(rows.targets), head)
        for key, rows in (data.splits if data else {}).items()
    }
    meta = save(
        target, architecture, settings, module, metrics=metrics, curve=[], recipe=None, data=data
    )
    network = ", ".join(f"{key} {value}" for key, value in settings.model_dump().items())
    text = f"{target}: {name} ({network or 'nothing to set'}) from {file}{summary(metrics)}"
    with reporter(progress) as report:
        report_checkpoint(report, target, meta, text, time.monotonic() - began)


def import_data(architecture: Architecture, dataset: str | None, data_dir: Path) -> Dataset | None:
    """The data to evaluate on: that asked for, else the reference recipe's if no download needs it.

    None where there is none, with a line on stderr.
    """
    if dataset:
        return datasets.load(dataset, architecture.spec, data_dir)
    try:
        reference = recipes.of(architecture.name)["reference"].dataset
        return datasets.load_present(reference, architecture.spec, data_dir)
    except (UnknownRecipeError, DataError) as error:
        click.echo(f"Not evaluated: {error}", err=True)
        return None


def import_module(architecture: Architecture, config: ModelConfig, path: Path) -> nn.Module:
    """The architecture's module on the CPU, in eval mode, with the weights of a file.

    Raises `ImportFileError` if the file cannot be read safely, if keys or shapes differ, or if a
    weight is not finite.
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
    """Tensors by key, from a `.safetensors` file or one that `torch.save(state_dict)` wrote.

    Raises `ImportFileError`.
    """
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
            f"{path} is damaged or holds more than tensors, and only tensors are loaded; "
            "save the weights alone: torch.save(model.state_dict(), ...)"
        ) from error
    except Exception as error:  # a damaged file makes the readers raise anything
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
    """Whether the tensor is dense and holds real numbers."""
    return value.layout == torch.strided and not (
        value.is_quantized or value.is_complex() or value.is_meta
    )
