"""The exported graph gives the module's probabilities for any batch size, and no local path."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from numpy.testing import assert_allclose
from numpy.typing import NDArray
from safetensors.numpy import save_file
from torch import Tensor, nn

import perceptd.models
from perceptd.models import checkpoint, registry
from perceptd.models.checkpoint import GRAPH, WEIGHTS
from perceptd.models.export import ExportError, export
from perceptd.models.networks.layers import Probabilities
from perceptd.models.registry import BUILT_IN
from tests.models.conftest import build

SPEC = registry.load("perceptron").spec


def session(folder: Path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(folder / GRAPH, providers=["CPUExecutionProvider"])


def answer(folder: Path, rows: NDArray[np.float32]) -> NDArray[np.float32]:
    (probabilities,) = session(folder).run(["probabilities"], {"x": rows})
    return np.asarray(probabilities)


@pytest.mark.parametrize("batch_size", [1, 7, 64])
@pytest.mark.parametrize("name", BUILT_IN)
def test_graph_and_module_give_the_same_answers(
    name: str, batch_size: int, checkpoint_of: Callable[[str], Path]
) -> None:
    spec = registry.load(name).spec
    random = np.random.default_rng(batch_size)
    rows = random.uniform(0, 1, (batch_size, *spec.input.shape)).astype(np.float32)
    classifier = Probabilities(build(name), spec.head)
    with torch.inference_mode():
        expected = classifier(torch.from_numpy(rows)).numpy()

    actual = answer(checkpoint_of(name), rows)

    assert actual.shape == (batch_size, len(spec.labels))
    assert_allclose(actual, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", BUILT_IN)
def test_graph_takes_the_input_that_the_spec_describes(
    name: str, checkpoint_of: Callable[[str], Path]
) -> None:
    spec = registry.load(name).spec

    (graph_input,) = session(checkpoint_of(name)).get_inputs()

    assert graph_input.name == spec.input.name
    assert tuple(graph_input.shape[1:]) == spec.input.shape
    assert isinstance(graph_input.shape[0], str)  # any batch size


@pytest.mark.parametrize("name", ["mnist-mlp", "mnist-cnn"])
def test_graph_holds_no_weights(name: str, checkpoint_of: Callable[[str], Path]) -> None:
    graph = (checkpoint_of(name) / GRAPH).read_bytes()

    assert len(graph) < 20_000
    for key, array in checkpoint.read_weights(checkpoint_of(name)).items():
        if array.any():  # zero biases look like padding
            assert array.tobytes()[:32] not in graph, key


def test_graph_reads_its_weights_from_the_file_beside_it(
    checkpoint_of: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = shutil.copytree(checkpoint_of("mnist-mlp"), tmp_path / "mnist-mlp")
    rows = np.random.default_rng(0).uniform(0, 1, (3, 784)).astype(np.float32)
    zeros = {key: 0 * array for key, array in checkpoint.read_weights(folder).items()}
    assert answer(folder, rows).std() > 0.01

    save_file(zeros, folder / WEIGHTS)

    assert_allclose(answer(folder, rows), 0.1)


@pytest.mark.parametrize("name", BUILT_IN)
def test_graph_names_no_path_of_the_exporting_machine(
    name: str, checkpoint_of: Callable[[str], Path]
) -> None:
    graph = (checkpoint_of(name) / GRAPH).read_bytes()
    sources = Path(perceptd.models.__file__).parent
    places = {Path.cwd(), Path.home(), sources, sources.parent, checkpoint_of(name).parent}

    for path in [
        *(str(place) for place in places if place != Path("/")),
        "/home",
        "site-packages",
        ".py",
    ]:
        assert path.encode() not in graph


class Noisy(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(super().forward(x) + torch.rand_like(x[:, :1]))


class Branching(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) if x.sum().item() > 0 else super().forward(-x)


class Undefined(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * torch.nan


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        (Noisy(2, 1), "the graph differs from the module by "),
        (Undefined(2, 1), "the graph differs from the module by nan"),
        (Branching(2, 1), "the module cannot be exported"),
    ],
)
def test_module_that_cannot_be_exported_is_refused(
    tmp_path: Path, module: nn.Module, reason: str
) -> None:
    save_file({k: v.numpy() for k, v in module.state_dict().items()}, tmp_path / WEIGHTS)

    with pytest.raises(ExportError, match=reason):
        export(module, SPEC, tmp_path)
