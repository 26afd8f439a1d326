"""A trained or imported module -> a checkpoint folder."""

import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from torch import nn

from perceptd.models import checkpoint, export, tracing
from perceptd.models.registry import Architecture
from perceptd.models.spec import ModelConfig
from perceptd.training.data.splits import Dataset
from perceptd.training.evaluation.drift import reference_of
from perceptd.training.evaluation.evaluate import classifier
from perceptd.training.plotting import plots
from perceptd.training.recipes import Recipe

LIBRARIES = ("perceptd", "torch", "torchvision", "onnx", "onnxruntime", "numpy", "scikit-learn")


def save(
    target: Path,
    architecture: Architecture,
    config: ModelConfig,
    module: nn.Module,
    *,
    metrics: dict[str, dict[str, float]],
    curve: list[checkpoint.CurvePoint],
    recipe: Recipe | None,
    data: Dataset | None,
    parent_sha256: str | None = None,
) -> checkpoint.Meta:
    """Write the module, which must be on the CPU, its graph and its plots to `target`."""
    spec = architecture.spec
    classify = classifier(module, spec.head)
    provenance = checkpoint.Provenance(
        architecture=architecture.name,
        config=config.model_dump(mode="json"),
        spec=spec,
        metrics=metrics,
        curve=curve,
        recipe=recipe.model_dump(mode="json") if recipe else None,
        dataset=data.ref if data else None,
        parent_sha256=parent_sha256,
        libraries=_libraries(),
        git_commit=_git_commit(),
        created_at=datetime.now(UTC),
        drift=reference_of(spec, classify, data.train) if data else None,
    )
    weights = {key: value.numpy() for key, value in module.state_dict().items()}

    def fill(folder: Path) -> None:
        with tracing.span("export"):
            export.export(module, spec, folder)
        with tracing.span("plots"):
            plots.draw(folder / "plots", architecture, classify, data, curve)

    checkpoint.remove_unfinished(target)
    return checkpoint.write(target, provenance, weights, fill)


def _libraries() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _git_commit() -> str | None:
    """The commit of this checkout; None outside a checkout or without git."""
    try:
        answer = subprocess.run(
            ["git", "rev-parse", "HEAD"],  # noqa: S607 - the user's PATH finds git
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError:
        return None
    return answer.stdout.strip() or None
