"""The options of the training commands, and how their values are checked."""

from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

import click
from pydantic import BaseModel, ValidationError

from perceptd.models import checkpoint
from perceptd.models.terminal import SET, did_you_mean
from perceptd.training import recipes
from perceptd.training.recipes import Recipe

RUNS = Path("runs")
SCRATCH = "scratch"

Command = TypeVar("Command", bound=Callable[..., Any])
Parsed = TypeVar("Parsed", bound=BaseModel)


DATA_DIR = click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    default=Path("data"),
    envvar="PERCEPTD_MNIST_DIR",
    show_envvar=True,
    show_default=True,
    help="Folder of MNIST/raw; MNIST is downloaded to it if it is absent.",
)

RECIPE = click.option("--recipe", default="reference", show_default=True, help="reference or fast.")

DATASET = click.option(
    "--dataset",
    metavar="NAME|FILE",
    help="blobs, circles, xor, digits, mnist, or a .csv or .npz file.",
)

FEEDBACK = click.option(
    "--feedback",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Corrected labels to add: an .npz file of inputs and labels.",
)

PROGRESS = click.option(
    "--progress",
    type=click.Choice(["bar", "json"]),
    default="bar",
    show_default=True,
    help="A bar for people, or one JSON object per line.",
)

OUT = click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="The checkpoint folder to write.  [default: the next free runs/MODEL/N]",
)

SHARED_OPTIONS = [DATASET, DATA_DIR, SET, OUT, PROGRESS]

TRAINING_OPTIONS = [
    RECIPE,
    click.option("--epochs", type=int, help="Passes over the data."),
    click.option("--learning-rate", type=float, help="Step size; for one_cycle, the peak."),
    click.option("--batch-size", type=int, help="Rows per step."),
    click.option("--seed", type=int, help="Seed of the initial weights and the order of rows."),
    *SHARED_OPTIONS,
    click.option(
        "--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, mps."
    ),
    click.option(
        "--start-from",
        default=SCRATCH,
        show_default=True,
        metavar="scratch|CHECKPOINT",
        help="Fresh weights, or those of a checkpoint folder of the same model.",
    ),
    FEEDBACK,
]

DRAWING_OPTIONS = [
    click.option(
        "--out",
        type=click.Path(path_type=Path),
        help="The folder to draw into.  [default: the next free plots/MODEL/N]",
    ),
    DATASET,
    DATA_DIR,
]

REFERENCE_OPTIONS = [OUT, DATASET, DATA_DIR]

EVALUATION_OPTIONS = [RECIPE, DATASET, DATA_DIR, FEEDBACK, PROGRESS]


def with_options(options: list[Callable[[Command], Command]]) -> Callable[[Command], Command]:
    def apply(function: Command) -> Command:
        for option in reversed(options):
            function = option(function)
        return function

    return apply


def pick_recipe(name: str, recipe: str) -> Recipe:
    known = recipes.of(name)
    if recipe not in known:
        raise click.BadParameter(
            f"{name} has no recipe {recipe!r}{did_you_mean(recipe, known)} "
            f"(known: {', '.join(known)})",
            param_hint="--recipe",
        )
    return known[recipe]


def parse_recipe(
    name: str, recipe: str, dataset: str | None, hyperparameters: dict[str, Any]
) -> Recipe:
    base = pick_recipe(name, recipe)
    changes = {key: value for key, value in hyperparameters.items() if value is not None}
    fields = {field: getattr(base, field) for field in Recipe.model_fields}
    return parse(Recipe, {**fields, **changes, **({"dataset": dataset} if dataset else {})}, "")


def parse(model: type[Parsed], values: dict[str, Any], option: str) -> Parsed:
    """Validate values that an option gave; without `option`, each field has an option of its own.

    Raises `click.BadParameter`.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        where = f"{option} {field}" if option else f"--{field.replace('_', '-')}"
        if first["type"] == "extra_forbidden":
            known = model.model_fields
            problem = (
                f"the model has no such setting{did_you_mean(field, known)} "
                f"(known: {', '.join(known) or 'none'})"
            )
        else:
            problem = f"{first['msg']}, got {first['input']!r}"
        raise click.BadParameter(problem, param_hint=where) from error


def free_target(out: Path | None, name: str) -> Path:
    """The folder to write, by default the next free one.

    Raises `CheckpointError` if it exists.
    """
    if out is None:
        return next_free(RUNS / name)
    if out.exists():
        raise checkpoint.CheckpointError(f"{out} exists, and a checkpoint is never overwritten")
    return out


def next_free(folder: Path) -> Path:
    """The first of 1, 2, 3 ... that the folder does not have."""
    return next(path for n in count(1) if not (path := folder / str(n)).exists())
