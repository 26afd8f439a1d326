"""The recipes reach the published results, and recipes are validated."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from perceptd.models import registry
from perceptd.training import recipes
from perceptd.training.data import datasets
from perceptd.training.recipes import RECIPES, Recipe
from perceptd.training.train import Trained, train

Training = Callable[[str, str], Trained]


@pytest.fixture(scope="module")
def trained() -> Training:
    """The result of that model's recipe of that name."""

    @cache
    def result(name: str, recipe: str) -> Trained:
        architecture, plan = registry.load(name), RECIPES[name][recipe]
        data = datasets.load(plan.dataset, architecture.spec, Path("unused"))
        return train(architecture, architecture.config(), plan, data, device=torch.device("cpu"))

    return result


def test_perceptron_reference_reaches_the_published_losses(trained: Training) -> None:
    result = trained("perceptron", "reference")

    assert round(result.curve[0].loss, 4) == 0.6185  # before the first step
    assert (result.curve[-1].epoch, round(result.curve[-1].loss, 4)) == (1000, 0.2562)


@pytest.mark.parametrize("recipe", ["reference", "fast"])
def test_perceptron_separates_the_clouds(trained: Training, recipe: str) -> None:
    metrics = trained("perceptron", recipe).metrics

    assert metrics["train"]["loss"] < 0.2562
    assert metrics["train"]["accuracy"] >= 0.99
    assert metrics["test"]["accuracy"] >= 0.96


@pytest.mark.parametrize("recipe", ["reference", "fast"])
def test_dnn_reaches_the_published_loss_and_accuracy(trained: Training, recipe: str) -> None:
    metrics = trained("dnn", recipe).metrics

    assert metrics["train"]["loss"] == pytest.approx(0.12, abs=0.02)
    assert metrics["train"]["accuracy"] >= 0.95
    assert metrics["test"]["accuracy"] >= 0.94


@pytest.mark.parametrize("recipe", ["reference", "fast"])
def test_xor_solves_exclusive_or(trained: Training, recipe: str) -> None:
    result = trained("xor", recipe)
    with torch.inference_mode():
        corners = result.module(torch.tensor([[-1.0, 1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, -1.0]]))

    assert result.metrics["test"]["loss"] <= 0.052
    assert result.metrics["test"]["accuracy"] == 1.0
    assert corners[0, 0] >= 0.98
    assert (corners[:, 0] >= 0.5).tolist() == [True, True, False, False]


@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("mnist-mlp", {"batch_size": 256, "epochs": 10, "drop_last": False}),
        ("mnist-cnn", {"batch_size": 100, "epochs": 15, "drop_last": True, "seed": 777}),
    ],
)
def test_mnist_reference_is_the_published_recipe(name: str, published: dict[str, Any]) -> None:
    adam = {"dataset": "mnist", "optimizer": "adam", "learning_rate": 1e-3, "schedule": "constant"}
    recipe = RECIPES[name]["reference"].model_dump()

    assert {**recipe, **adam, **published} == recipe


def test_every_built_in_has_both_recipes() -> None:
    assert RECIPES.keys() == registry.BUILT_IN.keys()
    assert {tuple(known) for known in RECIPES.values()} == {("reference", "fast")}


def test_architecture_without_recipes_is_refused() -> None:
    with pytest.raises(LookupError, match="no recipe for 'spiral'"):
        recipes.of("spiral")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("epochs", 0),
        ("epochs", 1.5),
        ("batch_size", 0),
        ("learning_rate", 0),
        ("learning_rate", float("nan")),
        ("learning_rate", float("inf")),
        ("seed", -1),
        ("seed", 2**63),
        ("optimizer", "lion"),
        ("schedule", "cosine"),
        ("momentum", 0.9),
    ],
)
def test_impossible_recipe_is_refused_by_field(field: str, value: Any) -> None:
    fields = {**RECIPES["dnn"]["reference"].model_dump(), field: value}

    with pytest.raises(ValidationError) as refusal:
        Recipe.model_validate(fields)

    assert [error["loc"] for error in refusal.value.errors()] == [(field,)]


def test_function_as_data_set_is_recorded_by_its_name() -> None:
    recipe = RECIPES["dnn"]["reference"].model_copy(update={"dataset": datasets.circles})

    assert recipe.model_dump(mode="json")["dataset"] == "circles"
