"""Time to reference accuracy: the tutorials' own loop, `reference` and `fast`, in one run.

Seconds run from the MNIST files on disk to the last step: they include reading and scaling the
pictures, for all variants alike. The evaluation after each epoch counts for the recipes and does
not count for the tutorial. Prints one table and writes it to `benchmarks/results/training.md`.

On a machine that also does other work, set OMP_WAIT_POLICY=passive. Otherwise torch's threads spin
while they wait for one that is not scheduled, and every variant takes up to ten times as long.
"""

import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median

import click
import torch
from torch import nn
from torch.utils.data import DataLoader
from torchvision.datasets import MNIST
from torchvision.transforms import ToTensor

from benchmarks import machine
from perceptd.models import registry
from perceptd.training import recipes
from perceptd.training.data import datasets
from perceptd.training.evaluation.evaluate import evaluate
from perceptd.training.options import DATA_DIR
from perceptd.training.recipes import Recipe
from perceptd.training.train import Progress, train

TARGETS = {"mnist-cnn": 0.989, "mnist-mlp": 0.977}  # test accuracy of the published originals
CPU = torch.device("cpu")
MAX_SHARE = 1 / 5  # of the tutorial's time that `fast` may take
RESULTS = Path("benchmarks/results/training.md")
HEADER = (
    "model",
    "variant",
    "epochs",
    "seconds",
    "test accuracy",
    "of tutorial, full schedule",
    "of tutorial, to accuracy",
)


@dataclass(frozen=True)
class Reached:
    """The state of a training after an epoch."""

    epochs: int
    seconds: float
    accuracy: float


@dataclass(frozen=True)
class Result:
    """The measurements of one model.

    `tutorial` and `reference` have one point per measured epoch, `fast` has the last point of each
    run. The tutorial stops once it reaches the target; `full` is the time of all its epochs.
    """

    name: str
    epochs: int
    tutorial: list[Reached]
    full: float
    reference: list[Reached]
    fast: list[Reached]

    @property
    def fast_seconds(self) -> float:
        return median(run.seconds for run in self.fast)

    @property
    def fast_reaches(self) -> bool:
        return all(run.accuracy >= TARGETS[self.name] for run in self.fast)

    @property
    def tutorial_first(self) -> Reached | None:
        return first(self.tutorial, TARGETS[self.name])


@click.command(help=__doc__)
@DATA_DIR
@click.option(
    "--models",
    "names",
    type=click.Choice(list(TARGETS)),
    multiple=True,
    default=list(TARGETS),
    show_default=True,
    help="Repeatable.",
)
@click.option(
    "--repeats",
    type=click.IntRange(min=1),
    default=5,
    show_default=True,
    help="Runs of `fast`, each with a seed of its own.",
)
def main(data_dir: Path, names: tuple[str, ...], repeats: int) -> None:
    results = [measure(name, data_dir, repeats) for name in names]
    text = report(results)
    click.echo(text)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(text + "\n", encoding="utf-8")
    if not all(holds(result) for result in results):
        sys.exit(1)


def measure(name: str, data_dir: Path, repeats: int) -> Result:
    """Time the three variants of one model.

    The tutorial and `fast` take turns, so that other work on the machine slows both alike.
    """
    reference, fast = recipes.of(name)["reference"], recipes.of(name)["fast"]
    datasets.load(reference.dataset, registry.load(name).spec, data_dir)  # downloaded and cached
    tutorial: list[Reached] = []
    runs: list[Reached] = []
    for point in tutorial_loop(name, reference, data_dir):
        tutorial.append(point)
        click.echo(f"{name} tutorial {point}", err=True)
        if len(runs) < repeats:
            runs.append(by_recipe(name, seeded(fast, len(runs)), data_dir)[-1])
            click.echo(f"{name} fast {runs[-1]}", err=True)
        if len(tutorial) > 1 and first(tutorial, TARGETS[name]):
            break
    while len(runs) < repeats:
        runs.append(by_recipe(name, seeded(fast, len(runs)), data_dir)[-1])
        click.echo(f"{name} fast {runs[-1]}", err=True)
    return Result(
        name=name,
        epochs=reference.epochs,
        tutorial=tutorial,
        full=extrapolated(tutorial, reference.epochs),
        reference=by_recipe(name, reference, data_dir),
        fast=runs,
    )


def tutorial_loop(name: str, recipe: Recipe, data_dir: Path) -> Iterator[Reached]:
    """Train as the public tutorials do: `ToTensor` per picture, a `DataLoader`, eager Adam.

    Network, batch size, learning rate and epochs are those of the published original.
    """
    architecture = registry.load(name)
    shape, head = architecture.spec.input.shape, architecture.spec.head
    test = datasets.load(recipe.dataset, architecture.spec, data_dir).test
    test_inputs, test_targets = torch.from_numpy(test.inputs), torch.from_numpy(test.targets)

    started = time.perf_counter()
    torch.manual_seed(recipe.seed)
    data = MNIST(data_dir, train=True, transform=ToTensor())
    loader = DataLoader(
        data, batch_size=recipe.batch_size, shuffle=True, drop_last=recipe.drop_last
    )
    module = architecture.module(architecture.config())
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(module.parameters(), lr=recipe.learning_rate)
    seconds = time.perf_counter() - started
    for epoch in range(recipe.epochs):
        started = time.perf_counter()
        module.train()
        for images, labels in loader:
            optimizer.zero_grad()
            loss = criterion(module(images.view(-1, *shape)), labels)
            loss.backward()
            optimizer.step()
        seconds += time.perf_counter() - started
        accuracy = evaluate(module, test_inputs, test_targets, head)["accuracy"]
        yield Reached(epoch + 1, seconds, accuracy)


def by_recipe(
    name: str, recipe: Recipe, data_dir: Path, device: torch.device = CPU
) -> list[Reached]:
    """Train by a recipe, from the files on disk; one point per epoch."""
    points: list[Reached] = []
    architecture = registry.load(name)
    started = time.perf_counter()
    data = datasets.load(recipe.dataset, architecture.spec, data_dir)
    reading = time.perf_counter() - started

    def note(progress: Progress) -> None:
        point = progress.point
        points.append(Reached(point.epoch, reading + progress.seconds, point.test_accuracy))

    train(architecture, architecture.config(), recipe, data, device=device, report=note)
    return points


def seeded(recipe: Recipe, repeat: int) -> Recipe:
    return recipe.model_copy(update={"seed": recipe.seed + repeat})


def extrapolated(points: list[Reached], epochs: int) -> float:
    """Seconds of the full schedule: the measured epochs, and the median epoch for the rest."""
    ends = [0.0, *(point.seconds for point in points)]
    each = median(end - begin for begin, end in pairwise(ends))
    return points[-1].seconds + each * (epochs - len(points))


def first(points: list[Reached], target: float) -> Reached | None:
    return next((point for point in points if point.accuracy >= target), None)


def holds(result: Result) -> bool:
    """Whether every run of `fast` reaches the target, and takes at most `MAX_SHARE` of the time."""
    return result.fast_reaches and result.fast_seconds <= MAX_SHARE * result.full


def report(results: list[Result]) -> str:
    """The table with machine and versions above it and the verdicts below."""
    threads = f"{torch.get_num_threads()} threads"
    if policy := os.environ.get("OMP_WAIT_POLICY"):
        threads += f", OMP_WAIT_POLICY={policy}"
    return "\n".join(
        (
            "# Time to reference accuracy",
            "",
            f"{machine.describe('torch', 'torchvision', 'numpy')}; {threads}.",
            "",
            "Seconds from the MNIST files on disk to the last step. `of tutorial` is this row's "
            "time as a share of the tutorial's: of its published epochs, and of its epochs until "
            "it first reaches the accuracy. `fast` is the median of its runs (least to most), "
            "each with a seed of its own.",
            "",
            *(line(cells) for cells in (HEADER, ["---"] * len(HEADER))),
            *(line(cells) for result in results for cells in rows(result)),
            "",
            *(verdict(result) for result in results),
        )
    )


def rows(result: Result) -> Iterator[list[str]]:
    """The table's rows of one model, each a list of cells as in `HEADER`."""
    target, measured = TARGETS[result.name], len(result.tutorial)
    reached = result.tutorial_first

    def cells(
        variant: str, epochs: int, seconds: float, accuracy: str, detail: str = ""
    ) -> list[str]:
        to_accuracy = f"{seconds / reached.seconds:.3f}" if reached else "never reached"
        return [
            result.name,
            variant,
            str(epochs),
            f"{seconds:.1f}{detail}",
            accuracy,
            f"{seconds / result.full:.3f}",
            to_accuracy,
        ]

    if measured == result.epochs:
        last = f"{result.tutorial[-1].accuracy:.4f}"
        yield cells("tutorial, full schedule", measured, result.full, last)
    else:
        detail = f", extrapolated from {measured} measured epochs"
        yield cells("tutorial, full schedule", result.epochs, result.full, "not run", detail)
    for variant, points in (("tutorial", result.tutorial), ("`reference`", result.reference)):
        if point := first(points, target):
            variant = f"{variant}, until first at {target}"
            yield cells(variant, point.epochs, point.seconds, f"{point.accuracy:.4f}")
    end = result.reference[-1]
    yield cells("`reference`, all epochs", end.epochs, end.seconds, f"{end.accuracy:.4f}")
    times = [run.seconds for run in result.fast]
    accuracies = [run.accuracy for run in result.fast]
    yield cells(
        f"`fast`, {len(result.fast)} runs",
        result.fast[-1].epochs,
        median(times),
        f"{median(accuracies):.4f} ({min(accuracies):.4f} to {max(accuracies):.4f})",
        f" ({min(times):.1f} to {max(times):.1f})",
    )


def line(cells: list[str] | tuple[str, ...]) -> str:
    return f"| {' | '.join(cells)} |"


def verdict(result: Result) -> str:
    """PASS or FAIL of the requirement, and the harder comparison beside it."""
    share = result.fast_seconds / result.full
    accurate = "every" if result.fast_reaches else "not every"
    text = (
        f"- {'PASS' if holds(result) else 'FAIL'} {result.name}: {accurate} run of `fast` reaches "
        f"{TARGETS[result.name]}, in {share:.3f} of the tutorial's full schedule "
        f"(required: at most {MAX_SHARE:.3f})"
    )
    if reached := result.tutorial_first:
        text += f"; {result.fast_seconds / reached.seconds:.3f} of its time to that accuracy"
    return text + "."


if __name__ == "__main__":
    main()
