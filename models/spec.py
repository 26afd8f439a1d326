"""The spec of a model: its input, labels, head and a worked example. Imports no torch."""

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_validator

Activation = Literal["sigmoid", "tanh", "relu", "leaky_relu"]
Dtype = Literal["float32", "uint8"]
Head = Literal["sigmoid", "softmax"]


class ModelConfig(BaseModel):
    """Base of every architecture's config: layer sizes and the like, stored in its checkpoints."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class InputSpec(BaseModel):
    """One row of a model's input tensor.

    `shape` leaves out the batch axis. `picture` is set if a row is a grey picture of 28 x 28
    pixels: callers may then also send it flat or nested, as whole numbers 0..255, as raw bytes
    or as a PNG or JPEG.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = "x"
    shape: tuple[PositiveInt, ...] = Field(min_length=1)
    minimum: float | None = None
    maximum: float | None = None
    picture: tuple[Literal[28], Literal[28]] | None = None

    @property
    def size(self) -> int:
        """Numbers per row."""
        return int(np.prod(self.shape))

    @model_validator(mode="after")
    def _picture_fits_shape(self) -> "InputSpec":
        if self.picture and self.picture[0] * self.picture[1] != self.size:
            raise ValueError(f"a picture of {self.picture} does not fill a row of {self.shape}")
        return self


class Example(BaseModel):
    """A worked example: rows that the model accepts as they are."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    inputs: list[Any]
    dtype: Dtype = "float32"


class ModelSpec(BaseModel):
    """What callers need to know about an architecture: input, labels, head and a worked example.

    `head` says what the module's `forward` returns: `sigmoid` is P(class 1) of shape (N, 1),
    `softmax` is logits of shape (N, len(labels)).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    description: str
    input: InputSpec
    labels: tuple[str, ...] = Field(min_length=2)
    head: Head
    example: Example

    @model_validator(mode="after")
    def _labels_fit_head(self) -> "ModelSpec":
        if len(set(self.labels)) != len(self.labels):
            raise ValueError("labels must differ from each other")
        if self.head == "sigmoid" and len(self.labels) != 2:
            raise ValueError("a sigmoid head has exactly two labels")
        return self

    @model_validator(mode="after")
    def _example_fits_input(self) -> "ModelSpec":
        sizes = {np.asarray(row, dtype=np.float64).size for row in self.example.inputs}
        if sizes != {self.input.size}:
            raise ValueError(f"the example needs rows of {self.input.size} numbers each")
        return self


def decide(probabilities: NDArray[np.float32], head: Head) -> NDArray[np.intp]:
    """Probabilities (N, K) -> the predicted class index of each row, (N,).

    A binary model predicts class 1 if P >= 0.5, others the arg max (the lowest index on a tie).
    """
    if head == "sigmoid":
        return (probabilities[:, 1] >= 0.5).astype(np.intp)
    indices: NDArray[np.intp] = probabilities.argmax(axis=1)
    return indices
