"""Loading and running checkpoints on CUDA."""

import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from perceptd.models import checkpoint, registry
from perceptd.models.checkpoint import Meta
from perceptd.service.errors import ModelUnavailableError
from perceptd.service.inference.runtimes import OnnxRuntime, TorchRuntime
from perceptd.service.store.repository import PRETRAINED
from tests.accelerator.conftest import no_free_memory

pytestmark = pytest.mark.cuda

MAX_BATCH_SIZE = 64
CNN = PRETRAINED / "mnist-cnn"


def on_cuda(folder: Path, meta: Meta, max_batch_size: int = MAX_BATCH_SIZE) -> TorchRuntime:
    return TorchRuntime(folder, meta, "cuda", threads=1, max_batch_size=max_batch_size)


def random_rows(meta: Meta, count: int, seed: int = 0) -> NDArray[np.float32]:
    shape = (count, *meta.spec.input.shape)
    return np.random.default_rng(seed).uniform(0, 1, shape).astype(np.float32)


@pytest.mark.parametrize("model", registry.BUILT_IN)
def test_both_runtimes_give_the_same_probabilities(model: str) -> None:
    folder = PRETRAINED / model
    meta = checkpoint.read(folder)
    onnx, torch = OnnxRuntime(folder, meta, threads=1), on_cuda(folder, meta)
    for count in (1, 7, MAX_BATCH_SIZE):
        rows = random_rows(meta, count)
        np.testing.assert_allclose(torch.run(rows), onnx.run(rows), rtol=0, atol=1e-5)


def test_batches_from_several_threads_do_not_mix_in_pinned_memory() -> None:
    meta = checkpoint.read(CNN)
    onnx, torch = OnnxRuntime(CNN, meta, threads=1), on_cuda(CNN, meta)
    batches = [random_rows(meta, count=seed % 9 + 1, seed=seed) for seed in range(200)]
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(torch.run, batches))
    for rows, answer in zip(batches, answers, strict=True):
        np.testing.assert_allclose(answer, onnx.run(rows), rtol=0, atol=1e-5)


def test_a_batch_without_device_memory_is_refused_and_the_next_one_is_answered(
    caplog: pytest.LogCaptureFixture,
) -> None:
    meta = checkpoint.read(CNN)
    runtime = on_cuda(CNN, meta, max_batch_size=1024)
    rows = random_rows(meta, 1024)
    expected = runtime.run(rows)
    too_little = pytest.raises(ModelUnavailableError, match="too little free memory for a batch")
    with caplog.at_level(logging.ERROR), no_free_memory(), too_little:
        runtime.run(rows)
    assert "out of memory on cuda" in caplog.text
    np.testing.assert_allclose(runtime.run(rows), expected, rtol=0, atol=1e-6)


def test_a_model_without_device_memory_is_refused_and_loads_later() -> None:
    meta = checkpoint.read(CNN)
    with no_free_memory(), pytest.raises(ModelUnavailableError, match="too little free memory"):
        on_cuda(CNN, meta)
    assert on_cuda(CNN, meta).run(random_rows(meta, 1)).shape == (1, 10)
