import json
import multiprocessing
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from perceptd.models.checkpoint import CheckpointError
from perceptd.service.commands.common import opened_store
from perceptd.service.errors import (
    ConflictError,
    ModelNotFoundError,
    StoreError,
    VersionNotFoundError,
)
from perceptd.service.settings import Settings
from perceptd.service.store import db
from perceptd.service.store.aliases import PRODUCTION
from perceptd.service.store.repository import PRETRAINED, Repository, shipped

pytestmark = pytest.mark.database

DNN = PRETRAINED / "dnn"


@pytest.fixture
def repository(store_settings: Settings) -> Iterator[Repository]:
    with opened_store(store_settings) as repository:
        yield repository


def tree(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def altered(tmp_path: Path, **changes: Any) -> Path:
    """A copy of the dnn checkpoint whose meta says something else."""
    folder = tmp_path / "altered"
    shutil.copytree(DNN, folder)
    meta = json.loads((folder / "meta.json").read_text())
    meta["spec"].update(changes)
    (folder / "meta.json").write_text(json.dumps(meta))
    return folder


def test_a_new_store_is_given_the_shipped_checkpoints_once(
    repository: Repository, store_settings: Settings
) -> None:
    repository.prepare()
    assert set(repository.production().values()) == {1}
    assert set(repository.production()) == {folder.name for folder in shipped()}
    assert [version.version for version in repository.versions("dnn")] == [1]
    assert tree(repository.folder("dnn", 1)) == tree(DNN)


def test_versions_are_numbered_and_promoted_only_if_asked(repository: Repository) -> None:
    assert repository.register(DNN) == ("dnn", 2)
    assert repository.production()["dnn"] == 1
    assert repository.register(DNN, promote=True) == ("dnn", 3)
    assert repository.production()["dnn"] == 3

    newest, _, oldest = repository.versions("dnn")
    assert newest.aliases == ("production",)
    assert oldest.aliases == ("previous",)
    assert newest.created_at.utcoffset() is not None


def test_previous_points_to_where_production_came_from(repository: Repository) -> None:
    repository.register(DNN, promote=True)
    repository.point("dnn", PRODUCTION, 1)
    repository.point("dnn", PRODUCTION, 1)
    newest, oldest = repository.versions("dnn")
    assert (newest.aliases, oldest.aliases) == (("previous",), ("production",))


def test_a_first_version_under_a_new_name_serves_at_once(repository: Repository) -> None:
    assert repository.register(DNN, "rings") == ("rings", 1)
    assert repository.production()["rings"] == 1
    assert repository.version("rings", 1).meta.architecture == "dnn"


@pytest.mark.parametrize("name", ["Rings", "../rings", "a/b", "a" * 64, ".hidden"])
def test_an_invalid_name_is_refused(repository: Repository, name: str) -> None:
    with pytest.raises(ConflictError, match="no name for a model"):
        repository.register(DNN, name)


def test_other_labels_need_another_name(repository: Repository, tmp_path: Path) -> None:
    with pytest.raises(ConflictError, match="labels"):
        repository.register(altered(tmp_path, labels=["in", "out"]))
    assert len(repository.versions("dnn")) == 1
    assert not repository.folder("dnn", 2).exists()


def test_a_damaged_checkpoint_is_not_registered(repository: Repository, tmp_path: Path) -> None:
    folder = tmp_path / "damaged"
    shutil.copytree(DNN, folder)
    (folder / "model.onnx").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"model\.onnx was altered"):
        repository.register(folder)
    assert len(repository.versions("dnn")) == 1


def test_a_registration_replaces_the_files_of_a_killed_one(repository: Repository) -> None:
    half = repository.folder("dnn", 2)
    half.mkdir()
    (half / "model.onnx").write_bytes(b"half a graph")
    unfinished = half.with_name(".2.unfinished-abc")
    unfinished.mkdir()

    assert repository.register(DNN) == ("dnn", 2)
    assert tree(half) == tree(DNN)
    assert not unfinished.exists()


def test_the_parent_is_the_version_whose_weights_the_training_began_with(
    repository: Repository, tmp_path: Path
) -> None:
    folder = altered(tmp_path)
    meta = json.loads((folder / "meta.json").read_text())
    meta["parent_sha256"] = meta["files"]["model.safetensors"]
    (folder / "meta.json").write_text(json.dumps(meta))
    repository.register(folder)
    assert [version.parent for version in repository.versions("dnn")] == [1, None]


def test_an_interrupted_start_is_completed_by_the_next(store_settings: Settings) -> None:
    database = db.connect(store_settings)
    repository = Repository(database, store_settings.data_dir)
    db.migrate(database, store_settings.data_dir)
    repository.register(DNN)
    repository.prepare()
    assert set(repository.production()) == {folder.name for folder in shipped()}
    assert len(repository.versions("dnn")) == 1
    database.dispose()


def test_tables_of_a_newer_release_are_left_alone(store_settings: Settings) -> None:
    database = db.connect(store_settings)
    db.migrate(database, store_settings.data_dir)
    with database.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(StoreError, match="newer release"):
        Repository(database, store_settings.data_dir).prepare()
    database.dispose()


def test_a_registration_that_fails_to_copy_leaves_no_row(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(StoreError, match="No space left"):
        repository.register(DNN)
    monkeypatch.undo()
    assert len(repository.versions("dnn")) == 1
    assert repository.register(DNN) == ("dnn", 2)


def register_some(settings: Settings, count: int) -> None:
    database = db.connect(settings)
    repository = Repository(database, settings.data_dir)
    repository.prepare()
    for _ in range(count):
        repository.register(DNN)


def test_processes_that_start_and_register_together_share_the_numbers(
    store_settings: Settings,
) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=register_some, args=(store_settings, 4)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0, 0]

    database = db.connect(store_settings)
    repository = Repository(database, store_settings.data_dir)
    numbers = sorted(version.version for version in repository.versions("dnn"))
    assert numbers == list(range(1, 14))
    for number in numbers:
        repository.verified_folder("dnn", number)
    database.dispose()


def test_a_folder_swapped_for_another_is_refused(repository: Repository) -> None:
    repository.register(PRETRAINED / "xor", "other")
    shutil.rmtree(repository.folder("other", 1))
    shutil.copytree(DNN, repository.folder("other", 1))
    with pytest.raises(CheckpointError, match="not the checkpoint registered as other version 1"):
        repository.verified_folder("other", 1)


def test_an_unknown_model_or_version_is_not_found(repository: Repository) -> None:
    for name in ("nope", "no\0pe", "../nope", "Nope", ""):
        with pytest.raises(ModelNotFoundError):
            repository.versions(name)
    with pytest.raises(VersionNotFoundError, match="dnn has no version 7"):
        repository.version("dnn", 7)
    with pytest.raises(VersionNotFoundError, match="dnn has no version 7"):
        repository.point("dnn", PRODUCTION, 7)


def test_an_unreachable_database_is_an_error_without_the_password(tmp_path: Path) -> None:
    url = "postgresql+psycopg://perceptd:s3cret@127.0.0.1:1/perceptd"
    database = db.connect(Settings(data_dir=tmp_path, database_url=url))
    with pytest.raises(StoreError, match="database cannot be used") as raised:
        Repository(database, tmp_path).production()
    assert "s3cret" not in str(raised.value)
