"""Versions that are loaded, swapped and answer, from a real store with the shipped checkpoints."""

import errno
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import httpx
import numpy as np
import pytest

from perceptd.models import checkpoint, registry
from perceptd.models.checkpoint import GRAPH, META, WEIGHTS
from perceptd.models.preprocessing import from_numbers
from perceptd.service.commands.common import opened_store
from perceptd.service.errors import (
    DeviceError,
    ModelNotFoundError,
    ModelUnavailableError,
    StoreError,
    VersionNotFoundError,
)
from perceptd.service.inference import engine as engine_module
from perceptd.service.inference import runtimes
from perceptd.service.inference.engine import MAX_READERS, Engine
from perceptd.service.inference.runtimes import OnnxRuntime, TorchRuntime
from perceptd.service.settings import Settings
from perceptd.service.store.aliases import PRODUCTION
from perceptd.service.store.repository import PRETRAINED, Repository
from tests.waiting import eventually

DNN = PRETRAINED / "dnn"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path, max_pinned_versions=2)


@pytest.fixture
def repository(settings: Settings) -> Iterator[Repository]:
    with opened_store(settings) as repository:
        yield repository


@pytest.fixture
def engine(repository: Repository, settings: Settings) -> Engine:
    engine = Engine(repository, settings)
    engine.refresh()
    return engine


def damage(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def test_a_refresh_swaps_to_the_new_production_version(
    engine: Engine, repository: Repository
) -> None:
    before = engine.production["dnn"]
    repository.register(DNN, promote=True)
    engine.refresh()
    assert (before.version, engine.production["dnn"].version) == (1, 2)
    assert engine.production["xor"].version == 1


@pytest.mark.parametrize("file", [WEIGHTS, GRAPH, META])
def test_if_a_version_fails_to_load_the_previous_one_goes_on_serving(
    engine: Engine, repository: Repository, file: str
) -> None:
    repository.register(DNN, promote=True)
    damage(repository.folder("dnn", 2) / file)
    engine.refresh()
    assert engine.production["dnn"].version == 1
    assert "version 2 cannot be loaded" in engine.failures["dnn"]
    repository.point("dnn", PRODUCTION, 1)
    engine.refresh()
    assert engine.failures == {}


def test_the_path_of_a_checkpoint_that_cannot_be_loaded_is_only_in_the_log(
    engine: Engine,
    repository: Repository,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken(path: Path, *_: Any, **__: Any) -> Any:
        raise OSError(errno.EIO, "Input/output error", str(path))

    repository.register(DNN, promote=True)
    monkeypatch.setattr(engine_module, "RETRY_S", 0.0)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", broken)
        engine.refresh()
    assert "cannot be read (Input/output error)" in engine.failures["dnn"]
    assert "/" not in engine.failures["dnn"].replace("Input/output", "")
    with monkeypatch.context() as patch:
        patch.setattr(runtimes, "load", broken)
        engine.refresh()
    reason = "OSError, see the server's log"
    assert engine.failures == {"dnn": f"version 2 cannot be loaded: {reason}"}
    assert str(repository.folder("dnn", 2)) in caplog.text


def test_a_swap_is_counted_when_it_is_made(
    repository: Repository, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    swaps: list[str] = []
    engine = Engine(repository, settings, on_swap=swaps.append)
    engine.refresh()
    for model in ("dnn", "xor"):
        repository.register(PRETRAINED / model, promote=True)
    load = runtimes.load

    def without_the_store(folder: Path, *others: Any) -> Any:
        if folder.parent.name == "xor":
            raise StoreError("the database is away")
        return load(folder, *others)

    with monkeypatch.context() as patch:
        patch.setattr(runtimes, "load", without_the_store)
        with pytest.raises(StoreError):
            engine.refresh()
    assert swaps == []
    assert engine.production["dnn"].version == 1
    engine.refresh()
    assert swaps == ["dnn", "xor"]


def test_a_version_that_failed_to_load_is_tried_again_later(
    engine: Engine, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository.register(DNN, promote=True)
    graph = repository.folder("dnn", 2) / GRAPH
    graph.rename(graph.with_suffix(".away"))
    engine.refresh()
    assert "model.onnx is missing" in engine.failures["dnn"]
    graph.with_suffix(".away").rename(graph)
    engine.refresh()
    assert engine.production["dnn"].version == 1
    monkeypatch.setattr(engine_module, "RETRY_S", 0.0)
    engine.refresh()
    assert engine.production["dnn"].version == 2
    assert engine.failures == {}


def test_a_store_that_fails_does_not_shorten_the_pause_between_tries(
    engine: Engine, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    for model in ("dnn", "xor"):
        repository.register(PRETRAINED / model, promote=True)
    tried: list[str] = []

    def failing(folder: Path, *_: Any) -> Any:
        tried.append(folder.parent.name)
        if folder.parent.name == "dnn":
            raise ValueError("damaged")
        raise StoreError("the database is away") if len(tried) > 2 else ValueError("damaged")

    monkeypatch.setattr(runtimes, "load", failing)
    engine.refresh()
    long_ago = engine.snapshot.tried_at - engine_module.RETRY_S - 1
    engine.snapshot = replace(engine.snapshot, tried_at=long_ago)
    with pytest.raises(StoreError):
        engine.refresh()
    engine.refresh()

    assert tried == ["dnn", "xor"] * 2


def test_without_checkpoint_folders_each_model_says_what_is_missing(
    repository: Repository, settings: Settings
) -> None:
    shutil.rmtree(settings.data_dir / "checkpoints")
    engine = Engine(repository, settings)
    engine.refresh()
    assert engine.production == {}
    assert set(engine.failures) == set(registry.BUILT_IN)
    assert "meta.json cannot be read" in engine.failures["xor"]


def test_versions_are_loaded_by_number_and_the_least_recently_used_are_dropped(
    engine: Engine, repository: Repository
) -> None:
    for _ in range(3):
        repository.register(DNN)

    async def find() -> None:
        second = await engine.find("dnn", 2)
        third = await engine.find("dnn", 3)
        assert await engine.find("dnn", 2) is second
        await engine.find("dnn", 4)
        assert await engine.find("dnn", 2) is second
        assert await engine.find("dnn", 3) is not third
        assert (await engine.find("dnn", 1)) is engine.production["dnn"]
        with pytest.raises(VersionNotFoundError):
            await engine.find("dnn", 5)
        with pytest.raises(ModelNotFoundError, match="serving: dnn"):
            await engine.find("nope", 1)
        damage(repository.folder("dnn", 3) / WEIGHTS)
        await engine.find("dnn", 4)
        await engine.find("dnn", 2)
        with pytest.raises(ModelUnavailableError, match="altered"):
            await engine.find("dnn", 3)

    anyio.run(find)


@pytest.mark.parametrize("model", registry.BUILT_IN)
def test_both_runtimes_give_the_same_probabilities(model: str) -> None:
    folder = PRETRAINED / model
    meta = checkpoint.read(folder)
    random = np.random.default_rng(1)
    onnx = OnnxRuntime(folder, meta, threads=1)
    torch = TorchRuntime(folder, meta, "cpu", threads=1, max_batch_size=64)
    for count in (1, 7, 64):
        rows = random.uniform(0, 1, (count, *meta.spec.input.shape)).astype(np.float32)
        np.testing.assert_allclose(onnx.run(rows), torch.run(rows), atol=1e-5)


@pytest.mark.parametrize(
    ("rows", "size"), [(1, 1), (2, 2), (3, 4), (33, 64), (64, 64), (65, 100), (100, 100)]
)
def test_batches_are_padded_to_a_few_sizes(rows: int, size: int) -> None:
    assert runtimes.padded_size(rows, 100) == size


def test_a_padded_batch_answers_its_own_rows() -> None:
    """As on CUDA, but without pinned memory."""
    meta = checkpoint.read(DNN)
    plain, padded = (
        TorchRuntime(DNN, meta, "cpu", threads=1, max_batch_size=8, pads=pads)
        for pads in (False, True)
    )
    random = np.random.default_rng(1)
    for count in (8, 3, 1, 5):
        rows = random.uniform(-1, 1, (count, 2)).astype(np.float32)
        np.testing.assert_allclose(padded.run(rows), plain.run(rows), atol=1e-6)


@pytest.mark.parametrize(
    "wrong", [{"device": "cuda", "runtime": "onnx"}, {"device": "mps"}, {"device": "cuda"}]
)
def test_a_device_that_the_machine_does_not_have_is_refused(
    wrong: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    hardware = {"cuda": lambda: False, "mps": lambda: False}
    monkeypatch.setattr(runtimes, "HAS_HARDWARE", hardware)
    with pytest.raises(DeviceError, match=f"PERCEPTD_DEVICE={wrong['device']}"):
        runtimes.pick(Settings.model_validate(wrong))


def test_torch_runs_on_the_cpu_if_the_settings_say_so(
    repository: Repository, settings: Settings
) -> None:
    engine = Engine(repository, settings.model_copy(update={"device": "cpu", "runtime": "torch"}))
    engine.refresh()
    loaded = engine.production["mnist-cnn"]
    example = loaded.spec.example
    rows = from_numbers(loaded.spec.input, example.inputs, example.dtype)
    assert (loaded.runtime.name, loaded.runtime.device) == ("torch", "cpu")
    assert anyio.run(loaded.answer, rows).indices.tolist() == [7]


def test_a_server_on_the_cpu_never_imports_torch(tmp_path: Path) -> None:
    """From start to answers, in a fresh interpreter."""
    script = """
import json, sys
from perceptd.service.settings import Settings
from tests.server import running
from pathlib import Path
with running(Settings(data_dir=Path(sys.argv[1]), device="cpu")) as client:
    for model in client.get("/models").json()["models"]:
        assert client.post("/predict_proba", json=model["example"]).status_code == 200
        assert client.get(f"/models/{model['name']}/versions/1").status_code == 200
    assert client.get("/openapi.json").status_code == 200
unwanted = {"torch", "torchvision", "sklearn", "matplotlib", "onnx", "training"}
print(json.dumps(sorted(unwanted & sys.modules.keys())))
"""
    answer = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert json.loads(answer.stdout.splitlines()[-1]) == []


def test_a_damaged_checkpoint_is_named_and_the_other_models_serve(
    serve: Callable[[Settings], httpx.Client], repository: Repository, settings: Settings
) -> None:
    damage(repository.folder("dnn", 1) / WEIGHTS)
    client = serve(settings)

    ready = client.get("/health/ready")
    assert (ready.status_code, ready.json()["code"]) == (503, "model_unavailable")
    assert "dnn: version 1 cannot be loaded" in ready.json()["detail"]
    assert ready.headers["Retry-After"]
    assert client.get("/health/live").json() == {"status": "live"}

    refused = client.post("/predict", json={"model": "dnn", "inputs": [[0, 0]]})
    assert (refused.status_code, refused.json()["code"]) == (503, "model_unavailable")
    assert "model.safetensors was altered" in refused.json()["detail"]
    assert client.post("/predict", json={"model": "xor", "inputs": [[1, 1]]}).status_code == 200
    assert "dnn" in client.get("/models").json()["failures"]


def test_a_running_server_serves_what_another_process_promotes(
    serve: Callable[[Settings], httpx.Client], repository: Repository, settings: Settings
) -> None:
    client = serve(settings)

    def ask() -> httpx.Response:
        return client.post("/predict", json={"model": "rings", "inputs": [[0, 0]]})

    assert ask().status_code == 404
    repository.register(DNN, "rings")
    eventually(lambda: ask().is_success, "the server loads the new model", seconds=1)
    assert ask().json()["predictions"] == [{"label": "1", "index": 1}]
    assert "rings" in client.get("/openapi.json").text


def test_large_bodies_are_read_a_few_at_a_time_and_leave_threads_for_batches(
    engine: Engine,
) -> None:
    may_end = threading.Event()
    reading: list[int] = []
    most: list[int] = []

    def read(number: int) -> None:
        reading.append(number)
        most.append(len(reading))
        may_end.wait()
        reading.remove(number)

    async def many() -> None:
        async with anyio.create_task_group() as tasks:
            for number in range(2 * (os.cpu_count() or 1) + MAX_READERS):
                tasks.start_soon(engine.read_in_thread, read, number)
            try:
                with anyio.fail_after(60):
                    assert await engine.run_in_thread(lambda: "computed") == "computed"
            finally:
                may_end.set()

    anyio.run(many)
    assert max(most) <= MAX_READERS
    assert len(most) == 2 * (os.cpu_count() or 1) + MAX_READERS
