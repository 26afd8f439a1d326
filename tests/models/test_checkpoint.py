"""A checkpoint is complete and unaltered, or is refused with the reason and the file's name."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from numpy.typing import NDArray
from safetensors.numpy import save

from perceptd.models import checkpoint
from perceptd.models.checkpoint import GRAPH, META, WEIGHTS, CheckpointError
from perceptd.models.registry import BUILT_IN
from tests.models.conftest import PICTURES, build, provenance, write


@pytest.fixture
def folder(checkpoint_of: Callable[[str], Path], tmp_path: Path) -> Path:
    """A checkpoint of the dnn that a test may alter."""
    return Path(shutil.copytree(checkpoint_of("dnn"), tmp_path / "dnn"))


def change_meta(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    meta = json.loads((folder / META).read_bytes())
    change(meta)
    (folder / META).write_text(json.dumps(meta))


def replace_weights(folder: Path, content: bytes) -> None:
    """Other weights, with the right hash in meta.json."""
    (folder / WEIGHTS).write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    change_meta(folder, lambda meta: meta["files"].update({WEIGHTS: digest}))


def refusal(folder: Path) -> str:
    """Why the checkpoint is refused; every refusal names the folder."""
    with pytest.raises(CheckpointError) as error:
        checkpoint.read(folder)
    text = str(error.value)
    assert text.startswith(f"{folder}: ")
    return text.removeprefix(f"{folder}: ")


@pytest.mark.parametrize("name", BUILT_IN)
def test_written_checkpoint_reads_back_the_same(
    name: str, checkpoint_of: Callable[[str], Path]
) -> None:
    folder = checkpoint_of(name)

    meta = checkpoint.read(folder)
    weights = checkpoint.read_weights(folder)

    assert checkpoint.Provenance(
        **meta.model_dump(include=set(checkpoint.Provenance.model_fields))
    ) == provenance(name)
    state_dict = build(name).state_dict()
    assert weights.keys() == state_dict.keys()
    for key, value in state_dict.items():
        assert_array_equal(weights[key], value.numpy())
        assert meta.tensors[key] == list(value.shape)
    assert meta.files.keys() == {WEIGHTS, GRAPH, *PICTURES}


def test_weights_hash_is_that_of_the_file_and_the_same_for_the_same_weights(
    folder: Path, tmp_path: Path
) -> None:
    meta = checkpoint.read(folder)

    assert meta.weights_sha256 == hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()
    assert write("dnn", tmp_path / "again").weights_sha256 == meta.weights_sha256


def test_other_users_may_read_a_checkpoint(tmp_path: Path) -> None:
    write("dnn", tmp_path / "dnn")

    modes = {
        path.stat().st_mode & 0o777 for path in (tmp_path / "dnn").rglob("*") if path.is_file()
    }
    assert modes == {0o644}
    assert (tmp_path / "dnn").stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("name", [META, WEIGHTS, GRAPH, PICTURES[0]])
def test_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()

    assert refusal(folder) in (
        f"{name} is missing",
        f"{name} cannot be read (No such file or directory)",
    )


def test_missing_folder_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path / "nothing") == "meta.json cannot be read (No such file or directory)"


@pytest.mark.parametrize("name", [WEIGHTS, GRAPH, PICTURES[0]])
@pytest.mark.parametrize("damage", ["truncated", "one bit"])
def test_altered_file_is_named_and_not_copied(
    folder: Path, tmp_path: Path, name: str, damage: str
) -> None:
    content = (folder / name).read_bytes()
    changed = b"" if damage == "truncated" else bytes([content[-1] ^ 1])
    (folder / name).write_bytes(content[:-1] + changed)

    assert refusal(folder).startswith(f"{name} was altered: SHA-256 is ")
    with pytest.raises(CheckpointError, match=f"{name} was altered"):
        checkpoint.copy(folder, tmp_path / "copy")
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]


@pytest.mark.parametrize(
    "content", [b"", b'{"format": 1, "arch', b"not JSON", b"\xff\xfe\x00", b"[]", b"null"]
)
def test_meta_that_is_no_json_object_is_refused(folder: Path, content: bytes) -> None:
    (folder / META).write_bytes(content)

    assert refusal(folder).startswith("meta.json is damaged: the file: ")


def test_named_pipe_as_meta_is_refused_without_waiting(folder: Path) -> None:
    (folder / META).unlink()
    os.mkfifo(folder / META)

    assert refusal(folder) == "meta.json is not a regular file"


NEEDED = [name for name, field in checkpoint.Meta.model_fields.items() if field.is_required()]


@pytest.mark.parametrize("field", NEEDED)
def test_missing_field_of_meta_is_named(folder: Path, field: str) -> None:
    change_meta(folder, lambda meta: meta.pop(field))

    assert refusal(folder) == f"meta.json is damaged: {field}: Field required"


def test_a_checkpoint_of_an_earlier_release_has_no_drift_reference(folder: Path) -> None:
    change_meta(folder, lambda meta: meta.pop("drift"))

    assert checkpoint.read(folder).drift is None


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("format", 2),
        ("created_at", "yesterday"),
        ("metrics", {"test": {"loss": None}}),
        ("drift", {"rows": 0}),
        ("x", 1),
    ],
)
def test_wrong_field_of_meta_is_named(folder: Path, field: str, value: Any) -> None:
    change_meta(folder, lambda meta: meta.update({field: value}))

    assert refusal(folder).startswith(f"meta.json is damaged: {field}")


@pytest.mark.parametrize("name", [WEIGHTS, GRAPH])
def test_meta_that_leaves_out_a_file_is_refused(folder: Path, name: str) -> None:
    change_meta(folder, lambda meta: meta["files"].pop(name))

    assert refusal(folder) == f"meta.json does not list {name}"


@pytest.mark.parametrize(
    "name",
    [
        "../secret",
        "plots/../../secret",
        "/etc/hostname",
        "plots/loss.exe",
        "plots/other.png",
        "plots/loss.json",
        "plots/boundaryxjson",
        "plots/loss.svg\n",
        META,
    ],
)
def test_file_that_does_not_belong_to_a_checkpoint_is_refused(folder: Path, name: str) -> None:
    (folder.parent / "secret").write_bytes(b"secret")
    digest = hashlib.sha256(b"secret").hexdigest()
    change_meta(folder, lambda meta: meta["files"].update({name: digest}))

    assert refusal(folder) == f"meta.json lists a file it must not: {name!r}"


def test_file_that_meta_does_not_name_is_not_copied(folder: Path, tmp_path: Path) -> None:
    (folder / "plots" / "boundary.png").write_bytes(b"unnamed")

    checkpoint.copy(folder, tmp_path / "copy")

    assert not (tmp_path / "copy" / "plots" / "boundary.png").exists()


def test_weights_of_other_keys_or_shapes_are_refused_though_their_hash_is_right(
    folder: Path,
) -> None:
    arrays = checkpoint.read_weights(folder)
    arrays["linear9.bias"] = arrays.pop("linear2.bias")
    arrays["linear1.weight"] = np.zeros((2, 4), np.float32)
    replace_weights(folder, save(arrays))

    assert refusal(folder) == (
        "model.safetensors does not fit meta.json: missing linear2.bias; unexpected linear9.bias; "
        "linear1.weight has shape [2, 4], expected [4, 2]"
    )


def test_pickle_as_weights_is_refused_though_its_hash_is_right(folder: Path) -> None:
    replace_weights(folder, b"PK\x03\x04 a pickle")

    assert refusal(folder).startswith("model.safetensors is not a safetensors file: ")


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit, OSError])
def test_interrupted_write_leaves_nothing(
    tmp_path: Path, interruption: type[BaseException]
) -> None:
    seen: list[str] = []

    def fill(folder: Path) -> None:
        (folder / GRAPH).write_bytes(b"half a gra")
        seen.extend(path.name for path in folder.iterdir())
        raise interruption

    with pytest.raises(interruption):
        checkpoint.write(tmp_path / "dnn", provenance("dnn"), {"w": np.zeros(2)}, fill)

    assert {WEIGHTS, GRAPH} <= set(seen)
    assert list(tmp_path.iterdir()) == []


def test_unfinished_folder_is_not_at_its_place(tmp_path: Path) -> None:
    target = tmp_path / "dnn"
    existed = []

    def fill(folder: Path) -> None:
        existed.append(target.exists())
        (folder / GRAPH).write_bytes(b"graph")

    checkpoint.write(target, provenance("dnn"), {"w": np.zeros(2)}, fill)

    assert existed == [False]
    assert [path.name for path in tmp_path.iterdir()] == ["dnn"]


def test_remains_of_a_killed_writer_are_removed_and_no_others(tmp_path: Path) -> None:
    for name in (".dnn.unfinished-abc", ".xor.unfinished-abc", "dnn-old"):
        (tmp_path / name / "plots").mkdir(parents=True)

    checkpoint.remove_unfinished(tmp_path / "dnn")

    assert {path.name for path in tmp_path.iterdir()} == {".xor.unfinished-abc", "dnn-old"}


@pytest.mark.parametrize("kind", ["checkpoint", "empty folder", "file"])
def test_existing_target_is_refused_and_kept(folder: Path, tmp_path: Path, kind: str) -> None:
    target = tmp_path / "target"
    if kind == "file":
        target.write_text("mine")
    else:
        target.mkdir()
    if kind == "checkpoint":
        shutil.copytree(folder, target, dirs_exist_ok=True)
    before = sorted(tmp_path.rglob("*"))

    with pytest.raises(CheckpointError, match=r"target exists, and .* never overwritten"):
        write("xor", target)
    with pytest.raises(CheckpointError, match=r"target exists, and .* never overwritten"):
        checkpoint.copy(folder, target)

    assert sorted(tmp_path.rglob("*")) == before


def test_copy_is_the_same_checkpoint(folder: Path, tmp_path: Path) -> None:
    meta = checkpoint.copy(folder, tmp_path / "deep" / "copy")

    assert meta == checkpoint.read(tmp_path / "deep" / "copy") == checkpoint.read(folder)
    for name in (META, *meta.files):
        assert (tmp_path / "deep" / "copy" / name).read_bytes() == (folder / name).read_bytes()


def test_tensors_lie_where_their_offsets_say(checkpoint_of: Callable[[str], Path]) -> None:
    folder = checkpoint_of("mnist-cnn")
    content = (folder / WEIGHTS).read_bytes()

    offsets = checkpoint.tensor_offsets(folder / WEIGHTS)

    weights = checkpoint.read_weights(folder)
    assert offsets.keys() == weights.keys()
    for key, (offset, length) in offsets.items():
        assert content[offset : offset + length] == weights[key].tobytes()


def test_hash_of_arrays_depends_on_content_shape_type_and_order_but_not_on_layout() -> None:
    zeros, ones = np.zeros(4, np.float32), np.ones(4, np.float32)
    square = np.arange(4).reshape(2, 2)
    groups: list[list[NDArray[Any]]] = [
        [zeros, ones],
        [ones, zeros],
        [zeros, ones.reshape(2, 2)],
        [zeros.astype(np.int32), ones],
        [np.concatenate([zeros, ones])],
        [square],
        [np.asfortranarray(square)],
    ]

    hashes = [checkpoint.sha256_of(iter(group)) for group in groups]

    assert hashes[-1] == hashes[-2]
    assert len(set(hashes)) == len(groups) - 1
