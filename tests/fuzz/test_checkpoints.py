"""Damaged and hostile checkpoints are refused with an error, and none of their code runs."""

import importlib
import io
import json
import pickle
import random
import shutil
import struct
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from perceptd.models import checkpoint
from perceptd.models.checkpoint import GRAPH, META, WEIGHTS, CheckpointError
from perceptd.models.preprocessing import from_numbers
from perceptd.service.inference import runtimes
from perceptd.service.inference.loaded_version import compute
from perceptd.service.store.repository import PRETRAINED
from perceptd.training.errors import ImportFileError
from perceptd.training.importing import read_state_dict
from tests.fuzz.amounts import amount, counted, tries
from tests.fuzz.requests import bent, mutated

pytestmark = pytest.mark.fuzz

SOURCE = PRETRAINED / "dnn"
PATIENCE_S = 600


def copied(folder: Path) -> Path:
    target = folder / "checkpoint"
    shutil.copytree(SOURCE, target)
    return target


def rehashed(folder: Path) -> None:
    """Update the hash of each file in `meta.json`."""
    meta = json.loads((folder / META).read_text())
    meta["files"] = {name: checkpoint._sha256(folder / name) for name in meta["files"]}
    (folder / META).write_text(json.dumps(meta))


@pytest.mark.parametrize("name", [META, GRAPH, WEIGHTS])
def test_a_mutated_checkpoint_is_refused_in_words(name: str, tmp_path: Path) -> None:
    folder = copied(tmp_path)
    whole = (folder / name).read_bytes()
    meta = checkpoint.read(folder)
    wrong = mutated(st.just(whole))
    if name == META:
        wrong |= bent(st.just(json.loads(whole))).map(lambda value: json.dumps(value).encode())
    with counted() as count:

        @tries(400)
        @given(wrong, st.booleans())
        def attack(content: bytes, knows: bool) -> None:
            count.inputs += 1
            (folder / META).write_bytes((SOURCE / META).read_bytes())
            (folder / name).write_bytes(content)
            if knows and name == WEIGHTS:  # a liar who makes the hashes fit
                rehashed(folder)
            try:
                read = checkpoint.read(folder)
            except CheckpointError as error:
                assert str(error)
            else:
                assert read.files.keys() <= meta.files.keys()

        attack()


def hostile_graphs() -> Iterator[bytes]:
    """Graphs that reference foreign files or need far too many resources."""
    whole = (SOURCE / GRAPH).read_bytes()
    for location in ("/etc/passwd", "../../../../../../etc/passwd", "/dev/zero", ".", "", "\0",
                     "//etc/passwd", "meta.json", "plots", "model.safetensors/x"):  # fmt: skip
        for offset, length in (("0", "8"), ("-1", "8"), ("8", "99999999999999"), ("x", "y")):
            graph = onnx.ModelProto.FromString(whole)
            for tensor in graph.graph.initializer:
                for entry in tensor.external_data:
                    told = {"location": location, "offset": offset, "length": length}
                    entry.value = told.get(entry.key, entry.value)
            yield graph.SerializeToString()
    for dims in ([2**40], [2**31, 2**31], [-1], [0], [1] * 64):
        graph = onnx.ModelProto.FromString(whole)
        for tensor in graph.graph.initializer:
            tensor.dims[:] = dims
        yield graph.SerializeToString()
    graph = onnx.ModelProto.FromString(whole)
    for node in graph.graph.node:
        node.op_type = "Loop"
    yield graph.SerializeToString()
    yield (PRETRAINED / "xor" / GRAPH).read_bytes()
    yield (PRETRAINED / "mnist-mlp" / GRAPH).read_bytes()
    yield b""


def load_graphs(folder: str, count: str) -> None:
    """In a process of its own: load many bad graphs as the service does; it must come to its end.

    The graph that it is at lies in the store when it does not.
    """
    store = Path(folder)
    chance = random.Random(int(count))
    whole = (SOURCE / GRAPH).read_bytes()
    graphs = list(hostile_graphs())
    for _ in range(int(count)):
        content = bytearray(whole)
        for _ in range(chance.randint(1, 6)):
            content[chance.randrange(len(content))] = chance.randrange(256)
        graphs.append(bytes(content[: chance.choice((None, None, None, len(content) // 2))]))
    candidate = copied(store)
    for number, graph in enumerate(graphs):
        (candidate / GRAPH).write_bytes(graph)
        rehashed(candidate)
        meta = checkpoint.read(candidate)
        rows = from_numbers(meta.spec.input, meta.spec.example.inputs, meta.spec.example.dtype)
        try:
            compute(runtimes.load(candidate, meta, "cpu", "onnx", 1, 64), meta.spec.head, rows)
        except Exception as error:  # as the engine does, which tells it to the operator
            assert str(error), number


def test_a_graph_that_lies_ends_no_process(tmp_path: Path) -> None:
    script = (
        "import sys; from tests.fuzz.test_checkpoints import load_graphs as f; f(*sys.argv[1:])"
    )
    with counted() as count:
        mutants = amount(150)
        count.inputs = mutants + len(list(hostile_graphs()))
        subprocess.run(
            [sys.executable, "-c", script, str(tmp_path), str(mutants)],
            check=True,
            timeout=PATIENCE_S,
        )


class Harm:
    """An object whose pickle is a function call."""

    def __init__(self, path: str, *arguments: Any) -> None:
        module, _, self._name = path.rpartition(".")
        self._module, self._arguments = module, arguments

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return getattr(importlib.import_module(self._module), self._name), self._arguments


def harmful_pickles(canary: Path) -> Iterator[bytes]:
    """Code that writes the canary file if it runs."""
    shell, python = f"touch {canary}", f"open({str(canary)!r}, 'w')"
    for harm in (
        Harm("os.system", shell),
        Harm("builtins.eval", python),
        Harm("builtins.exec", python),
        Harm("subprocess.getoutput", shell),
    ):
        for protocol in (0, 2, 4):
            yield pickle.dumps(harm, protocol)
            yield pickle.dumps({"state_dict": {"weight": harm}}, protocol)
    yield b"cos\nsystem\n(S'%b'\ntR." % shell.encode()
    yield b"c__builtin__\neval\n(S'%b'\ntR." % python.replace("'", '"').encode()


def as_pt(content: bytes) -> bytes:
    """A `.pt` file with this pickle."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", content)
        archive.writestr("archive/version", "3\n")
        archive.writestr("archive/byteorder", "little")
    return file.getvalue()


def is_refused_or_read(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    try:
        read_state_dict(path)
    except ImportFileError as error:
        assert str(error)


def test_no_weights_file_ever_runs(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    with counted() as count:
        for content in harmful_pickles(canary):
            for whole in (content, as_pt(content)):
                count.inputs += 1
                path = tmp_path / "weights.pt"
                path.write_bytes(whole)
                with pytest.raises(ImportFileError):
                    read_state_dict(path)
                assert not canary.exists()


def hostile_safetensors() -> Iterator[bytes]:
    def file(header: Any, data: bytes = bytes(64), length: int | None = None) -> bytes:
        text = header if isinstance(header, bytes) else json.dumps(header).encode()
        return struct.pack("<Q", len(text) if length is None else length) + text + data

    def tensor(dtype: str, shape: list[int], start: int, end: int) -> dict[str, Any]:
        return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}

    yield from (b"", b"\0" * 8, b"\xff" * 8, b"\xff" * 100)
    for length in (0, 1, 2**31, 2**32, 2**63, 2**64 - 1, 100_000_001):
        yield file({}, length=length)
    for wrong in (
        tensor("F32", [2**62, 4], 0, 64),
        tensor("F32", [16], 0, 65),
        tensor("F32", [16], 32, 0),
        tensor("F32", [-1], 0, 64),
        tensor("F99", [16], 0, 64),
        tensor("F64", [16], 0, 64),
        tensor("F32", [16], 2**63, 2**63 + 64),
        tensor("F32", [0], 0, 0),
    ):
        yield file({"weight": wrong})
        yield file({"weight": tensor("F32", [16], 0, 64), "other": wrong})
    yield file(b"[" * 100_000)
    yield file(b'{"a": ' * 50_000)
    yield file(b'{"weight": {}, "weight": {}}')


def test_hostile_weights_are_refused_in_words(tmp_path: Path) -> None:
    with counted() as count:
        for content in hostile_safetensors():
            count.inputs += 1
            is_refused_or_read(tmp_path / "weights.safetensors", content)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_mutated_weights_are_read_or_refused(suffix: str, tmp_path: Path) -> None:
    whole = (SOURCE / WEIGHTS).read_bytes()
    if suffix == ".pt":
        file = io.BytesIO()
        torch.save({"weight": torch.ones(3, 2), "bias": torch.zeros(3)}, file)
        whole = file.getvalue()
    path = tmp_path / f"weights{suffix}"
    with counted() as count:

        @tries(600)
        @given(mutated(st.just(whole)))
        def attack(content: bytes) -> None:
            count.inputs += 1
            is_refused_or_read(path, content)

        attack()
