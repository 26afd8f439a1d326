"""The shipped checkpoint as every peer serves it: in ONNX Runtime, on one thread.

Imports nothing but what the peer's environment has. CHECKPOINT is the checkpoint's folder.
"""

import os
from pathlib import Path

import numpy as np
import onnxruntime


class Model:
    def __init__(self):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        graph = Path(os.environ["CHECKPOINT"]) / "model.onnx"
        self.session = onnxruntime.InferenceSession(graph, options)
        (self.input,) = self.session.get_inputs()

    def numbers(self, inputs):
        return np.asarray(inputs, dtype=np.float32)  # (N, features)

    def picture(self, raw):
        return np.frombuffer(raw, dtype=np.uint8)[None].astype(np.float32) / 255  # (1, 784)

    def __call__(self, rows):
        """Probabilities (..., K) of rows (..., features)."""
        flat = rows.reshape(-1, *self.input.shape[1:])
        (probabilities,) = self.session.run(None, {self.input.name: flat})
        return probabilities.reshape(*rows.shape[:-1], -1)


def answer(probabilities):
    """Label and probabilities of each row of (N, K), as JSON."""
    predictions = []
    for row in probabilities.tolist():
        index = row.index(max(row))
        named = {str(label): probability for label, probability in enumerate(row)}
        predictions.append({"label": str(index), "index": index, "probabilities": named})
    return {"predictions": predictions}
