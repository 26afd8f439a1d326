"""The training loop, top to bottom."""

import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR

from perceptd.models.checkpoint import CurvePoint
from perceptd.models.registry import Architecture
from perceptd.models.spec import ModelConfig
from perceptd.training.data.splits import Dataset, Split
from perceptd.training.errors import DivergedError
from perceptd.training.evaluation.evaluate import classifier, evaluate, loss_of
from perceptd.training.plotting.plane import Boundary, evenly, plane_of
from perceptd.training.recipes import Recipe
from perceptd.training.state import StateFile

CURVE_POINTS = 200  # longer trainings are evaluated in about this many epochs
MAX_BOUNDARIES = 40  # evaluated epochs in which a 2-D model reports its decision boundary
MIN_PARALLEL = 100_000  # numbers in the training set; below, a second thread only costs time
THREADS = torch.get_num_threads()
STEP_S = 10.0  # an epoch longer than this reports its steps
SAVE_S = 1.0  # minimum time between two saves of the state


@dataclass(frozen=True)
class Progress:
    """How far a training is, reported after each evaluated epoch."""

    point: CurvePoint
    epochs: int
    seconds: float  # of training, those before a resumption included
    seconds_left: float
    boundary: Boundary | None = None  # of a 2-D model, in up to MAX_BOUNDARIES epochs


@dataclass(frozen=True)
class Trained:
    """A module on the CPU in eval mode, its metrics per split, its curve and its seconds."""

    module: nn.Module
    metrics: dict[str, dict[str, float]]
    curve: list[CurvePoint]
    seconds: float


def train(
    architecture: Architecture,
    config: ModelConfig,
    recipe: Recipe,
    data: Dataset,
    *,
    device: torch.device,
    start_from: dict[str, NDArray[Any]] | None = None,
    state_file: StateFile | None = None,
    report: Callable[[Progress], None] = lambda _: None,
    report_step: Callable[[int, int, int], None] = lambda epoch, step, steps: None,
) -> Trained:
    """Train a module by a recipe, from scratch or from the weights `start_from`.

    Each epoch is seeded with the recipe's seed plus its own number, so a training that resumes
    from `state_file` ends with the same weights as an uninterrupted one. In long epochs,
    `report_step` gets epoch, step and steps per epoch. Raises `DivergedError`.
    """
    torch.manual_seed(recipe.seed)
    head = architecture.spec.head
    module: nn.Module = architecture.module(config)
    if start_from is not None:
        module.load_state_dict({key: torch.from_numpy(v) for key, v in start_from.items()})
    layout = torch.channels_last if recipe.channels_last else torch.contiguous_format
    module.to(device).to(memory_format=layout)

    torch.set_num_threads(1 if data.train.inputs.size < MIN_PARALLEL else THREADS)
    inputs, targets = _tensors(data.train, device, layout)
    test_inputs, test_targets = _tensors(data.test, device, layout)
    rows = len(inputs)
    batch_size = min(recipe.batch_size or rows, rows)
    steps = rows // batch_size if recipe.drop_last else -(-rows // batch_size)

    optimizer = _optimizer(recipe, module)
    scheduler = _scheduler(recipe, optimizer, steps)
    precision = _precision(recipe, device)

    curve: list[CurvePoint] = []
    boundaries: dict[int, Boundary] = {}
    first_epoch, earlier_seconds = 0, 0.0
    if state_file and (state := state_file.read()):
        module.load_state_dict(state["module"])
        optimizer.load_state_dict(state["optimizer"])
        if scheduler:
            scheduler.load_state_dict(state["scheduler"])
        first_epoch, earlier_seconds = state["epoch"], state["seconds"]
        curve = [CurvePoint.model_validate(point) for point in state["curve"]]
        boundaries = saved_boundaries(state)

    interval = max(1, recipe.epochs // CURVE_POINTS)
    evaluated = {*range(0, recipe.epochs, interval), recipe.epochs - 1}
    pictured = {sorted(evaluated)[index] for index in evenly(len(evaluated), MAX_BOUNDARIES)}
    plane = plane_of(architecture.spec, data.train)
    classify = classifier(module, head, device)

    started = last_save = last_report = time.monotonic()
    for epoch in range(first_epoch, recipe.epochs):
        torch.manual_seed(recipe.seed + epoch)
        full = batch_size == rows
        order = torch.arange(rows) if full else torch.randperm(rows)
        order = order.to(device)
        total = torch.zeros((), device=device)
        module.train()
        for step in range(steps):
            chosen = order[step * batch_size : (step + 1) * batch_size]  # (B,)
            x = inputs if full else inputs[chosen]  # (B, *shape)
            y = targets if full else targets[chosen]  # (B,)
            with precision:
                output = module(x)  # (B, 1) or (B, K)
            loss = loss_of(output.float(), y, head)
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            if scheduler:
                scheduler.step()
            total += loss.detach()
            if time.monotonic() - last_report >= STEP_S:
                report_step(epoch + 1, step + 1, steps)
                last_report = time.monotonic()

        seconds = earlier_seconds + time.monotonic() - started
        if epoch in evaluated:
            test = evaluate(module, test_inputs, test_targets, head, precision)
            if not math.isfinite(losses := total.item() + test["loss"]):
                raise DivergedError(
                    f"the loss is {losses} in epoch {epoch + 1}: try a lower --learning-rate"
                )
            point = CurvePoint(
                epoch=epoch + 1,
                loss=total.item() / steps,
                test_loss=test["loss"],
                test_accuracy=test["accuracy"],
            )
            curve.append(point)
            left = seconds / (epoch + 1) * (recipe.epochs - epoch - 1)
            # Also for a reporter that ignores it: another may draw it once the training resumes.
            if plane and epoch in pictured and (boundary := plane.boundary(classify)):
                boundaries[point.epoch] = boundary
            report(Progress(point, recipe.epochs, seconds, left, boundaries.get(point.epoch)))
        is_last = epoch + 1 == recipe.epochs
        if state_file and not is_last and time.monotonic() - last_save >= SAVE_S:
            state_file.write(
                {
                    "module": module.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "scheduler": scheduler.state_dict() if scheduler else None,
                    "epoch": epoch + 1,
                    "seconds": seconds,
                    "curve": [point.model_dump() for point in curve],
                    "boundaries": {number: asdict(one) for number, one in boundaries.items()},
                }
            )
            last_save = time.monotonic()

    seconds = earlier_seconds + time.monotonic() - started
    metrics = {
        "train": evaluate(module, inputs, targets, head),
        "test": evaluate(module, test_inputs, test_targets, head),
    }
    if data.feedback:
        metrics["feedback"] = evaluate(module, *_tensors(data.feedback, device, layout), head)
    module.to("cpu").to(memory_format=torch.contiguous_format).eval()
    return Trained(module, metrics, curve, seconds)


def saved_boundaries(state: dict[str, Any]) -> dict[int, Boundary]:
    """The decision boundaries in a saved state, by epoch."""
    return {epoch: Boundary(**facts) for epoch, facts in state["boundaries"].items()}


def _tensors(
    split: Split, device: torch.device, layout: torch.memory_format
) -> tuple[Tensor, Tensor]:
    inputs = torch.from_numpy(split.inputs).to(device, memory_format=layout)
    return inputs, torch.from_numpy(split.targets).to(device)


def _optimizer(recipe: Recipe, module: nn.Module) -> torch.optim.Optimizer:
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(module.parameters(), lr=recipe.learning_rate)
    return torch.optim.Adam(module.parameters(), lr=recipe.learning_rate, fused=True)


def _scheduler(recipe: Recipe, optimizer: torch.optim.Optimizer, steps: int) -> LRScheduler | None:
    if recipe.schedule == "constant":
        return None
    return OneCycleLR(optimizer, max_lr=recipe.learning_rate, total_steps=recipe.epochs * steps)


def _precision(recipe: Recipe, device: torch.device) -> AbstractContextManager[None]:
    if not recipe.bfloat16:
        return nullcontext()
    context: AbstractContextManager[None] = torch.autocast(device.type, dtype=torch.bfloat16)
    return context
