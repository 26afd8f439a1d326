"""How each model is trained: data set, optimizer, schedule, seed, batch size.

`reference` trains as the published originals do. `fast` reaches the same accuracy in less time;
`benchmarks/training.py` compares both for the MNIST models.

A plug-in registers its recipes through the entry-point group `perceptd.recipes`, under the name of
its architecture: `spiral = "my_package.spiral:RECIPES"`.
"""

from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import Literal

from pydantic import BaseModel, ConfigDict, field_serializer

from perceptd.models.trainable import BatchSize, Epochs, LearningRate, Seed
from perceptd.training.data.datasets import Maker
from perceptd.training.errors import UnknownRecipeError

GROUP = "perceptd.recipes"


class Recipe(BaseModel):
    """All that a training depends on besides the data and the architecture's config.

    The head decides the loss: binary cross-entropy for a sigmoid, cross-entropy on logits for a
    softmax. Without a `batch_size`, each step takes the full set. `one_cycle` warms up to
    `learning_rate` and anneals to zero (L. Smith, N. Topin, 2018). `channels_last` and `bfloat16`
    together halve the time of a convolutional epoch on hardware with bfloat16 instructions
    (AVX-512 BF16, AMX, a GPU); on other hardware `bfloat16` costs time.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset: str | Maker
    optimizer: Literal["sgd", "adam"]
    learning_rate: LearningRate
    epochs: Epochs
    batch_size: BatchSize | None = None
    seed: Seed
    schedule: Literal["constant", "one_cycle"] = "constant"
    drop_last: bool = False
    channels_last: bool = False
    bfloat16: bool = False

    @field_serializer("dataset")
    def _dataset_name(self, dataset: str | Maker) -> str:
        return dataset if isinstance(dataset, str) else dataset.__name__


Recipes = Mapping[str, Recipe]

RECIPES: dict[str, Recipes] = {
    "perceptron": {
        "reference": Recipe(
            dataset="blobs", optimizer="sgd", learning_rate=0.01, epochs=1000, seed=2
        ),
        "fast": Recipe(dataset="blobs", optimizer="adam", learning_rate=0.2, epochs=10, seed=2),
    },
    "dnn": {
        "reference": Recipe(
            dataset="circles", optimizer="adam", learning_rate=0.01, epochs=1000, seed=1
        ),
        "fast": Recipe(dataset="circles", optimizer="adam", learning_rate=0.2, epochs=150, seed=1),
    },
    "xor": {
        "reference": Recipe(
            dataset="xor", optimizer="sgd", learning_rate=0.03, epochs=2000, seed=5
        ),
        "fast": Recipe(dataset="xor", optimizer="adam", learning_rate=0.2, epochs=40, seed=5),
    },
    "mnist-mlp": {
        "reference": Recipe(
            dataset="mnist", optimizer="adam", learning_rate=1e-3, epochs=10, batch_size=256, seed=0
        ),
        "fast": Recipe(
            dataset="mnist",
            optimizer="adam",
            learning_rate=6e-3,
            epochs=3,
            batch_size=128,
            seed=0,
            schedule="one_cycle",
        ),
    },
    "mnist-cnn": {
        "reference": Recipe(
            dataset="mnist",
            optimizer="adam",
            learning_rate=1e-3,
            epochs=15,
            batch_size=100,
            seed=777,
            drop_last=True,
        ),
        "fast": Recipe(
            dataset="mnist",
            optimizer="adam",
            learning_rate=1e-2,
            epochs=2,
            batch_size=100,
            seed=777,
            schedule="one_cycle",
            channels_last=True,
            bfloat16=True,
        ),
    },
}


def of(architecture: str) -> Recipes:
    """The recipes of an architecture, by name. Raises `UnknownRecipeError` if it has none."""
    if architecture in RECIPES:
        return RECIPES[architecture]
    for entry in entry_points(group=GROUP, name=architecture):
        recipes: Recipes = entry.load()
        return recipes
    raise UnknownRecipeError(
        f"no recipe for {architecture!r}: no package registers one under {GROUP!r}"
    )
