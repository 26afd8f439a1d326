"""Architectures are found by name: the built-in ones, and those of other packages."""

import subprocess
import sys
from collections.abc import Callable

import pytest

from perceptd.models import registry
from perceptd.models.registry import (
    BUILT_IN,
    BrokenArchitectureError,
    UnknownArchitectureError,
)
from tests.plug_ins import SPIRAL, Package

PlugIn = Callable[..., None]


@pytest.fixture
def plug_in(package: Package) -> PlugIn:
    """Install a package of one module, which registers an architecture under `name`."""

    def install(source: str, name: str = "spiral", module: str = "spiral_package") -> None:
        package(module, source, models={name: f"{module}:ARCHITECTURE"})

    return install


@pytest.mark.parametrize("name", BUILT_IN)
def test_built_in_architecture_is_found_by_its_own_name(name: str) -> None:
    assert registry.load(name).name == name


def test_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UnknownArchitectureError) as error:
        registry.load("mnist-cmm")

    assert str(error.value) == (
        "no architecture is called 'mnist-cmm'; known: perceptron, dnn, xor, mnist-mlp, mnist-cnn"
    )


def test_names_and_checkpoints_are_known_without_importing_torch() -> None:
    code = (
        "import sys; from perceptd.models import checkpoint, preprocessing, registry, spec; "
        "print(*registry.names()); sys.exit('torch' in sys.modules)"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

    assert (answer.returncode, answer.stderr) == (0, "")
    assert answer.stdout.split() == list(BUILT_IN)


def test_plug_in_is_known_after_the_built_in_ones(plug_in: PlugIn) -> None:
    plug_in(SPIRAL)

    assert registry.names() == [*BUILT_IN, "spiral"]
    assert registry.load("spiral").spec.labels == ("a", "b", "c")
    assert registry.load("dnn").name == "dnn"


@pytest.mark.parametrize("name", ["dnn", "mnist-cnn"])
def test_plug_in_that_shadows_a_built_in_is_refused(plug_in: PlugIn, name: str) -> None:
    plug_in(SPIRAL, name=name)

    with pytest.raises(BrokenArchitectureError, match=f"two packages .* '{name}'") as error:
        registry.load(name)
    assert BUILT_IN[name] in str(error.value)
    assert "spiral_package:ARCHITECTURE" in str(error.value)


def test_two_plug_ins_of_one_name_are_refused(plug_in: PlugIn) -> None:
    plug_in(SPIRAL, module="spiral_one")
    plug_in(SPIRAL, module="spiral_two")

    with pytest.raises(BrokenArchitectureError, match=r"two packages define .* 'spiral'"):
        registry.load("spiral")


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import no_such_module", "no_such_module"),
        ("OTHER = 1", "ARCHITECTURE"),
        ("ARCHITECTURE = 1", "spiral_package:ARCHITECTURE is not an Architecture"),
        ("def (", "SyntaxError"),
        ("1 / 0", "ZeroDivisionError"),
        (SPIRAL.replace('"c")', '"a")'), "labels must differ"),
        (SPIRAL.replace('name="spiral"', 'name="helix"'), "has the name 'helix'"),
    ],
)
def test_broken_plug_in_is_refused_and_leaves_the_others_usable(
    plug_in: PlugIn, source: str, reason: str
) -> None:
    plug_in(source)

    with pytest.raises(
        BrokenArchitectureError, match=r"architecture 'spiral'.*spiral_package"
    ) as error:
        registry.load("spiral")
    assert reason in str(error.value)
    assert registry.load("xor").name == "xor"
