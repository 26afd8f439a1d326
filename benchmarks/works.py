"""The requests of the serving benchmark, and the correct answers to them."""

import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from perceptd.models import checkpoint
from perceptd.models.graph import open_graph
from perceptd.models.networks.mnist import drawn_seven
from perceptd.models.spec import decide

PRETRAINED = Path(__file__).parent.parent / "models" / "pretrained"
TOLERANCE = 1e-3  # requests carry four decimals
NOISE = 64  # maximum, in grey values of 0..255


@dataclass(frozen=True)
class Answer:
    """A server's answer for one row: the label, and the probability of every label."""

    label: str
    probabilities: list[float]


@dataclass(frozen=True)
class Work:
    """One kind of request: rows for a model, as JSON numbers or as raw bytes."""

    name: str
    title: str
    model: str
    rows: list[list[float]] = field(repr=False)
    raw: bytes = field(default=b"", repr=False)
    close: bool = False  # each request over a connection of its own

    @cached_property
    def right(self) -> list[Answer]:
        """The answers of the shipped checkpoint."""
        folder = PRETRAINED / self.model
        spec = checkpoint.read(folder).spec
        rows = np.array(self.rows, dtype=np.float32).reshape(-1, *spec.input.shape)
        (found,) = open_graph(folder / checkpoint.GRAPH).run(None, {spec.input.name: rows})
        return [
            Answer(spec.labels[index], row.tolist())
            for index, row in zip(decide(found, spec.head), found, strict=True)
        ]

    @property
    def json(self) -> bytes:
        """The JSON body, as most servers take it."""
        return json.dumps({"model": self.model, "inputs": self.rows}).encode()


def digits(number: int) -> NDArray[np.uint8]:
    """Different noisy drawings of a seven, (N, 784), the same ones each time."""
    noise = np.random.default_rng(0).integers(0, NOISE, (number, 28 * 28))
    inked = np.array(drawn_seven()).reshape(1, -1)
    return (inked + noise).clip(0, 255).astype(np.uint8)


def numbers(pixels: NDArray[np.uint8]) -> list[list[float]]:
    rows: list[list[float]] = (pixels / 255).round(4).tolist()
    return rows


def all_works() -> tuple[Work, ...]:
    pixels = digits(64)
    return (
        Work("W1", "perceptron, one row of two numbers", "perceptron", [[0.5, -0.5]]),
        Work("W2", "CNN, one image as 784 JSON numbers", "mnist-cnn", numbers(pixels[:1])),
        Work("W3", "CNN, 64 images as JSON numbers in one request", "mnist-cnn", numbers(pixels)),
        Work(
            "W4",
            "CNN, one image as 784 raw bytes",
            "mnist-cnn",
            numbers(pixels[:1]),
            raw=pixels[0].tobytes(),
        ),
        Work(
            "W5",
            "W2 with `Connection: close`",
            "mnist-cnn",
            numbers(pixels[:1]),
            close=True,
        ),
    )


def difference(given: list[Answer], right: list[Answer]) -> str | None:
    """What is wrong with a server's answers, in one line; None if they are correct."""
    if len(given) != len(right):
        return f"{len(given)} answers to {len(right)} rows"
    for row, (one, other) in enumerate(zip(given, right, strict=True)):
        if one.label != other.label:
            return f"row {row}: expected the label {other.label}, got {one.label}"
        if not np.allclose(one.probabilities, other.probabilities, rtol=0, atol=TOLERANCE):
            return f"row {row}: the probabilities differ from those of the shipped checkpoint"
    return None
