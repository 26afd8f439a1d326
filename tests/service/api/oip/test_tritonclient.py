"""Triton's own clients work unmodified."""

import socket
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from tritonclient import http
from tritonclient.http import aio
from tritonclient.utils import InferenceServerException

from perceptd.models import registry
from perceptd.service.settings import Settings
from tests.service.admin import AS_ADMIN, guarded

Serve = Callable[[Settings], httpx.Client]
PICTURES = ("mnist-cnn", "mnist-mlp")
CASES = [(model, "FP32") for model in registry.BUILT_IN] + [(model, "UINT8") for model in PICTURES]


@pytest.fixture
def triton(client: httpx.Client) -> Iterator[http.InferenceServerClient]:
    with http.InferenceServerClient(client.base_url.netloc.decode()) as triton:
        yield triton


def rows_for(model: str, datatype: str, count: int = 3) -> NDArray[Any]:
    random = np.random.default_rng(7)
    if datatype == "UINT8":
        return random.integers(0, 256, (count, 28, 28), dtype=np.uint8)
    if model in PICTURES:
        return random.random((count, 1, 28, 28), dtype=np.float32)
    return random.normal(size=(count, 2)).astype(np.float32)


def as_input(rows: NDArray[Any], *, binary: bool = True) -> http.InferInput:
    datatype = "UINT8" if rows.dtype == np.uint8 else "FP32"
    tensor = http.InferInput("x", list(rows.shape), datatype)
    tensor.set_data_from_numpy(rows, binary_data=binary)
    return tensor


def check(client: httpx.Client, model: str, rows: NDArray[Any], result: http.InferResult) -> None:
    """Assert that a result equals the answer of `/predict_proba` bit for bit."""
    body: dict[str, Any] = {"model": model, "inputs": rows.reshape(len(rows), -1).tolist()}
    if rows.dtype == np.uint8:
        body["dtype"] = "uint8"
    native = client.post("/predict_proba", json=body).json()["predictions"]
    labels = [row["label"] for row in native]
    probabilities = [list(row["probabilities"].values()) for row in native]
    said = result.as_numpy("label").tolist()
    assert [one.decode() if isinstance(one, bytes) else one for one in said] == labels
    assert result.as_numpy("probabilities").dtype == np.float32
    assert result.as_numpy("probabilities").tolist() == probabilities


def test_importing_the_client_does_not_patch_sockets() -> None:
    assert socket.socket.__module__ == "socket"


def test_the_server_and_its_models_are_described(triton: http.InferenceServerClient) -> None:
    assert triton.is_server_live()
    assert triton.is_server_ready()
    assert triton.get_server_metadata()["name"] == "perceptd"
    for model in registry.BUILT_IN:
        assert triton.is_model_ready(model)
        assert triton.is_model_ready(model, "1")
        assert triton.get_model_metadata(model)["inputs"][0]["name"] == "x"
        assert triton.get_model_config(model, "1")["max_batch_size"] == 1024
    assert not triton.is_model_ready("nope")
    assert not triton.is_model_ready("dnn", "2")


@pytest.mark.parametrize(("model", "datatype"), CASES)
@pytest.mark.parametrize("binary", [True, False], ids=["bytes", "JSON"])
def test_every_model_answers_as_the_native_routes_do(
    client: httpx.Client,
    triton: http.InferenceServerClient,
    model: str,
    datatype: str,
    binary: bool,
) -> None:
    rows = rows_for(model, datatype)
    asked = [
        http.InferRequestedOutput(name, binary_data=binary) for name in ("label", "probabilities")
    ]
    for outputs in (asked, asked[::-1], None):
        result = triton.infer(
            model, [as_input(rows, binary=binary)], outputs=outputs, model_version="1"
        )
        check(client, model, rows, result)


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_a_compressed_request_is_answered_the_same(
    client: httpx.Client, triton: http.InferenceServerClient, coding: str
) -> None:
    rows = rows_for("mnist-cnn", "UINT8", count=20)
    for binary in (True, False):
        result = triton.infer(
            "mnist-cnn",
            [as_input(rows, binary=binary)],
            request_compression_algorithm=coding,
            response_compression_algorithm=coding,
        )
        check(client, "mnist-cnn", rows, result)


def test_requests_in_flight_together_get_their_own_answers(
    client: httpx.Client, triton: http.InferenceServerClient
) -> None:
    batches = [rows_for("dnn", "FP32", count) for count in (1, 2, 3, 4)]
    asked = [
        triton.async_infer("dnn", [as_input(rows)], request_id=f"of-{len(rows)}")
        for rows in batches
    ]
    for rows, one in zip(batches, asked, strict=True):
        result = one.get_result()
        assert result.get_response()["id"] == f"of-{len(rows)}"
        check(client, "dnn", rows, result)


@pytest.mark.parametrize("binary", [True, False], ids=["bytes", "JSON"])
def test_classification_answers_the_most_likely_labels(
    triton: http.InferenceServerClient, binary: bool
) -> None:
    rows = rows_for("mnist-mlp", "FP32", count=2)
    asked = http.InferRequestedOutput("probabilities", binary_data=binary, class_count=3)
    ranked = triton.infer("mnist-mlp", [as_input(rows)], outputs=[asked]).as_numpy("probabilities")
    probabilities = triton.infer("mnist-mlp", [as_input(rows)]).as_numpy("probabilities")
    assert ranked.shape == (2, 3)
    for texts, row in zip(ranked.tolist(), probabilities, strict=True):
        best = np.argsort(-row, kind="stable")[:3]
        expected = [f"{row[index]:.6f}:{index}:{index}" for index in best]
        assert [text.decode() if isinstance(text, bytes) else text for text in texts] == expected


@pytest.mark.parametrize(
    ("model", "rows", "status", "words"),
    [
        ("nope", np.zeros((1, 2), np.float32), "404", "no model is called 'nope'"),
        ("dnn", np.zeros((1, 3), np.float32), "400", "inputs.x.shape: expected [N, 2]"),
        ("dnn", np.zeros((1, 2), np.uint8), "400", "inputs.x.datatype: expected FP32"),
        ("dnn", np.full((1, 2), np.nan, np.float32), "400", "expected finite numbers"),
        ("mnist-cnn", np.full((1, 784), 255, np.float32), "400", "expected numbers in 0.0 to 1.0"),
        ("dnn", np.zeros((1025, 2), np.float32), "400", "N in 1 to 1024"),
    ],
)
def test_an_error_reaches_the_client_with_status_and_text(
    triton: http.InferenceServerClient, model: str, rows: NDArray[Any], status: str, words: str
) -> None:
    with pytest.raises(InferenceServerException) as raised:
        triton.infer(model, [as_input(rows)])
    assert raised.value.status() == status
    assert words in raised.value.message()


def test_models_are_listed_unloaded_and_loaded(serve: Serve, tmp_path: Path) -> None:
    client = serve(guarded(tmp_path))
    rows = np.zeros((1, 2), np.float32)
    with http.InferenceServerClient(client.base_url.netloc.decode()) as triton:
        entries = triton.get_model_repository_index(headers=AS_ADMIN)
        assert {entry["name"]: entry["state"] for entry in entries} == dict.fromkeys(
            registry.BUILT_IN, "READY"
        )
        with pytest.raises(InferenceServerException, match="a token is needed"):
            triton.unload_model("dnn")
        triton.unload_model("dnn", headers=AS_ADMIN)
        assert not triton.is_model_ready("dnn", headers=AS_ADMIN)
        with pytest.raises(InferenceServerException, match="dnn is unloaded"):
            # A copy, as the client adds headers of its own to it.
            triton.infer("dnn", [as_input(rows)], headers=dict(AS_ADMIN))
        with pytest.raises(InferenceServerException, match="neither a configuration nor files"):
            triton.load_model("dnn", headers=AS_ADMIN, config="{}")
        triton.load_model("dnn", headers=AS_ADMIN)
        assert triton.is_model_ready("dnn", headers=AS_ADMIN)
        assert triton.infer("dnn", [as_input(rows)], headers=dict(AS_ADMIN)).as_numpy("label") == [
            b"1"
        ]


def test_the_asyncio_client_gets_the_same_answers(serve: Serve, tmp_path: Path) -> None:
    client = serve(Settings(data_dir=tmp_path, admin_token=guarded(tmp_path).admin_token))

    async def with_triton(ask: Callable[[aio.InferenceServerClient], Awaitable[None]]) -> None:
        async with aio.InferenceServerClient(client.base_url.netloc.decode()) as triton:
            await ask(triton)

    async def ask(triton: aio.InferenceServerClient) -> None:
        assert await triton.is_server_ready()
        assert (await triton.get_model_metadata("xor"))["platform"] == "onnxruntime_onnx"
        for model, datatype in CASES:
            rows = rows_for(model, datatype)
            for binary in (True, False):
                tensor = as_input(rows, binary=binary)
                result = await triton.infer(model, [tensor], request_compression_algorithm="gzip")
                check(client, model, rows, result)
        with pytest.raises(InferenceServerException, match=r"\[404\] no model is called"):
            await triton.infer("nope", [as_input(np.zeros((1, 2), np.float32))])
        await triton.unload_model("xor", headers=AS_ADMIN)
        index = await triton.get_model_repository_index()
        assert [one["name"] for one in index if one["state"] != "READY"] == ["xor"]
        await triton.load_model("xor", headers=AS_ADMIN)
        assert await triton.is_model_ready("xor", "1")

    anyio.run(with_triton, ask)
