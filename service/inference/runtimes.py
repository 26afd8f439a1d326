"""How a checkpoint is executed: ONNX Runtime on the CPU, torch on CUDA and MPS.

torch is imported only where it runs, or where an accelerator is there to be asked: on the CPU a
server never pays its seconds and hundreds of megabytes.
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
CPU_NUMBERS = 64 * 784
MIN_ROWS, MAX_ROWS = 4, 1024
Probabilities = NDArray[np.float32]  # (N, K)

Result = TypeVar("Result")

log = logging.getLogger("perceptd.engine")


class Runtime(Protocol):
    """One loaded checkpoint. `run` may be called from several threads at once, with batches of as
    many rows as it was loaded for.
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

    On CUDA only a few batch sizes are run, each once before the first request: the first batch of a
    size is slow, as the device searches for the best kernels. Smaller batches are filled up. The
    device copies batches from pinned memory.

    Both raise `ModelUnavailableError` if the device has too little memory.
    """

    name = "torch"

    def __init__(
        self, folder: Path, meta: Meta, device: Device, threads: int, max_batch_size: int
    ) -> None:
        import torch

        from perceptd.models.networks.layers import Probabilities as WithHead

        architecture = registry.load(meta.architecture)
        module = architecture.module(architecture.config.model_validate(meta.config))
        weights = checkpoint.read_weights(folder)
        module.load_state_dict({key: torch.from_numpy(value) for key, value in weights.items()})
        torch.set_num_threads(threads)
        torch.backends.cudnn.allow_tf32 = False  # both runtimes answer alike to 1e-5
        self.device: str = device
        self._torch = torch
        self._pinned: Any = None
        self._module = WithHead(module, meta.spec.head).eval()
        self._in_memory("the model", self._module.to, device)
        if device == "cuda":
            largest = (max_batch_size, *meta.spec.input.shape)
            self._pinned = torch.zeros(largest, pin_memory=True)
            self._in_use = threading.Lock()
            for size in {
                filled_up(count, max_batch_size) for count in range(1, max_batch_size + 1)
            }:
                self.run(np.zeros((size, *meta.spec.input.shape), dtype=np.float32))

    def run(self, rows: Rows) -> Probabilities:
        run = self._run_pinned if self._pinned is not None else self._run
        return self._in_memory(f"a batch of {len(rows)} rows", run, rows)

    def _in_memory(self, what: str, function: Callable[[Any], Result], argument: Any) -> Result:
        """Call the function. Raises `ModelUnavailableError` if the device has too little memory."""
        try:
            with self._torch.inference_mode():
                return function(argument)
        except self._torch.OutOfMemoryError as error:
            reason = " ".join(str(error).split())
        # The error is gone, and with it the tensors of the frames that it had kept.
        self._torch.cuda.empty_cache()
        log.error("out of memory on %s: %s", self.device, reason)
        raise ModelUnavailableError(
            f"{self.device} has too little free memory for {what}; try again later, or lower "
            "PERCEPTD_MAX_BATCH_SIZE"
        )

    def _run(self, rows: Rows) -> Probabilities:
        return self._numbers(self._module(self._torch.from_numpy(rows).to(self.device)))

    def _run_pinned(self, rows: Rows) -> Probabilities:
        size = filled_up(len(rows), len(self._pinned))
        with self._in_use:
            self._pinned[: len(rows)] = self._torch.from_numpy(rows)
            batch = self._pinned[:size].to(self.device, non_blocking=True)
            return self._numbers(self._module(batch)[: len(rows)])  # waits for the device

    def _numbers(self, answer: Any) -> Probabilities:
        probabilities: Probabilities = answer.cpu().numpy()
        return probabilities


def filled_up(count: int, most: int) -> int:
    """The size of the batch that so many rows are run in: the next power of two, or the most."""
    return min(1 << (count - 1).bit_length(), most)


def pick(settings: Settings) -> tuple[Device, RuntimeName]:
    """The device and runtime this server uses. Raises `DeviceError` for one that is not here."""
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
    """The rows of a batch where the settings do not say.

    On the CPU batches of 64 pictures answered a quarter more requests of 64 connections than those
    of 8; what they hold the event loop up for stays below 10 ms.
    """
    if device != "cpu":
        return ACCELERATOR_ROWS
    return min(max(CPU_NUMBERS // spec.size, MIN_ROWS), MAX_ROWS)


def _works(device: Literal["cuda", "mps"]) -> bool:
    """Whether torch can use the accelerator; torch is only asked where there is hardware for it."""
    if not find_spec("torch") or not _HARDWARE[device]():
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


_HARDWARE = {"cuda": _has_nvidia_driver, "mps": _is_apple_silicon}
