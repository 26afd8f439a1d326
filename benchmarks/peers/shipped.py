"""The shipped checkpoint as every peer serves it: in torch, or in ONNX Runtime if RUNTIME says so.

Imports nothing but what the peer's environment has. CHECKPOINT is the checkpoint's folder.
"""

import os
from pathlib import Path


def load():
    folder = Path(os.environ["CHECKPOINT"])
    if os.environ["RUNTIME"] == "onnx":
        from benchmarks.peers.onnx_model import OnnxModel

        return OnnxModel(folder)
    from benchmarks.peers.torch_model import TorchModel

    return TorchModel(folder)


def answer(probabilities):
    """Label and probabilities of each row of (N, K), as JSON."""
    predictions = []
    for row in probabilities.tolist():
        index = row.index(max(row))
        named = {str(label): probability for label, probability in enumerate(row)}
        predictions.append({"label": str(index), "index": index, "probabilities": named})
    return {"predictions": predictions}
