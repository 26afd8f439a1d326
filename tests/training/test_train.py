"""The training loop gives the same weights each time, also after an interruption."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import perceptd.training.train
from perceptd.models import registry
from perceptd.training.data import datasets
from perceptd.training.data.splits import Dataset, Split
from perceptd.training.errors import DivergedError
from perceptd.training.recipes import Recipe
from perceptd.training.state import StateFile
from perceptd.training.train import Progress, Trained, train

FEW = 500  # rows are enough to train on here
CPU = torch.device("cpu")

XOR = Recipe(dataset="xor", optimizer="sgd", learning_rate=0.1, epochs=6, batch_size=16, seed=3)
DNN = XOR.model_copy(update={"dataset": "circles", "optimizer": "adam", "schedule": "one_cycle"})
MLP = DNN.model_copy(update={"dataset": "digits", "batch_size": 150, "learning_rate": 0.01})
CNN = MLP.model_copy(update={"channels_last": True, "bfloat16": True, "drop_last": True})

RUNS = [
    pytest.param("xor", {}, XOR, id="shuffled-sgd"),
    pytest.param("dnn", {"hidden": 8}, DNN, id="one-cycle-adam"),
    pytest.param("mnist-mlp", {"hidden": 16}, MLP, id="digits"),
    pytest.param("mnist-cnn", {"channels": (2, 3)}, CNN, id="bfloat16-channels-last"),
]


class StoppedError(Exception):
    """Ends a training early."""


def stop_in(epoch: int) -> Any:
    def report(progress: Progress) -> None:
        if progress.point.epoch == epoch:
            raise StoppedError

    return report


def run(name: str, config: dict[str, Any], recipe: Recipe, **options: Any) -> Trained:
    architecture = registry.load(name)
    assert isinstance(recipe.dataset, str)
    data = datasets.load(recipe.dataset, architecture.spec, Path("unused"))
    few = Split(data.train.inputs[:FEW], data.train.targets[:FEW])
    data = Dataset(data.name, few, data.test)
    return train(architecture, architecture.config(**config), recipe, data, device=CPU, **options)


def weights(result: Trained) -> dict[str, Tensor]:
    return {key: value.detach() for key, value in result.module.state_dict().items()}


def same(one: Trained, other: Trained) -> bool:
    return all(torch.equal(value, weights(other)[key]) for key, value in weights(one).items())


@pytest.mark.parametrize(("name", "config", "recipe"), RUNS)
def test_interrupted_training_ends_in_the_weights_of_an_uninterrupted_one(
    name: str,
    config: dict[str, Any],
    recipe: Recipe,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(perceptd.training.train, "SAVE_S", 0.0)
    state_file = StateFile.beside(tmp_path / "out", "this training")
    epochs: list[int] = []

    with pytest.raises(StoppedError):
        run(name, config, recipe, state_file=state_file, report=stop_in(4))
    resumed = run(
        name,
        config,
        recipe,
        state_file=state_file,
        report=lambda progress: epochs.append(progress.point.epoch),
    )

    straight = run(name, config, recipe)
    assert epochs == [4, 5, 6]  # the third was the last one saved
    assert same(resumed, straight)
    assert resumed.curve == straight.curve
    assert resumed.metrics == straight.metrics


def test_state_is_not_saved_after_each_short_epoch(tmp_path: Path) -> None:
    state_file = StateFile.beside(tmp_path / "out", "this training")

    run("xor", {}, XOR.model_copy(update={"epochs": 2}), state_file=state_file)

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("name", "config", "recipe"), RUNS)
def test_same_seed_trains_the_same_weights_and_another_seed_others(
    name: str, config: dict[str, Any], recipe: Recipe
) -> None:
    short = recipe.model_copy(update={"epochs": 2})
    other = short.model_copy(update={"seed": short.seed + 1})

    first = run(name, config, short)

    assert same(first, run(name, config, short))
    assert not same(first, run(name, config, other))


def test_training_starts_from_given_weights() -> None:
    first = run("dnn", {}, DNN)
    start = {key: value.numpy() for key, value in weights(first).items()}

    second = run("dnn", {}, DNN.model_copy(update={"batch_size": None}), start_from=start)

    assert second.curve[0].loss == pytest.approx(first.metrics["train"]["loss"], rel=1e-5)


def test_last_partial_batch_is_dropped_only_where_the_recipe_says_so() -> None:
    spec = registry.load("xor").spec
    data = datasets.load("xor", spec, Path("unused"))
    all_but_one = Split(data.train.inputs[:79], data.train.targets[:79])
    data = Dataset("xor", all_but_one, data.test)
    architecture = registry.load("xor")
    recipe = XOR.model_copy(update={"batch_size": 78, "epochs": 1})

    def steps(drop_last: bool) -> float:
        plan = recipe.model_copy(update={"drop_last": drop_last})
        result = train(architecture, architecture.config(), plan, data, device=CPU)
        torch.manual_seed(recipe.seed)
        fresh = architecture.module(architecture.config()).state_dict()
        moved = [(weights(result)[key] - value).norm() for key, value in fresh.items()]
        return float(torch.stack(moved).norm())

    assert steps(drop_last=False) > 1.2 * steps(drop_last=True) > 0


def test_long_training_reports_about_200_epochs_and_the_last() -> None:
    reports: list[Progress] = []
    recipe = XOR.model_copy(update={"epochs": 450, "batch_size": None})

    result = run("xor", {}, recipe, report=reports.append)

    assert [progress.point for progress in reports] == result.curve
    assert [progress.point.epoch for progress in reports] == [*range(1, 450, 2), 450]
    assert {progress.epochs for progress in reports} == {450}
    assert reports[-1].seconds_left == 0
    assert all(progress.seconds_left > 0 for progress in reports[:-1])
    seconds = [progress.seconds for progress in reports]
    assert seconds == sorted(seconds)


def test_long_epoch_reports_its_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    reports: list[tuple[int, int, int]] = []

    def report_step(epoch: int, step: int, steps: int) -> None:
        reports.append((epoch, step, steps))

    run("xor", {}, XOR, report_step=report_step)
    assert reports == []
    monkeypatch.setattr(perceptd.training.train, "STEP_S", 0.0)
    run("xor", {}, XOR.model_copy(update={"epochs": 2, "batch_size": 10}), report_step=report_step)
    assert reports == [(epoch, step, 8) for epoch in (1, 2) for step in range(1, 9)]


@pytest.mark.parametrize(
    ("epochs", "expected"),
    [
        (1, [1]),
        (40, [*range(1, 41)]),
        (41, [*range(1, 21), *range(22, 42)]),
        (200, 40),
        (399, 40),
        (1001, 40),
    ],
)
def test_boundary_is_reported_in_at_most_40_epochs(epochs: int, expected: Any) -> None:
    reports: list[Progress] = []
    recipe = XOR.model_copy(update={"epochs": epochs, "batch_size": None})

    run("xor", {}, recipe, report=reports.append)

    pictured = [progress.point.epoch for progress in reports if progress.boundary]
    assert (len(pictured) if isinstance(expected, int) else pictured) == expected
    assert (pictured[0], pictured[-1]) == (1, epochs)
    steps = np.diff(pictured)
    assert epochs < 3 or steps.max() <= 2 * steps.min() + 1


def test_drawing_the_boundary_changes_no_weight(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = run("xor", {}, XOR)
    monkeypatch.setattr(perceptd.training.train, "plane_of", lambda *_: None)

    reports: list[Progress] = []
    unseen = run("xor", {}, XOR, report=reports.append)

    assert [progress.boundary for progress in reports] == [None] * XOR.epochs
    assert same(seen, unseen)
    assert seen.curve == unseen.curve


def test_model_without_a_plane_reports_no_boundary() -> None:
    reports: list[Progress] = []

    run("mnist-mlp", {"hidden": 4}, MLP.model_copy(update={"epochs": 2}), report=reports.append)

    assert [progress.boundary for progress in reports] == [None, None]


def test_trained_module_is_ready_to_answer() -> None:
    result = run("mnist-cnn", {"channels": (2, 3)}, CNN.model_copy(update={"epochs": 1}))

    assert not result.module.training
    assert {value.device.type for value in weights(result).values()} == {"cpu"}
    assert {value.dtype for value in weights(result).values()} == {torch.float32}
    assert all(value.is_contiguous() for value in weights(result).values())


@pytest.mark.parametrize("schedule", ["constant", "one_cycle"])
@pytest.mark.parametrize("epochs", [1, 2, 3])
def test_shortest_trainings_take_their_steps(schedule: Any, epochs: int) -> None:
    recipe = XOR.model_copy(
        update={"epochs": epochs, "batch_size": None, "schedule": schedule, "optimizer": "adam"}
    )

    result = run("xor", {}, recipe)

    assert [point.epoch for point in result.curve] == [*range(1, epochs + 1)]
    torch.manual_seed(recipe.seed)
    architecture = registry.load("xor")
    fresh = architecture.module(architecture.config()).state_dict()
    assert not torch.equal(weights(result)["linear_1.weight"], fresh["linear_1.weight"])


def test_training_stops_when_its_loss_is_no_number() -> None:
    architecture = registry.load("mnist-mlp")
    digits = datasets.load("digits", architecture.spec, Path("unused"))
    huge = Split(digits.train.inputs * 1e38, digits.train.targets)
    data = Dataset("huge", huge, digits.test)
    with pytest.raises(DivergedError, match=r"the loss is (nan|inf) in epoch 1: try a lower"):
        train(architecture, architecture.config(), MLP, data, device=CPU)
