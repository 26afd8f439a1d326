"""Checkpoints in the store are damaged: at start, at a promotion, where a request asks for one."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from perceptd.models import checkpoint
from perceptd.service.commands.common import opened_store
from perceptd.service.store.repository import PRETRAINED
from tests.reliability.load import BODY, fault
from tests.service.site import SERVE, Site
from tests.waiting import eventually

pytestmark = pytest.mark.faults

OTHER = PRETRAINED / "perceptron"  # whole, and with the same input and labels


def truncate_weights(folder: Path) -> None:
    weights = folder / checkpoint.WEIGHTS
    os.truncate(weights, weights.stat().st_size // 2)


def flip_a_bit(folder: Path) -> None:
    weights = bytearray((folder / checkpoint.WEIGHTS).read_bytes())
    weights[-1] ^= 1
    (folder / checkpoint.WEIGHTS).write_bytes(weights)


def replace_meta(folder: Path) -> None:
    shutil.copyfile(OTHER / checkpoint.META, folder / checkpoint.META)


def replace_graph(folder: Path) -> None:
    """By one that runs, named in `meta.json` as if it had always been there."""
    shutil.copyfile(OTHER / checkpoint.GRAPH, folder / checkpoint.GRAPH)
    meta = json.loads((folder / checkpoint.META).read_text())
    theirs = json.loads((OTHER / checkpoint.META).read_text())
    meta["files"][checkpoint.GRAPH] = theirs["files"][checkpoint.GRAPH]
    (folder / checkpoint.META).write_text(json.dumps(meta))


def delete(folder: Path) -> None:
    shutil.rmtree(folder)


def link_weights_to_zeros(folder: Path) -> None:
    (folder / checkpoint.WEIGHTS).unlink()
    (folder / checkpoint.WEIGHTS).symlink_to("/dev/zero")


def link_elsewhere(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.symlink_to(OTHER)


def make_meta_a_pipe(folder: Path) -> None:
    """Whoever reads it waits for ever."""
    (folder / checkpoint.META).unlink()
    os.mkfifo(folder / checkpoint.META)


DAMAGES: list[tuple[Callable[[Path], None], str]] = [
    (truncate_weights, "model.safetensors was altered"),
    (flip_a_bit, "model.safetensors was altered"),
    (replace_meta, "model.onnx was altered"),
    (replace_graph, "this is not the checkpoint registered as dnn version"),
    (delete, "meta.json cannot be read"),
    (link_weights_to_zeros, "model.safetensors is missing"),
    (link_elsewhere, "this is not the checkpoint registered as dnn version"),
    (make_meta_a_pipe, "meta.json is not a regular file"),
]


def test_a_damaged_version_is_neither_promoted_nor_served(site: Site) -> None:
    site.serve()
    with opened_store(site.settings) as repository:
        versions = [repository.register(PRETRAINED / "dnn", "dnn")[1] for _ in DAMAGES]
        for version, (damage, _) in zip(versions, DAMAGES, strict=True):
            damage(repository.folder("dnn", version))

    with fault(site.url):
        for version, (damage, words) in zip(versions, DAMAGES, strict=True):
            promoted = site.ask("PUT", "/models/dnn/aliases/production", {"version": version})
            assert (promoted.status_code, promoted.json()["code"]) == (409, "conflict"), damage
            assert words in promoted.json()["detail"]
            pinned = site.ask("POST", "/predict", {**BODY, "version": version})
            assert (pinned.status_code, pinned.json()["code"]) == (503, "model_unavailable")
            assert words in pinned.json()["detail"]
            assert str(site.settings.data_dir) not in promoted.text + pinned.text
        ready = site.ask("GET", "/health/ready")
    assert ready.json()["models"]["dnn"] == 1


def test_a_damaged_production_version_is_named_and_the_previous_one_serves(
    site: Site,
) -> None:
    site.serve()
    with (
        fault(site.url),
        opened_store(site.settings) as repository,
    ):
        _, version = repository.register(PRETRAINED / "dnn", "dnn")
        flip_a_bit(repository.folder("dnn", version))
        repository.point("dnn", "production", version)
        eventually(
            lambda: site.ask("GET", "/health/ready").status_code == 503,
            "the server is not ready",
            log=site.log,
        )
        detail = site.ask("GET", "/health/ready").json()["detail"]
        answer = site.ask("POST", "/predict", BODY)
        repository.point("dnn", "production", 1)
        site.wait_until_ready()

    assert "dnn: version 2 cannot be loaded: model.safetensors was altered" in detail
    assert answer.json()["version"] == 1
    assert site.said("dnn version 2 cannot be loaded: model.safetensors was altered") > 0


@pytest.mark.parametrize("damage", [truncate_weights, replace_graph, delete, make_meta_a_pipe])
def test_a_version_damaged_before_the_start_is_named_and_serves_once_repaired(
    site: Site, damage: Callable[[Path], None]
) -> None:
    with opened_store(site.settings) as repository:
        folder = repository.folder("xor", 1)
        whole = folder.with_name("whole")
        shutil.copytree(folder, whole)
        damage(folder)
    site.start(*SERVE, PERCEPTD_WORKERS="0")
    site.wait_until_ready("/health/live")

    with fault(site.url):
        ready = site.ask("GET", "/health/ready")
        assert ready.status_code == 503
        assert "xor: version 1 cannot be loaded: " in ready.json()["detail"]
        assert site.said("xor version 1 cannot be loaded: ") > 0
        refused = site.ask("POST", "/predict", {"model": "xor", "inputs": [[1, 1]]})
        assert (refused.status_code, refused.json()["code"]) == (503, "model_unavailable")
        shutil.rmtree(folder, ignore_errors=True)
        whole.rename(folder)
        site.wait_until_ready()
        assert site.ask("POST", "/predict", {"model": "xor", "inputs": [[1, 1]]}).is_success
