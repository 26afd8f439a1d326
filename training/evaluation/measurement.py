"""Metrics of checkpoints on the same held-out rows.

The exported graph is measured, because it is what serves.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from perceptd.models import checkpoint
from perceptd.models.checkpoint import GRAPH, Meta
from perceptd.models.graph import open_graph
from perceptd.models.spec import ModelSpec
from perceptd.training.data import datasets
from perceptd.training.data.feedback import with_feedback
from perceptd.training.data.splits import Split
from perceptd.training.errors import MeasurementError
from perceptd.training.evaluation import metrics
from perceptd.training.evaluation.metrics import Probabilities
from perceptd.training.options import pick_recipe
from perceptd.training.progress import reporter

BATCH_SIZE = 1000


@dataclass(frozen=True)
class Candidate:
    """A verified checkpoint."""

    folder: Path
    meta: Meta

    @property
    def spec(self) -> ModelSpec:
        return self.meta.spec


def measure_checkpoints(
    folders: Sequence[Path],
    *,
    recipe: str,
    dataset: str | None,
    data_dir: Path,
    feedback: Path | None,
    progress: str,
) -> None:
    """Report the metrics of each checkpoint, in order, on the held-out rows of one data set."""
    candidates = read_candidates(folders)
    spec, architecture = candidates[0].spec, candidates[0].meta.architecture
    data = datasets.load(dataset or pick_recipe(architecture, recipe).dataset, spec, data_dir)
    if feedback:
        data = with_feedback(spec, data, feedback)
    known = metrics.of(spec, metrics.plug_ins())
    with reporter(progress) as report:
        for candidate in candidates:
            probabilities = predict(candidate, data.test)
            values = metrics.measure(known, data.test.targets, probabilities, candidate.spec)
            figures = ", ".join(f"{name} {value:.4f}" for name, value in values.items())
            report.event(
                "metrics",
                f"{candidate.folder} on {len(data.test):,} rows of {data.name}: {figures}",
                path=str(candidate.folder),
                sha256=candidate.meta.weights_sha256,
                dataset=data.ref.model_dump(),
                metrics=values,
            )


def read_candidates(folders: Sequence[Path]) -> list[Candidate]:
    """Verify the checkpoints, which must have the same architecture, input and labels.

    Raises `CheckpointError`, `MeasurementError`.
    """
    first, *others = candidates = [Candidate(folder, checkpoint.read(folder)) for folder in folders]
    for other in others:
        if other.meta.architecture != first.meta.architecture:
            raise MeasurementError(
                f"{other.folder} is a {other.meta.architecture}, {first.folder} a "
                f"{first.meta.architecture}: only checkpoints of one architecture are compared"
            )
        if (other.spec.input, other.spec.labels) != (first.spec.input, first.spec.labels):
            raise MeasurementError(
                f"{other.folder} has another input or other labels than {first.folder}"
            )
    return candidates


def predict(candidate: Candidate, split: Split) -> Probabilities:
    """The probabilities (N, K) that the checkpoint's graph returns for a split."""
    session = open_graph(candidate.folder / GRAPH)
    name = candidate.spec.input.name
    batches = [
        session.run(None, {name: split.inputs[begin : begin + BATCH_SIZE]})[0]
        for begin in range(0, len(split), BATCH_SIZE)
    ]
    probabilities: Probabilities = np.concatenate(batches)
    if not np.isfinite(probabilities).all():
        raise MeasurementError(f"{candidate.folder}: its graph returns NaN or infinities")
    return probabilities
