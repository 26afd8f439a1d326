"""What a checkpoint keeps of the rows it was trained on, for its inputs to be held against."""

import numpy as np

from perceptd.models.drift import Reference, reference
from perceptd.models.spec import ModelSpec, decide
from perceptd.training.data.splits import Split
from perceptd.training.evaluation.evaluate import BATCH_SIZE
from perceptd.training.plotting.plane import Classifier

MAX_ROWS = 10_000  # of a larger training set so many are looked at
SEED = 0


def reference_of(spec: ModelSpec, classify: Classifier, split: Split) -> Reference | None:
    """The training rows as `models/drift.py` counts them; None where none is of finite numbers."""
    rows = split.inputs
    if len(rows) > MAX_ROWS:
        rows = rows[np.random.default_rng(SEED).choice(len(rows), MAX_ROWS, replace=False)]
    answers = [
        decide(classify(rows[first : first + BATCH_SIZE]), spec.head)
        for first in range(0, len(rows), BATCH_SIZE)
    ]
    return reference(spec, rows, np.concatenate(answers))
