"""The drift reference that a checkpoint keeps of its training rows."""

import numpy as np

from perceptd.models.drift import Reference, reference
from perceptd.models.spec import ModelSpec, decide
from perceptd.training.data.splits import Split
from perceptd.training.evaluation.evaluate import BATCH_SIZE
from perceptd.training.plotting.plane import Classifier

MAX_ROWS = 10_000  # larger training sets are sampled
SEED = 0


def reference_of(spec: ModelSpec, classify: Classifier, split: Split) -> Reference | None:
    """The drift reference of a training split; None if no row has only finite features."""
    rows = split.inputs
    if len(rows) > MAX_ROWS:
        rows = rows[np.random.default_rng(SEED).choice(len(rows), MAX_ROWS, replace=False)]
    predicted = [
        decide(classify(rows[first : first + BATCH_SIZE]), spec.head)
        for first in range(0, len(rows), BATCH_SIZE)
    ]
    return reference(spec, rows, np.concatenate(predicted))
