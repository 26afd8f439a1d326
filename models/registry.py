"""Architecture name -> what it is made of, imported only when asked for.

Built-ins are listed here; anybody's package adds its own through the entry-point group
`perceptd.models`, whose value names an `Architecture`: `spiral = "my_package.spiral:ARCHITECTURE"`.
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
    """A network one can train and serve: `module(config)` builds it with fresh weights."""

    name: str
    module: "Callable[[Any], nn.Module]"
    config: type[ModelConfig]
    spec: ModelSpec


def names() -> list[str]:
    """Every known architecture, built-ins first."""
    return list(_entries())


def load(name: str) -> Architecture:
    """Import the architecture of that name.

    Raises `UnknownArchitectureError`, or `BrokenArchitectureError` for a plug-in of no use.
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
        raise BrokenArchitectureError(f"architecture {name!r}: {entry.value} is none")
    if architecture.name != name:
        raise BrokenArchitectureError(
            f"architecture {name!r}: {entry.value} calls itself {architecture.name!r}"
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
