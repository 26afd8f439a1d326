"""How a checkpoint is executed: ONNX Runtime on the CPU, torch on CUDA and MPS.

torch is imported only where it runs, or where an accelerator is there to be asked: on the CPU a
server never pays its seconds and hundreds of megabytes.
"""

import ctypes
import platform
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from models import checkpoint, registry
from models.checkpoint import GRAPH, Meta
from models.graph import open_graph
from service.errors import DeviceError
from service.settings import Settings

Device = Literal["cpu", "cuda", "mps"]
RuntimeName = Literal["onnx", "torch"]
Rows = NDArray[np.float32]  # (N, *spec.input.shape)
Probabilities = NDArray[np.float32]  # (N, K)


class Runtime(Protocol):
    """One loaded checkpoint. `run` may be called from several threads at once."""

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

    def run(self, rows: Rows) -> Probabilities:
        answer: Probabilities = self._session.run(None, {self._input: rows})[0]
        return answer


class TorchRuntime:
    """The checkpoint's module, built from its architecture and loaded onto a device."""

    name = "torch"

    def __init__(self, folder: Path, meta: Meta, device: Device, threads: int) -> None:
        import torch

        from models.layers import Probabilities as WithHead

        architecture = registry.load(meta.architecture)
        module = architecture.module(architecture.config.model_validate(meta.config))
        weights = checkpoint.read_weights(folder)
        module.load_state_dict({key: torch.from_numpy(value) for key, value in weights.items()})
        torch.set_num_threads(threads)
        torch.backends.cudnn.allow_tf32 = False  # both runtimes answer alike to 1e-5
        self.device: str = device
        self._torch = torch
        self._module = WithHead(module, meta.spec.head).eval().to(device)

    def run(self, rows: Rows) -> Probabilities:
        torch = self._torch
        with torch.inference_mode():
            answer: Any = self._module(torch.from_numpy(rows).to(self.device))
            probabilities: Probabilities = answer.cpu().numpy()
        return probabilities


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


def load(folder: Path, meta: Meta, device: Device, runtime: RuntimeName, threads: int) -> Runtime:
    """Load a verified checkpoint."""
    if runtime == "onnx":
        return OnnxRuntime(folder, meta, threads)
    return TorchRuntime(folder, meta, device, threads)


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
