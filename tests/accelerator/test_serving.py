"""A server on CUDA, asked over HTTP: batches, swaps, missing device memory."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from perceptd.models import registry
from perceptd.service.commands.common import opened_store
from perceptd.service.settings import Settings
from perceptd.service.store.repository import PRETRAINED
from tests.accelerator.conftest import no_free_memory
from tests.server import running
from tests.service.admin import TOKENS, as_admin, problem
from tests.waiting import eventually

pytestmark = pytest.mark.cuda

SWAPS = 20


@pytest.fixture
def server(tmp_path: Path) -> Iterator[httpx.Client]:
    """An admin's client of a server on CUDA, with two versions of the CNN."""
    settings = Settings(data_dir=tmp_path, device="cuda", **TOKENS)
    with opened_store(settings) as repository:
        repository.register(PRETRAINED / "mnist-cnn")
    with running(settings) as client:
        yield as_admin(client)


def probabilities(response: httpx.Response) -> list[list[float]]:
    response.raise_for_status()
    return [list(row["probabilities"].values()) for row in response.json()["predictions"]]


def images(count: int, seed: int) -> list[list[float]]:
    rows: list[list[float]] = np.random.default_rng(seed).uniform(0, 1, (count, 784)).tolist()
    return rows


def ask(client: httpx.Client, count: int, seed: int) -> httpx.Response:
    body = {"model": "mnist-cnn", "inputs": images(count, seed)}
    return client.post("/predict_proba", json=body)


def metric(client: httpx.Client, name: str) -> float:
    families = text_string_to_metric_families(client.get("/metrics").text)
    return sum(one.value for family in families for one in family.samples if one.name == name)


def test_predictions_are_those_of_the_cpu(server: httpx.Client, tmp_path: Path) -> None:
    assert 'runtime="torch"' in server.get("/metrics").text
    with running(Settings(data_dir=tmp_path / "cpu", device="cpu")) as cpu:
        for model in registry.BUILT_IN:
            body = server.get(f"/models/{model}").json()["example"]
            ours = probabilities(server.post("/predict_proba", json=body))
            theirs = probabilities(cpu.post("/predict_proba", json=body))
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)


def test_requests_share_batches_and_each_gets_its_own_answer(server: httpx.Client) -> None:
    alone = [probabilities(ask(server, seed % 5 + 1, seed)) for seed in range(64)]
    before = metric(server, "perceptd_compute_seconds_count")
    with ThreadPoolExecutor(16) as threads:
        together = list(threads.map(lambda seed: ask(server, seed % 5 + 1, seed), range(64)))
    for response, expected in zip(together, alone, strict=True):
        np.testing.assert_allclose(probabilities(response), expected, rtol=0, atol=1e-5)
    assert 0 < metric(server, "perceptd_compute_seconds_count") - before < 64


def test_swaps_under_load_lose_no_request_and_no_device_memory(server: httpx.Client) -> None:
    import torch

    expected = probabilities(ask(server, 3, seed=1))
    done, answers = threading.Event(), list[httpx.Response]()

    def load() -> None:
        while not done.is_set():
            answers.append(ask(server, 3, seed=1))

    allocated = []
    with ThreadPoolExecutor(4) as threads:
        futures = [threads.submit(load) for _ in range(4)]
        try:
            for number in range(SWAPS):
                body = {"version": number % 2 + 1}
                server.put("/models/mnist-cnn/aliases/production", json=body).raise_for_status()
                allocated.append(torch.cuda.memory_allocated())
        finally:
            done.set()
        for future in futures:
            future.result()
    assert {answer.json()["version"] for answer in answers} == {1, 2}
    for answer in answers:
        np.testing.assert_allclose(probabilities(answer), expected, rtol=0, atol=1e-5)
    assert max(allocated[2:]) <= 1.5 * max(allocated[:2])


def test_a_prediction_without_device_memory_is_a_503_and_the_next_one_is_answered(
    server: httpx.Client,
) -> None:
    expected = probabilities(ask(server, 256, seed=2))
    with no_free_memory():
        refused = ask(server, 256, seed=2)
        assert problem(refused) == (503, "model_unavailable")
        assert "cuda has too little free memory" in refused.json()["detail"]
        assert server.get("/health/live").is_success
    np.testing.assert_allclose(probabilities(ask(server, 256, seed=2)), expected, rtol=0, atol=1e-5)


def test_a_version_without_device_memory_is_not_promoted_and_production_serves(
    server: httpx.Client,
) -> None:
    path = "/models/mnist-cnn/aliases/production"
    with no_free_memory():
        refused = server.put(path, json={"version": 2})
        assert problem(refused) == (409, "conflict")
        assert "too little free memory" in refused.json()["detail"]
    assert ask(server, 1, seed=3).json()["version"] == 1
    server.put(path, json={"version": 2}).raise_for_status()
    eventually(lambda: ask(server, 1, seed=3).json()["version"] == 2, "version 2 serves", seconds=5)
