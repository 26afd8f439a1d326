"""Find an architecture by its name; its module is imported when it is loaded.

Built-ins are listed here. A package adds its own through the entry-point group `perceptd.models`,
whose value names an `Architecture`: `spiral = "my_package.spiral:ARCHITECTURE"`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any

from perceptd.models.spec import ModelConfig, ModelSpec

if TYPE_CHECKING:
    from torch import nn

GROUP = "perceptd.models"

BUILT_IN = {
    "perceptron": "perceptd.models.networks.perceptron:ARCHITECTURE",
    "dnn": "perceptd.models.networks.dnn:ARCHITECTURE",
    "xor": "perceptd.models.networks.xor:ARCHITECTURE",
    "mnist-mlp": "perceptd.models.networks.mnist_mlp:ARCHITECTURE",
    "mnist-cnn": "perceptd.models.networks.mnist_cnn:ARCHITECTURE",
}


class UnknownArchitectureError(LookupError):
    """No built-in and no plug-in has that name."""


class BrokenArchitectureError(RuntimeError):
    """A plug-in cannot be imported, or is not an `Architecture`."""


@dataclass(frozen=True)
class Architecture:
    """A network to train and serve: `module(config)` builds it with new weights."""

    name: str
    module: "Callable[[Any], nn.Module]"
    config: type[ModelConfig]
    spec: ModelSpec


def names() -> list[str]:
    """Every known architecture, built-ins first."""
    return list(_entries())


def load(name: str) -> Architecture:
    """Import an architecture.

    Raises `UnknownArchitectureError`, or `BrokenArchitectureError` if a plug-in does not load.
    """
    entries = _entries()
    if name not in entries:
        raise UnknownArchitectureError(
            f"no architecture is called {name!r}; known: {', '.join(entries)}"
        )
    entry = entries[name]
    try:
        architecture = entry.load()
    except Exception as error:  # a plug-in's module may raise anything
        raise BrokenArchitectureError(
            f"architecture {name!r} ({entry.value}): {type(error).__name__}: {error}"
        ) from error
    if not isinstance(architecture, Architecture):
        raise BrokenArchitectureError(
            f"architecture {name!r}: {entry.value} is not an Architecture"
        )
    if architecture.name != name:
        raise BrokenArchitectureError(
            f"architecture {name!r}: {entry.value} has the name {architecture.name!r}"
        )
    return architecture


def _entries() -> dict[str, EntryPoint]:
    entries = {name: EntryPoint(name, value, GROUP) for name, value in BUILT_IN.items()}
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
        other = entries.setdefault(entry.name, entry)
        if other.value != entry.value:
            raise BrokenArchitectureError(
                f"two packages define the architecture {entry.name!r}: {other.value}, {entry.value}"
            )
    return entries
