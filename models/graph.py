"""An exported graph, opened in ONNX Runtime."""

import os
import threading
from functools import cache
from pathlib import Path

# At import already, ONNX Runtime opens a database of usage events in the home folder, to be sent to
# its maker. Nothing a model is asked leaves this process.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import onnxruntime

ERRORS_ONLY = 3  # onnxruntime's severity

_sharing = threading.Lock()  # two that load at once


def open_graph(path: Path, threads: int = 1) -> onnxruntime.InferenceSession:
    """A session on the CPU. It may be run from several threads at once."""
    with _sharing:
        share_memory()
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.use_env_allocators", "1")
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = ERRORS_ONLY
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


@cache
def share_memory() -> None:
    """Give all sessions one arena: each would keep what its own largest batch took."""
    device = onnxruntime.OrtMemoryInfo(
        "Cpu",
        onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR,
        0,
        onnxruntime.OrtMemType.DEFAULT,
    )
    onnxruntime.create_and_register_allocator(device, None)
