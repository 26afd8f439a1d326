"""A checkpoint has a drift reference, and a copy of an older one can get one."""

import json
from pathlib import Path

import pytest

from perceptd.models import checkpoint
from perceptd.models.checkpoint import META, WEIGHTS
from tests.command_line import perceptd
from tests.training.conftest import SPIRAL, Package


@pytest.fixture
def earlier(wide_dnn: Path, tmp_path: Path) -> Path:
    """A checkpoint as earlier releases wrote it."""
    folder = tmp_path / "earlier"
    checkpoint.copy(wide_dnn, folder)
    meta = json.loads((folder / META).read_text())
    del meta["drift"]
    (folder / META).write_text(json.dumps(meta))
    return folder


def test_trained_checkpoint_has_a_reference(wide_dnn: Path) -> None:
    meta = checkpoint.read(wide_dnn)
    assert meta.drift
    assert meta.drift.fits(meta.spec)
    assert meta.drift.rows == 500
    low, high = meta.drift.features[0].edges[0], meta.drift.features[0].edges[-1]
    assert -2 < low < -1 < 1 < high < 2


def test_imported_checkpoint_has_a_reference_if_data_are_present(
    wide_dnn: Path, tmp_path: Path
) -> None:
    settings = ["--set", "hidden=8", "--set", "activation=tanh"]
    outcome = perceptd("import", "dnn", wide_dnn / WEIGHTS, *settings, "--out", tmp_path / "dnn")
    assert outcome.exit_code == 0, outcome.stderr
    assert checkpoint.read(tmp_path / "dnn").drift == checkpoint.read(wide_dnn).drift


def test_checkpoint_of_a_plug_in_has_a_reference(package: Package, tmp_path: Path) -> None:
    groups = {
        "models": {"spiral": "spirals:ARCHITECTURE"},
        "recipes": {"spiral": "spirals:RECIPES"},
    }
    package("spirals", SPIRAL, **groups)
    outcome = perceptd("train", "spiral", "--epochs", "2", "--out", tmp_path / "spiral")
    assert outcome.exit_code == 0, outcome.stderr
    meta = checkpoint.read(tmp_path / "spiral")
    assert meta.drift
    assert meta.drift.fits(meta.spec)
    assert meta.drift.classes
    assert len(meta.drift.classes) == 3


def test_older_checkpoint_is_copied_with_a_reference(
    earlier: Path, wide_dnn: Path, tmp_path: Path
) -> None:
    before = checkpoint.read(earlier)
    outcome = perceptd("drift-reference", earlier, "--out", tmp_path / "new")
    assert outcome.exit_code == 0, outcome.stderr
    assert outcome.stdout == (
        f"{tmp_path / 'new'}: {earlier} with the drift reference of 500 rows of circles\n"
    )
    after = checkpoint.read(tmp_path / "new")
    assert after == checkpoint.read(wide_dnn)
    assert after.files == before.files
    assert checkpoint.read(earlier) == before


def test_other_data_are_refused(earlier: Path, tmp_path: Path) -> None:
    outcome = perceptd("drift-reference", earlier, "--dataset", "blobs", "--out", tmp_path / "new")
    assert outcome.exit_code == 1
    assert outcome.stderr.startswith(f"Error: {earlier} was made with circles of SHA-256 ")
    assert not (tmp_path / "new").exists()


def test_shipped_checkpoints_have_a_reference_of_their_data() -> None:
    pretrained = Path(checkpoint.__file__).parent / "pretrained"
    for folder in sorted(path for path in pretrained.iterdir() if path.is_dir()):
        meta = checkpoint.read(folder)
        assert meta.drift, folder
        assert meta.drift.fits(meta.spec)
        assert meta.dataset
        assert meta.drift.rows == min(10_000, meta.dataset.rows["train"])
