"""`plot` draws the plots of a checkpoint again, or says in a sentence why not."""

from contextlib import chdir
from pathlib import Path

import numpy as np
import pytest
import torch

from perceptd.models import checkpoint, registry
from perceptd.models.checkpoint import META, WEIGHTS
from perceptd.training.plotting import plots
from tests.command_line import Outcome, perceptd
from tests.training.conftest import SPIRAL, Package

PLANE = ["boundary.json", "boundary.png", "boundary.svg", "loss.png", "loss.svg"]
CURVE = ["loss.png", "loss.svg"]

# Two labels, so that it has a plane, with points that only the package can make.
HALVES = SPIRAL.replace("spiral", "halves").replace("(8, 3)", "(8, 2)")
HALVES = HALVES.replace('("a", "b", "c")', '("a", "b")').replace(" + (inputs[:, 1] > 0)", "")


@pytest.fixture(scope="session")
def mine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a dnn trained on the file `mine.csv` beside it."""
    folder = tmp_path_factory.mktemp("mine")
    random = np.random.default_rng(0).normal(size=(60, 2))
    lines = [f"{x:.4f},{y:.4f},{int(x > y)}" for x, y in random]
    (folder / "mine.csv").write_text("\n".join(["x,y,label", *lines]) + "\n")
    with chdir(folder):
        outcome = perceptd("train", "dnn", "--dataset", "mine.csv", "--epochs", "3", "--out", "dnn")
    assert outcome.exit_code == 0, outcome.stderr
    return folder / "dnn"


@pytest.fixture(scope="session")
def imported(wide_dnn: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint without a curve: the weights of another, imported."""
    target = tmp_path_factory.mktemp("imported") / "dnn"
    settings = ["--set", "hidden=8", "--set", "activation=tanh"]
    outcome = perceptd("import", "dnn", wide_dnn / WEIGHTS, *settings, "--out", target)
    assert outcome.exit_code == 0, outcome.stderr
    return target


def assert_same_plots(folder: Path, drawn: Path, names: list[str]) -> None:
    assert sorted(path.name for path in drawn.iterdir()) == names
    assert sorted(path.name for path in (folder / "plots").iterdir()) == names
    for name in names:
        assert (drawn / name).read_bytes() == (folder / "plots" / name).read_bytes(), name


def plot(*arguments: str | Path) -> Outcome:
    outcome = perceptd("plot", *arguments)
    assert outcome.exit_code == 0, outcome.stderr
    return outcome


def refused(*arguments: str | Path) -> str:
    """The line that says why nothing is drawn."""
    outcome = perceptd("plot", *arguments)
    assert (outcome.exit_code, outcome.stdout) == (1, "")
    assert outcome.stderr.startswith("Error: ")
    assert outcome.stderr.count("\n") == 1
    return outcome.stderr.removeprefix("Error: ").rstrip("\n")


@pytest.mark.parametrize("name", ["perceptron", "dnn", "xor"])
def test_plots_equal_those_of_the_training_byte_for_byte(name: str, tmp_path: Path) -> None:
    made, drawn = tmp_path / "made", tmp_path / "drawn"
    assert perceptd("train", name, "--recipe", "fast", "--out", made).exit_code == 0

    outcome = plot(made, "--out", drawn)

    assert_same_plots(made, drawn, PLANE)
    assert (outcome.stdout, outcome.stderr) == (f"{drawn}: {', '.join(PLANE)}\n", "")


def test_plots_go_to_the_next_free_folder(wide_dnn: Path, tmp_path: Path) -> None:
    with chdir(tmp_path):
        first, second = (plot(wide_dnn) for _ in range(2))

    assert first.stdout.startswith("plots/dnn/1: boundary.json, ")
    assert second.stdout.startswith("plots/dnn/2: boundary.json, ")
    for number in ("1", "2"):  # of a network with settings of its own
        assert_same_plots(wide_dnn, tmp_path / "plots" / "dnn" / number, PLANE)


def test_grid_of_predictions_is_drawn_again(tmp_path: Path) -> None:
    made, drawn = tmp_path / "made", tmp_path / "drawn"
    options = ["--dataset", "digits", "--epochs", "1", "--set", "hidden=4"]
    assert perceptd("train", "mnist-mlp", *options, "--out", made).exit_code == 0

    plot(made, "--out", drawn)

    assert_same_plots(made, drawn, [*CURVE, "predictions.png", "predictions.svg"])


def test_import_has_a_boundary_and_no_curve(imported: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")

    outcome = plot(imported, "--out", tmp_path)

    assert outcome.stdout == f"{tmp_path}: {', '.join(PLANE[:3])}\n"
    for name in PLANE[:3]:
        assert (tmp_path / name).read_bytes() == (imported / "plots" / name).read_bytes(), name
    assert (tmp_path / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("name", "code", "drawn"),
    [
        pytest.param("halves", HALVES, PLANE, id="data made again"),
        pytest.param("spiral", SPIRAL, CURVE, id="no plot of the data"),
    ],
)
def test_plots_of_a_plug_in_are_drawn_again(
    name: str, code: str, drawn: list[str], package: Package, tmp_path: Path
) -> None:
    module = f"{name}_plug_in"
    groups = {"models": {name: f"{module}:ARCHITECTURE"}, "recipes": {name: f"{module}:RECIPES"}}
    package(module, code, **groups)
    assert perceptd("train", name, "--epochs", "3", "--out", tmp_path / "made").exit_code == 0

    assert plot(tmp_path / "made", "--out", tmp_path / "drawn").stderr == ""

    assert_same_plots(tmp_path / "made", tmp_path / "drawn", drawn)


def test_file_is_found_at_its_recorded_path_or_by_dataset(mine: Path, tmp_path: Path) -> None:
    with chdir(mine.parent):
        plot(mine, "--out", tmp_path / "there")
    moved = tmp_path / "moved.csv"
    moved.write_bytes((mine.parent / "mine.csv").read_bytes())
    plot(mine, "--dataset", moved, "--out", tmp_path / "named")

    for drawn in ("there", "named"):
        assert_same_plots(mine, tmp_path / drawn, PLANE)


def test_file_of_a_job_is_found_in_the_store(mine: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    (store / "datasets").mkdir(parents=True)
    (store / "datasets" / "mine.csv").write_bytes((mine.parent / "mine.csv").read_bytes())
    with chdir(store):
        options = ["--dataset", "datasets/mine.csv", "--epochs", "3"]
        made = perceptd("train", "dnn", *options, "--out", "checkpoints/dnn/3")
    assert made.exit_code == 0, made.stderr
    version = store / "checkpoints" / "dnn" / "3"
    moved = tmp_path / "moved"
    checkpoint.copy(version, moved)

    with chdir(tmp_path):
        plot("store/checkpoints/dnn/3", "--out", "there")
        plot("moved", "--data-dir", "store", "--out", "named")

    for drawn in ("there", "named"):
        assert_same_plots(version, tmp_path / drawn, PLANE)


def test_missing_file_leaves_the_curve_and_is_reported(mine: Path, tmp_path: Path) -> None:
    with chdir(tmp_path):
        outcome = plot(mine, "--out", "drawn")

    assert outcome.stdout == "drawn: loss.png, loss.svg\n"
    assert outcome.stderr == (
        "Not drawn: boundary (mine.csv is not found; name it with --dataset)\n"
    )


def test_corrections_leave_the_curve_and_are_reported(tmp_path: Path) -> None:
    np.savez(tmp_path / "feedback.npz", inputs=np.zeros((9, 2)), labels=np.array(["0"] * 9))
    made = tmp_path / "made"
    options: list[str | Path] = ["--feedback", tmp_path / "feedback.npz", "--epochs", "2"]
    assert perceptd("train", "dnn", *options, "--out", made).exit_code == 0

    outcome = plot(made, "--out", tmp_path / "drawn")

    assert outcome.stdout.endswith("drawn: loss.png, loss.svg\n")
    assert outcome.stderr == (
        "Not drawn: boundary (circles+feedback holds corrections, which only the store has)\n"
    )


@pytest.mark.usefixtures("no_mnist_server")
def test_missing_mnist_is_not_downloaded_unasked(tmp_path: Path) -> None:
    shipped = Path(checkpoint.__file__).parent / "pretrained" / "mnist-mlp"

    outcome = plot(shipped, "--data-dir", tmp_path / "data", "--out", tmp_path / "drawn")

    assert outcome.stderr == (
        f"Not drawn: predictions (MNIST is not in {tmp_path / 'data'}; "
        "--dataset mnist downloads it)\n"
    )
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("out", [".", "plots", "plots/more"])
def test_checkpoint_is_never_drawn_into(out: str, wide_dnn: Path) -> None:
    before = sorted(wide_dnn.rglob("*"))

    told = refused(wide_dnn, "--out", wide_dnn / out)

    assert told == f"{wide_dnn / out} is in a checkpoint, and a checkpoint is never changed"
    assert sorted(wide_dnn.rglob("*")) == before


def test_existing_plot_is_not_overwritten(wide_dnn: Path, tmp_path: Path) -> None:
    (tmp_path / "loss.svg").write_text("mine")

    told = refused(wide_dnn, "--out", tmp_path)

    assert told == f"{tmp_path / 'loss.svg'} exists, and a plot is never overwritten"
    assert [path.name for path in tmp_path.iterdir()] == ["loss.svg"]
    assert (tmp_path / "loss.svg").read_text() == "mine"
    assert refused(wide_dnn, "--out", tmp_path / "loss.svg") == (
        f"{tmp_path / 'loss.svg'} is not a folder"
    )


def test_other_data_are_refused_with_both_hashes(
    mine: Path, wide_dnn: Path, tmp_path: Path
) -> None:
    (tmp_path / "mine.csv").write_text("x,y,label,split\n0,0,1,train\n1,1,0,test\n")

    with chdir(tmp_path):
        tolds = [
            refused(mine),  # finds another file of that name
            refused(mine, "--dataset", "circles"),
            refused(wide_dnn, "--dataset", "mine.csv"),
        ]

    for folder, told in zip((mine, mine, wide_dnn), tolds, strict=True):
        made_with = checkpoint.read(folder).dataset
        assert made_with is not None
        assert told.startswith(f"{folder} was made with {made_with.name} of SHA-256 ")
        assert made_with.sha256 in told
        assert told.endswith(": name the right file with --dataset")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.csv"]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["absent"], "absent: meta.json cannot be read (No such file or directory)"),
        (["dnn", "--dataset", "absent.csv"], "absent.csv does not exist or is not a file"),
        (["dnn", "--dataset", "cifar"], "no data set is called 'cifar'; known: "),
        (["dnn", "--dataset", "digits"], "digits holds 28 x 28 pictures of 10 classes, "),
        (["altered"], "altered: model.safetensors was altered: "),
        (["unknown"], "no architecture is called 'helix'; known: perceptron, "),
        (["unset"], "unset: dnn does not accept the settings {'width': 8, 'activation': 'tanh'}"),
        (
            ["headless"],
            "headless: meta.json does not fit dnn, which cannot have rows of shape (2,), "
            "a softmax head and 2 labels",
        ),
        (["unlike"], "unlike/model.safetensors does not fit dnn with "),
    ],
)
def test_what_cannot_be_drawn_is_refused_in_one_sentence(
    arguments: list[str], reason: str, wide_dnn: Path, tmp_path: Path
) -> None:
    for name, old, new in (
        ("dnn", "", ""),
        ("altered", "", ""),
        ("unknown", '"architecture": "dnn"', '"architecture": "helix"'),
        ("unset", '"hidden": 8', '"width": 8'),
        ("headless", '"head": "sigmoid"', '"head": "softmax"'),
        ("unlike", '"hidden": 8', '"hidden": 7'),
    ):
        checkpoint.copy(wide_dnn, tmp_path / name)
        meta = (tmp_path / name / META).read_text()
        assert old in meta
        (tmp_path / name / META).write_text(meta.replace(old, new) if old else meta)
    (tmp_path / "altered" / WEIGHTS).write_bytes(b"altered")
    before = sorted(tmp_path.rglob("*"))

    with chdir(tmp_path):
        told = refused(*arguments)

    assert told.startswith(reason)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("out", ["new", "new/deep", "there"])
def test_failed_drawing_leaves_nothing_and_can_be_repeated(
    out: str, wide_dnn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError("the disk is full")

    (tmp_path / "there").mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(plots, "boundary", fail)
        assert refused(wide_dnn, "--out", tmp_path / out) == "the disk is full"

    assert list(tmp_path.rglob("*")) == [tmp_path / "there"]
    plot(wide_dnn, "--out", tmp_path / out)
    assert_same_plots(wide_dnn, tmp_path / out, PLANE)


@pytest.mark.usefixtures("no_mnist_server")
def test_import_without_data_has_nothing_to_draw_until_data_are_named(tmp_path: Path) -> None:
    architecture = registry.load("mnist-mlp")
    module = architecture.module(architecture.config.model_validate({"hidden": 4}))
    torch.save(module.state_dict(), tmp_path / "theirs.pt")
    made = tmp_path / "made"
    options: list[str | Path] = [
        "--set",
        "hidden=4",
        "--data-dir",
        tmp_path / "data",
        "--out",
        made,
    ]
    assert perceptd("import", "mnist-mlp", tmp_path / "theirs.pt", *options).exit_code == 0

    assert refused(made, "--out", tmp_path / "drawn") == (
        f"{made} has nothing to draw: no loss curve and no predictions "
        "(it was made without data; name some with --dataset)"
    )
    assert not (tmp_path / "drawn").exists()
    assert plot(made, "--dataset", "digits", "--out", tmp_path / "drawn").stderr == ""
    assert sorted(path.name for path in (tmp_path / "drawn").iterdir()) == [
        "predictions.png",
        "predictions.svg",
    ]
