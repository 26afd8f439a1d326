"""An exported graph, opened in ONNX Runtime."""

import os
import threading
from functools import cache
from pathlib import Path

# On import, ONNX Runtime would open a database of usage events in the home folder and send them to
# its vendor. perceptd sends nothing.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import onnxruntime

from perceptd.models.checkpoint import CheckpointError

ERRORS_ONLY = 3  # onnxruntime's severity

_lock = threading.Lock()  # two threads may load a graph at the same time


def open_graph(path: Path, threads: int = 1) -> onnxruntime.InferenceSession:
    """A session on the CPU. It may be run from several threads at once.

    Raises `CheckpointError` if ONNX Runtime refuses the graph.
    """
    with _lock:
        share_memory()
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.use_env_allocators", "1")
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = ERRORS_ONLY
    try:
        return onnxruntime.InferenceSession(
            path, options, providers=["CPUExecutionProvider"], enable_fallback=0
        )
    except Exception as error:  # its message is empty if it would repeat bytes that are not UTF-8
        why = str(error).replace(f"{path.parent}{os.sep}", "") or type(error).__name__
        raise CheckpointError(f"ONNX Runtime cannot open {path.name}: {why}") from error


@cache
def share_memory() -> None:
    """Give all sessions one memory arena: an arena stays as large as its largest batch."""
    device = onnxruntime.OrtMemoryInfo(
        "Cpu",
        onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR,
        0,
        onnxruntime.OrtMemType.DEFAULT,
    )
    onnxruntime.create_and_register_allocator(device, None)
