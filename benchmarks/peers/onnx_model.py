"""A shipped checkpoint in ONNX Runtime, on one thread."""

import numpy as np
import onnxruntime


class OnnxModel:
    def __init__(self, folder):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(folder / "model.onnx", options)
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
