"""The requests that these tests send."""

import json
from collections.abc import Callable, Sequence
from typing import Any

import httpx

from perceptd.service.settings import Settings
from tests import raw_http

Serve = Callable[[Settings], httpx.Client]

SLOW_LINE = "X-Request-Timeout-Ms: 60000"  # a header that the fast path leaves to the router
SLOW = {"X-Request-Timeout-Ms": "60000"}
DNN = {"model": "dnn", "inputs": [[0.1, -0.2], [1.0, 0.3]]}
DNN_BODY = json.dumps(DNN).encode()
PIXELS = bytes(range(256)) * 3 + bytes(16)
RAW = {"Content-Type": "application/octet-stream"}
TOKEN = "a-predict-token-of-some-length"
PAGE = "https://app.example.com"


def request(body: bytes = DNN_BODY, path: str = "/predict_proba", **more: Any) -> bytes:
    return raw_http.request(body, path, **more)


def body_of(*rows: Sequence[float], model: str = "dnn") -> bytes:
    return json.dumps({"model": model, "inputs": rows}).encode()
