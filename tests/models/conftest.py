"""Checkpoints of the five models with fresh weights, each written once for all tests."""

from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import nn

from perceptd.models import checkpoint, export, registry
from tests.plug_ins import package as package

PICTURES = ("plots/loss.svg", "plots/loss.png")


@cache
def build(name: str) -> nn.Module:
    """A module with the weights that every test sees."""
    architecture = registry.load(name)
    torch.manual_seed(0)
    return architecture.module(architecture.config()).eval()


def provenance(name: str) -> checkpoint.Provenance:
    architecture = registry.load(name)
    return checkpoint.Provenance(
        architecture=name,
        config=architecture.config().model_dump(mode="json"),
        spec=architecture.spec,
        metrics={"test": {"loss": 0.5, "accuracy": 0.75}},
        curve=[checkpoint.CurvePoint(epoch=1, loss=0.7, test_loss=0.6, test_accuracy=0.7)],
        recipe={"epochs": 1},
        dataset=checkpoint.DatasetRef(name="none", sha256="0" * 64, rows={"train": 3, "test": 1}),
        parent_sha256=None,
        libraries={"torch": torch.__version__},
        git_commit=None,
        created_at=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    )


def write(name: str, target: Path) -> checkpoint.Meta:
    module = build(name)

    def fill(folder: Path) -> None:
        export.export(module, registry.load(name).spec, folder)
        for picture in PICTURES:
            (folder / picture).write_bytes(f"the picture {picture}".encode())

    weights = {key: value.numpy() for key, value in module.state_dict().items()}
    return checkpoint.write(target, provenance(name), weights, fill)


@pytest.fixture(scope="session")
def checkpoint_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of that model's checkpoint. Tests that alter one copy it first."""
    base = tmp_path_factory.mktemp("checkpoints")

    @cache
    def folder(name: str) -> Path:
        write(name, base / name)
        return base / name

    return folder
