"""What tests on a CUDA device share. They are skipped where there is none."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from perceptd.service.errors import DeviceError
from perceptd.service.inference import runtimes
from perceptd.service.settings import Settings


@pytest.fixture(autouse=True, scope="session")
def device() -> str:
    """The device under test."""
    try:
        return runtimes.pick(Settings(device="cuda"))[0]
    except DeviceError as error:
        pytest.skip(str(error))


@contextmanager
def no_free_memory() -> Iterator[None]:
    """Let torch allocate no more device memory than it has allocated now."""
    import torch

    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(0.0)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
