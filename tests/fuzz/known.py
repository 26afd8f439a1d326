"""Predictions whose answers are computed without the server."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread
from typing import Any

import httpx
import numpy as np

from perceptd.models import checkpoint
from perceptd.models.checkpoint import GRAPH
from perceptd.models.graph import open_graph
from perceptd.service.store.repository import PRETRAINED
from tests.fuzz.target import Target
from tests.service.admin import AS_ADMIN

TOLERANCE = 1e-5  # floating-point sums depend on the batch
PAUSE_S = 0.002


class Known:
    """A body for `/predict_proba` with its correct answer."""

    def __init__(self, number: int) -> None:
        random = np.random.default_rng(number)
        self.model = ("dnn", "mnist-mlp", "xor", "mnist-cnn")[number % 4]
        folder = PRETRAINED / self.model
        spec = checkpoint.read(folder).spec
        rows = random.random((1 + number % 3, *spec.input.shape), dtype=np.float32)
        session = open_graph(folder / GRAPH)
        self._probabilities = session.run(None, {spec.input.name: rows})[0]
        self._labels = spec.labels
        flat = rows.reshape(len(rows), -1)
        self.body = json.dumps({"model": self.model, "inputs": flat.tolist()}).encode()

    def check(self, status: int, content: bytes) -> None:
        """Assert that a response is the correct answer."""
        assert status == 200, content[:500]
        answer: Any = json.loads(content)
        assert answer["model"] == self.model
        predictions = answer["predictions"]
        assert len(predictions) == len(self._probabilities)
        for prediction, expected in zip(predictions, self._probabilities, strict=True):
            got = [prediction["probabilities"][label] for label in self._labels]
            np.testing.assert_allclose(got, expected, atol=TOLERANCE)

    def ask(self, client: httpx.Client) -> None:
        headers = {"Content-Type": "application/json"}
        response = client.post("/predict_proba", content=self.body, headers=headers)
        self.check(response.status_code, response.content)


class Neighbours:
    """Well-behaved clients that ask for known predictions during an attack."""

    def __init__(self, target: Target, count: int) -> None:
        self._target = target
        self._known = [Known(number) for number in range(count)]
        self._stop = Event()
        self._threads = [Thread(target=self._ask, args=[known]) for known in self._known]
        self._answered = 0
        self._wrong: list[BaseException] = []

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def check(self) -> None:
        """Assert that every client got its own correct answers."""
        if self._wrong:
            raise AssertionError(
                "a well-behaved client got a wrong answer or none"
            ) from self._wrong[0]
        assert self._answered

    def _ask(self, known: Known) -> None:
        try:
            with httpx.Client(base_url=self._target.url, headers=AS_ADMIN, timeout=60) as client:
                while not self._stop.wait(PAUSE_S):
                    known.ask(client)
                    self._answered += 1
        except BaseException as error:
            self._wrong.append(error)


@contextmanager
def undisturbed(target: Target, count: int = 3) -> Iterator[None]:
    """Asserts that other clients get correct answers during the attack in the block."""
    neighbours = Neighbours(target, count)
    neighbours.start()
    try:
        yield
    finally:
        neighbours.stop()
    neighbours.check()
    target.check()
