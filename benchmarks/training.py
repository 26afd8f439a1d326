"""Time to reference accuracy: the tutorials' own loop, `reference` and `fast`, in one run.

Seconds run from the MNIST files on disk to the last step: they include reading and scaling the
pictures, for all variants alike. The evaluation after each epoch counts for the recipes and does
not count for the tutorial. The tutorial ends once it reaches the accuracy; the time of all its
epochs is extrapolated. `fast` is the median of its runs, each with a seed of its own.

On a machine that also does other work, set OMP_WAIT_POLICY=passive. Otherwise torch's threads spin
while they wait for one that is not scheduled, and every variant takes up to ten times as long.
"""

import os
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

from benchmarks.report import machine, publish, spread, table
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
HEAD = ("model", "variant", "epochs", "seconds", "test accuracy")
RATIOS = ("of tutorial, full schedule", "of tutorial, to accuracy")


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
    def tutorial_first(self) -> Reached | None:
        return first(self.tutorial, TARGETS[self.name])

    @property
    def holds(self) -> bool:
        """Whether every run of `fast` reaches the target, in at most `MAX_SHARE` of the time."""
        reaches = all(run.accuracy >= TARGETS[self.name] for run in self.fast)
        return reaches and self.fast_seconds <= MAX_SHARE * self.full


@click.command(help=__doc__)
@DATA_DIR
@click.option("--repeats", default=5, show_default=True, help="Runs of `fast`.")
def main(data_dir: Path, repeats: int) -> None:
    results = [measure(name, data_dir, repeats) for name in TARGETS]
    facts = f"{machine('torch', 'torchvision', 'numpy')}; {torch.get_num_threads()} threads"
    if policy := os.environ.get("OMP_WAIT_POLICY"):
        facts += f", OMP_WAIT_POLICY={policy}"
    lines = [cells for result in results for cells in rows(result)]
    publish("training", f"{facts}.", table([*HEAD, *RATIOS], lines, texts=2))
    if missed := [result.name for result in results if not result.holds]:
        raise SystemExit(f"`fast` misses the accuracy or takes too long: {', '.join(missed)}")


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


def rows(result: Result) -> Iterator[list[str]]:
    """The table's rows of one model."""
    target, reached = TARGETS[result.name], result.tutorial_first

    def cells(variant: str, epochs: int, seconds: float, *texts: str) -> list[str]:
        of_full = f"{seconds / result.full:.3f}"
        of_first = f"{seconds / reached.seconds:.3f}" if reached else "never reached"
        return [result.name, variant, str(epochs), *texts, of_full, of_first]

    def at(variant: str, point: Reached) -> list[str]:
        seconds, accuracy = f"{point.seconds:.1f}", f"{point.accuracy:.4f}"
        return cells(variant, point.epochs, point.seconds, seconds, accuracy)

    measured = f"{result.full:.1f}, extrapolated from {len(result.tutorial)} epochs"
    yield cells("tutorial, full schedule", result.epochs, result.full, measured, "not run")
    for variant, points in (("tutorial", result.tutorial), ("`reference`", result.reference)):
        if point := first(points, target):
            yield at(f"{variant}, until first at {target}", point)
    yield at("`reference`, all epochs", result.reference[-1])
    yield cells(
        f"`fast`, {len(result.fast)} runs",
        result.fast[-1].epochs,
        result.fast_seconds,
        spread([run.seconds for run in result.fast], ".1f"),
        spread([run.accuracy for run in result.fast], ".4f"),
    )


if __name__ == "__main__":
    main()
