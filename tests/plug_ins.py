"""Packages that add an architecture, recipes or metrics, installed for one test."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

Package = Callable[..., None]

SPIRAL = """
import numpy as np
from torch import nn

from perceptd.models.registry import Architecture
from perceptd.models.spec import Example, InputSpec, ModelConfig, ModelSpec
from perceptd.training.recipes import Recipe
from perceptd.training.data.splits import Dataset, hold_out

def arms(spec, data_dir):
    inputs = np.random.default_rng(0).normal(size=(60, 2)).astype(np.float32)
    return hold_out("arms", inputs, (inputs[:, 0] > 0).astype(np.int64) + (inputs[:, 1] > 0))

ARCHITECTURE = Architecture(
    name="spiral",
    module=lambda config: nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 3)),
    config=ModelConfig,
    spec=ModelSpec(
        description="Three arms.",
        input=InputSpec(shape=(2,)),
        labels=("a", "b", "c"),
        head="softmax",
        example=Example(inputs=[[0.0, 0.0]]),
    ),
)
RECIPES = {
    "reference": Recipe(
        dataset=arms, optimizer="adam", learning_rate=0.05, epochs=60, batch_size=16, seed=0
    )
}
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Package]:
    """Install a package of one module; `models={"spiral": "module:NAME"}` are its entry points."""
    installed = []

    def install(module: str, code: str, **groups: dict[str, str]) -> None:
        info = tmp_path / f"site-{module}" / f"{module}-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
        lines = [
            line
            for group, entries in groups.items()
            for line in (f"[perceptd.{group}]", *(f"{k} = {v}" for k, v in entries.items()))
        ]
        (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
        (info.parent / f"{module}.py").write_text(code)
        monkeypatch.syspath_prepend(info.parent)
        installed.append(module)

    yield install
    for module in installed:
        sys.modules.pop(module, None)
