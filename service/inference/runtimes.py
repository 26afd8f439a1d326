"""Runs a checkpoint: ONNX Runtime on the CPU, torch on CUDA and MPS.

torch is imported only if it runs or if the machine has an accelerator. A server on the CPU saves
the seconds and the hundreds of megabytes that it takes.
"""

import ctypes
import logging
import platform
import threading
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from perceptd.models import checkpoint, registry
from perceptd.models.checkpoint import GRAPH, Meta
from perceptd.models.graph import open_graph
from perceptd.models.spec import InputSpec
from perceptd.service.errors import DeviceError, ModelUnavailableError
from perceptd.service.inference.answers import Rows
from perceptd.service.settings import Settings

Device = Literal["cpu", "cuda", "mps"]
RuntimeName = Literal["onnx", "torch"]
ACCELERATOR_ROWS = 256
CPU_NUMBERS = 64 * 784  # 64 pictures of 28 x 28
MIN_ROWS, MAX_ROWS = 4, 1024

Probabilities = NDArray[np.float32]  # (N, K)
Result = TypeVar("Result")

log = logging.getLogger("perceptd.engine")


class Runtime(Protocol):
    """One loaded checkpoint. `run` is thread-safe, and takes at most as many rows as the checkpoint
    was loaded for.
    """

    name: str
    device: str

    def run(self, rows: Rows) -> Probabilities: ...


class OnnxRuntime:
    """The checkpoint's graph on ONNX Runtime's CPU provider."""

    name = "onnx"
    device = "cpu"

    def __init__(self, folder: Path, meta: Meta, threads: int) -> None:
        self._session = open_graph(folder / GRAPH, threads)
        self._input = meta.spec.input.name
        self._outputs = [self._session.get_outputs()[0].name]

    def run(self, rows: Rows) -> Probabilities:
        answer: Probabilities = self._session.run(self._outputs, {self._input: rows})[0]
        return answer


class TorchRuntime:
    """The checkpoint's module, built from its architecture and loaded onto a device.

    If it pads, as on CUDA, it runs a few batch sizes only: it fills smaller batches up. It runs
    each size once before the first request, as a device searches for the best kernels when it first
    sees a size. A CUDA device copies these batches from pinned memory.

    Loading and `run` raise `ModelUnavailableError` if the device has too little memory.
    """

    name = "torch"

    def __init__(
        self,
        folder: Path,
        meta: Meta,
        device: Device,
        threads: int,
        max_batch_size: int,
        *,
        pads: bool | None = None,
    ) -> None:
        import torch

        from perceptd.models.networks.layers import Probabilities as WithHead

        architecture = registry.load(meta.architecture)
        module = architecture.module(architecture.config.model_validate(meta.config))
        weights = checkpoint.read_weights(folder)
        module.load_state_dict({key: torch.from_numpy(value) for key, value in weights.items()})
        torch.set_num_threads(threads)
        torch.backends.cudnn.allow_tf32 = False  # else runtimes differ by more than 1e-5
        self.device: str = device
        self._torch = torch
        self._buffer: Any = None
        self._module = WithHead(module, meta.spec.head).eval()
        self._in_memory("the model", self._module.to, device)
        if pads or (pads is None and device == "cuda"):
            largest = (max_batch_size, *meta.spec.input.shape)
            self._buffer = torch.zeros(largest, pin_memory=device == "cuda")
            self._buffer_lock = threading.Lock()
            for size in {
                padded_size(count, max_batch_size) for count in range(1, max_batch_size + 1)
            }:
                self.run(np.zeros((size, *meta.spec.input.shape), dtype=np.float32))

    def run(self, rows: Rows) -> Probabilities:
        run = self._run_padded if self._buffer is not None else self._run
        return self._in_memory(f"a batch of {len(rows)} rows", run, rows)

    def _in_memory(self, what: str, function: Callable[[Any], Result], argument: Any) -> Result:
        """Call the function. Raises `ModelUnavailableError` if the device has too little memory."""
        try:
            with self._torch.inference_mode():
                return function(argument)
        except self._torch.OutOfMemoryError as error:
            reason = " ".join(str(error).split())
        # Out of the except block: the error no longer keeps the tensors of its frames alive.
        self._torch.cuda.empty_cache()
        log.error("out of memory on %s: %s", self.device, reason)
        raise ModelUnavailableError(
            f"{self.device} has too little free memory for {what}; try again later, or lower "
            "PERCEPTD_MAX_BATCH_SIZE"
        )

    def _run(self, rows: Rows) -> Probabilities:
        return self._numbers(self._module(self._torch.from_numpy(rows).to(self.device)))

    def _run_padded(self, rows: Rows) -> Probabilities:
        size = padded_size(len(rows), len(self._buffer))
        with self._buffer_lock:
            self._buffer[: len(rows)] = self._torch.from_numpy(rows)
            batch = self._buffer[:size].to(self.device, non_blocking=True)
            return self._numbers(self._module(batch)[: len(rows)])  # waits for the device

    def _numbers(self, answer: Any) -> Probabilities:
        probabilities: Probabilities = answer.cpu().numpy()
        return probabilities


def padded_size(count: int, max_size: int) -> int:
    """The size of the batch that `count` rows run in: the next power of two, at most `max_size`."""
    return min(1 << (count - 1).bit_length(), max_size)


def pick(settings: Settings) -> tuple[Device, RuntimeName]:
    """The device and the runtime that the settings name. Raises `DeviceError` if one is missing."""
    device = _pick_device(settings)
    runtime = settings.runtime
    if runtime == "auto":
        return device, "onnx" if device == "cpu" else "torch"
    if runtime == "onnx" and device != "cpu":
        raise DeviceError(f"PERCEPTD_RUNTIME=onnx runs on the CPU, not on {device}")
    if runtime == "torch" and not find_spec("torch"):
        raise DeviceError("PERCEPTD_RUNTIME=torch: torch is not installed (perceptd[train] has it)")
    return device, runtime


def _pick_device(settings: Settings) -> Device:
    device = settings.device
    if device == "auto":
        return "cuda" if _works("cuda") else "mps" if _works("mps") else "cpu"
    if device != "cpu" and not _works(device):
        raise DeviceError(f"PERCEPTD_DEVICE={device}: no such device, or torch is not installed")
    return device


def load(
    folder: Path,
    meta: Meta,
    device: Device,
    runtime: RuntimeName,
    threads: int,
    max_batch_size: int,
) -> Runtime:
    """Load a verified checkpoint."""
    if runtime == "onnx":
        return OnnxRuntime(folder, meta, threads)
    return TorchRuntime(folder, meta, device, threads, max_batch_size)


def usual_batch_size(device: Device, spec: InputSpec) -> int:
    """Maximum rows of a batch if the settings do not say.

    On the CPU, batches of 64 pictures answered a quarter more requests of 64 connections than
    batches of 8, and block the event loop for less than 10 ms.
    """
    if device != "cpu":
        return ACCELERATOR_ROWS
    return min(max(CPU_NUMBERS // spec.size, MIN_ROWS), MAX_ROWS)


def _works(device: Literal["cuda", "mps"]) -> bool:
    """Whether torch can use the accelerator. torch is only imported if the hardware is there."""
    if not find_spec("torch") or not HAS_HARDWARE[device]():
        return False
    import torch

    backend = torch.cuda if device == "cuda" else torch.backends.mps
    return bool(backend.is_available())


def _has_nvidia_driver() -> bool:
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    count = ctypes.c_int()
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return False
    return count.value > 0


def _is_apple_silicon() -> bool:
    return platform.system() == "Darwin" and platform.machine() == "arm64"


HAS_HARDWARE = {"cuda": _has_nvidia_driver, "mps": _is_apple_silicon}
