"""`perceptd train` refuses what it cannot do, and writes nothing."""

from contextlib import chdir
from pathlib import Path

import pytest

from perceptd.models import checkpoint
from perceptd.models.checkpoint import WEIGHTS
from tests.command_line import perceptd


def test_training_from_another_models_checkpoint_is_refused(wide_dnn: Path, tmp_path: Path) -> None:
    outcome = perceptd("train", "xor", "--start-from", wide_dnn, "--out", tmp_path / "out")

    assert (outcome.exit_code, outcome.stdout) == (1, "")
    assert outcome.stderr == f"Error: xor cannot start from {wide_dnn}, a checkpoint of dnn\n"
    assert list(tmp_path.iterdir()) == []


def test_training_from_an_altered_checkpoint_is_refused(wide_dnn: Path, tmp_path: Path) -> None:
    folder = tmp_path / "parent"
    checkpoint.copy(wide_dnn, folder)
    (folder / WEIGHTS).write_bytes(b"altered")

    outcome = perceptd("train", "dnn", "--start-from", folder, "--out", tmp_path / "out")

    assert outcome.exit_code == 1
    assert outcome.stderr.startswith(f"Error: {folder}: {WEIGHTS} was altered")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--epochs", "0"], "--epochs: Input should be greater than or equal to 1, got 0"),
        (["--epochs", "many"], "'--epochs': 'many' is not a valid integer"),
        (["--learning-rate", "-1"], "--learning-rate: Input should be greater than 0, got -1.0"),
        (["--learning-rate", "nan"], "--learning-rate: "),
        (["--batch-size", "0"], "--batch-size: Input should be greater than or equal to 1, got 0"),
        (["--seed", "-1"], "--seed: Input should be greater than or equal to 0, got -1"),
        (["--recipe", "nope"], "--recipe: dnn has no recipe 'nope' (known: reference, fast)"),
        (["--device", "nonsense"], "--device: 'nonsense': "),
        (["--device", "meta"], "--device: 'meta': "),
        (["--progress", "xml"], "'--progress': 'xml' is not one of 'bar', 'json'"),
        (["--set", "hidden"], "'--set': 'hidden': expected NAME=VALUE, such as hidden=8"),
        (["--set", "hidden=0"], "--set hidden: Input should be greater than or equal to 1, got 0"),
        (["--set", "activation=gelu"], "--set activation: Input should be 'sigmoid', 'tanh', "),
        (
            ["--set", "width=3"],
            "--set width: the model has no such setting (known: hidden, activation)",
        ),
    ],
)
def test_wrong_option_is_named_and_nothing_is_written(
    arguments: list[str], reason: str, tmp_path: Path
) -> None:
    outcome = perceptd("train", "dnn", *arguments, "--out", tmp_path / "out")

    assert (outcome.exit_code, outcome.stdout) == (2, "")
    assert f"Invalid value for {reason}" in outcome.stderr
    assert list(tmp_path.iterdir()) == []


def test_setting_of_a_model_without_any_is_refused() -> None:
    outcome = perceptd("train", "perceptron", "--set", "hidden=8")

    assert outcome.exit_code == 2
    assert "the model has no such setting (known: none)" in outcome.stderr


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--out", "taken"], "taken exists, and a checkpoint is never overwritten"),
        (["--out", "taken/file"], "taken/file exists, and a checkpoint is never overwritten"),
        (
            ["--start-from", "absent"],
            "absent: meta.json cannot be read (No such file or directory)",
        ),
        (["--dataset", "cifar"], "no data set is called 'cifar'; known: "),
        (["--dataset", "absent.csv"], "absent.csv does not exist or is not a file"),
        (["--dataset", "digits"], "digits holds 28 x 28 pictures of 10 classes, the model takes "),
        (["--dataset", "taken/bad.csv"], "taken/bad.csv: rows: expected finite numbers, got NaN"),
    ],
)
def test_error_is_one_line_and_nothing_is_written(
    arguments: list[str], reason: str, tmp_path: Path
) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").write_text("mine")
    (tmp_path / "taken" / "bad.csv").write_text("x,y,label\n1,nan,0\n")
    before = sorted(tmp_path.rglob("*"))

    with chdir(tmp_path):
        outcome = perceptd("train", "dnn", *arguments)

    assert (outcome.exit_code, outcome.stdout) == (1, "")
    assert outcome.stderr.startswith(f"Error: {reason}")
    assert outcome.stderr.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_unwritable_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")

    outcome = perceptd("train", "perceptron", "--epochs", "2", "--out", tmp_path / "file" / "out")

    assert outcome.exit_code == 1
    assert outcome.stderr.startswith("Error: ")
    assert str(tmp_path / "file") in outcome.stderr
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.usefixtures("no_mnist_server")
def test_absent_mnist_is_named_and_nothing_is_written(tmp_path: Path) -> None:
    outcome = perceptd("train", "mnist-mlp", "--data-dir", tmp_path, "--out", tmp_path / "out")

    assert outcome.exit_code == 1
    assert outcome.stderr.startswith(f"Error: MNIST is not in {tmp_path} and cannot be downloaded")
    assert list(tmp_path.iterdir()) == []
