"""What a worker can train, as JSON that a server without torch reads."""

from collections.abc import Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field, TypeAdapter

PLUG_INS = ("perceptd.models", "perceptd.recipes", "perceptd.metrics")  # groups of entry points
SHIPPED = Path(__file__).parent / "pretrained" / "trainable.json"

Epochs = Annotated[int, Field(ge=1, le=1_000_000)]
LearningRate = Annotated[float, Field(gt=0, le=100, allow_inf_nan=False)]
BatchSize = Annotated[int, Field(ge=1, le=1_000_000)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]


class Trainable(BaseModel):
    """How one architecture can be trained: settings, recipes, data sets and metrics."""

    architecture: str
    config: dict[str, Any] = Field(description="JSON Schema of the network's settings.")
    recipes: dict[str, dict[str, Any]] = Field(description="The values of each recipe.")
    datasets: list[str] = Field(description="Data sets that fit its input and labels.")
    metrics: dict[str, bool] = Field(description="Whether a greater value is better.")


_LIST = TypeAdapter(list[Trainable])


def dump(trainables: Sequence[Trainable]) -> str:
    return _LIST.dump_json(list(trainables), indent=1).decode()


def parse(text: str | bytes) -> list[Trainable]:
    return _LIST.validate_json(text)


def shipped() -> list[Trainable]:
    """The built-in architectures, from the file that ships with the package."""
    return parse(SHIPPED.read_bytes())


def has_plug_ins() -> bool:
    """Whether an installed package adds an architecture, a recipe or a metric."""
    return any(entry_points(group=group) for group in PLUG_INS)
