"""Weights from elsewhere: taken over exactly, or refused with what differs; never executed."""

import os
import pickle
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from perceptd.models import registry
from perceptd.models.registry import BUILT_IN
from perceptd.training.errors import ImportFileError
from perceptd.training.importing import import_module

# The networks as the public tutorials write them.


class Perceptron(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.linear(x))


class DNN(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear1 = nn.Linear(2, 4)
        self.linear2 = nn.Linear(4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.linear2(torch.sigmoid(self.linear1(x))))


class XOR(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(2, 5)
        self.linear_2 = nn.Linear(5, 1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.linear_2(torch.relu(self.linear_1(x))))


class MLP(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lin_1 = nn.Linear(784, 256)
        self.lin_2 = nn.Linear(256, 10)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.lin_2(torch.relu(self.lin_1(x.view(-1, 784))))
        return logits


class CNN(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer1 = nn.Sequential(
            nn.Conv2d(1, 32, kernel_size=3, stride=1, padding=1), nn.ReLU(), nn.MaxPool2d(2)
        )
        self.layer2 = nn.Sequential(
            nn.Conv2d(32, 64, kernel_size=3, stride=1, padding=1), nn.ReLU(), nn.MaxPool2d(2)
        )
        self.fc = nn.Linear(7 * 7 * 64, 10)

    def forward(self, x: Tensor) -> Tensor:
        out = self.layer2(self.layer1(x))
        logits: Tensor = self.fc(out.view(out.size(0), -1))
        return logits


TUTORIALS = {"perceptron": Perceptron, "dnn": DNN, "xor": XOR, "mnist-mlp": MLP, "mnist-cnn": CNN}


class Executed:
    """Unpickled carelessly, it makes a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return os.system, (f"touch '{self.marker}'",)


def load(name: str, path: Path, **config: Any) -> nn.Module:
    architecture = registry.load(name)
    return import_module(architecture, architecture.config(**config), path)


def refusal(name: str, path: Path, **config: Any) -> str:
    with pytest.raises(ImportFileError) as error:
        load(name, path, **config)
    text = str(error.value)
    assert text.startswith(str(path))
    return text.removeprefix(str(path))


def assert_same_answers(name: str, imported: nn.Module, original: nn.Module) -> None:
    rows = torch.rand(9, *registry.load(name).spec.input.shape)
    with torch.inference_mode():
        assert torch.equal(imported(rows), original(rows))
    assert not imported.training


@pytest.fixture
def xor() -> XOR:
    torch.manual_seed(1)
    return XOR()


def test_every_built_in_has_its_tutorial() -> None:
    assert TUTORIALS.keys() == BUILT_IN.keys()


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("name", TUTORIALS)
def test_file_of_a_tutorial_answers_as_the_original(name: str, suffix: str, tmp_path: Path) -> None:
    original = TUTORIALS[name]().eval()
    path = tmp_path / f"model{suffix}"
    if suffix == ".pt":
        torch.save(original.state_dict(), path)
    else:
        save_file(original.state_dict(), path)

    assert_same_answers(name, load(name, path), original)


@pytest.mark.parametrize("wrapper", ["state_dict", "model_state_dict", "model"])
def test_weights_nested_by_a_trainer_are_found(wrapper: str, xor: XOR, tmp_path: Path) -> None:
    optimizer = torch.optim.Adam(xor.parameters())
    content = {wrapper: xor.state_dict(), "epoch": 7, "optimizer": optimizer.state_dict()}
    torch.save(content, tmp_path / "xor.pt")

    assert_same_answers("xor", load("xor", tmp_path / "xor.pt"), xor)


def test_file_of_an_old_torch_is_read(xor: XOR, tmp_path: Path) -> None:
    torch.save(xor.state_dict(), tmp_path / "xor.pt", _use_new_zipfile_serialization=False)

    assert_same_answers("xor", load("xor", tmp_path / "xor.pt"), xor)


def test_half_precision_weights_become_single(xor: XOR, tmp_path: Path) -> None:
    torch.save(xor.half().state_dict(), tmp_path / "xor.pt")

    imported = load("xor", tmp_path / "xor.pt")

    assert {value.dtype for value in imported.state_dict().values()} == {torch.float32}
    assert_same_answers("xor", imported, xor.float())


def test_missing_unexpected_and_misshapen_keys_are_named(xor: XOR, tmp_path: Path) -> None:
    state_dict = xor.state_dict()
    state_dict["module.linear_1.bias"] = state_dict.pop("linear_1.bias")
    state_dict["linear_2.weight"] = torch.zeros(1, 6)
    torch.save(state_dict, tmp_path / "xor.pt")

    assert refusal("xor", tmp_path / "xor.pt") == (
        " does not fit xor with {'hidden': 5, 'activation': 'relu'}: "
        "missing linear_1.bias; unexpected module.linear_1.bias; "
        "linear_2.weight has shape [1, 6], expected [1, 5]"
    )


def test_file_of_other_layer_sizes_fits_with_that_setting(tmp_path: Path) -> None:
    xor = XOR()
    xor.linear_1, xor.linear_2 = nn.Linear(2, 8), nn.Linear(8, 1)
    torch.save(xor.state_dict(), tmp_path / "xor.pt")

    assert "linear_1.weight has shape [8, 2], expected [5, 2]" in refusal(
        "xor", tmp_path / "xor.pt"
    )
    assert_same_answers("xor", load("xor", tmp_path / "xor.pt", hidden=8), xor)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_not_finite_are_named(value: float, xor: XOR, tmp_path: Path) -> None:
    nn.init.constant_(xor.linear_2.bias, value)
    torch.save(xor.state_dict(), tmp_path / "xor.pt")

    assert refusal("xor", tmp_path / "xor.pt") == ": linear_2.bias holds NaN or infinities"


@pytest.mark.filterwarnings("ignore:Validating sparse tensor invariants")
@pytest.mark.parametrize("kind", ["complex", "sparse", "meta"])
def test_tensors_that_are_no_dense_real_numbers_are_named(
    kind: str, xor: XOR, tmp_path: Path
) -> None:
    bias = xor.linear_2.bias.detach()
    odd = {"complex": bias.to(torch.complex64), "sparse": bias.to_sparse(), "meta": bias.to("meta")}
    torch.save({**xor.state_dict(), "linear_2.bias": odd[kind]}, tmp_path / "xor.pt")

    assert "linear_2.bias" in refusal("xor", tmp_path / "xor.pt")


@pytest.mark.parametrize("zipped", [True, False])
def test_malicious_file_is_refused_and_not_executed(zipped: bool, xor: XOR, tmp_path: Path) -> None:
    path, marker = tmp_path / "xor.pt", tmp_path / "executed"
    content = {**xor.state_dict(), "extra": Executed(marker)}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)

    assert "only tensors are loaded" in refusal("xor", path)
    assert not marker.exists()

    torch.load(path, weights_only=False)  # the file is as malicious as it is meant to be
    assert marker.exists()


def test_bare_malicious_pickle_is_refused_and_not_executed(tmp_path: Path) -> None:
    path, marker = tmp_path / "xor.pt", tmp_path / "executed"
    path.write_bytes(pickle.dumps({"linear_1.weight": Executed(marker)}))

    refusal("xor", path)
    assert not marker.exists()

    pickle.loads(path.read_bytes())
    assert marker.exists()


def test_pickled_module_is_refused_with_advice(xor: XOR, tmp_path: Path) -> None:
    torch.save(xor, tmp_path / "xor.pt")

    assert refusal("xor", tmp_path / "xor.pt").endswith(
        "save the weights alone: torch.save(model.state_dict(), ...)"
    )


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("content", [b"", b"garbage", b"PK\x03\x04", b"\x80\x02", bytes(1000)])
def test_file_that_holds_no_weights_is_refused(suffix: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / f"model{suffix}"
    path.write_bytes(content)

    assert refusal("dnn", path)


@pytest.mark.parametrize("content", [[1, 2], {"linear_1.weight": 3}, {1: torch.ones(2)}, None])
def test_file_that_holds_no_state_dict_is_refused(content: Any, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "xor.pt")

    assert refusal("xor", tmp_path / "xor.pt").endswith("expected a state_dict: tensors by name")


@pytest.mark.parametrize("zipped", [True, False])
def test_damaged_file_is_read_or_refused_and_nothing_else(
    zipped: bool, xor: XOR, tmp_path: Path
) -> None:
    path = tmp_path / "xor.pt"
    torch.save(xor.state_dict(), path, _use_new_zipfile_serialization=zipped)
    whole = path.read_bytes()
    source = random.Random(0)
    refused = 0
    for _ in range(150):
        damaged = bytearray(whole)
        for _ in range(4):
            damaged[source.randrange(len(whole))] = source.randrange(256)
        path.write_bytes(
            damaged[: source.randrange(len(whole))] if source.random() < 0.3 else damaged
        )
        try:
            load("xor", path)
        except ImportFileError:
            refused += 1

    assert refused > 50


@pytest.mark.parametrize("name", ["absent.pt", "absent.safetensors"])
def test_absent_file_is_named(name: str, tmp_path: Path) -> None:
    assert refusal("xor", tmp_path / name) == " does not exist"


def test_folder_is_no_weights_file(tmp_path: Path) -> None:
    (tmp_path / "xor.pt").mkdir()

    assert "Is a directory" in refusal("xor", tmp_path / "xor.pt")
