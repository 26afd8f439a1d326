"""What can be trained here: each known architecture with its recipes, data sets and metrics."""

from collections.abc import Iterable

import click

from perceptd.models import registry
from perceptd.models.trainable import Trainable
from perceptd.training import recipes
from perceptd.training.data import datasets
from perceptd.training.evaluation import metrics
from perceptd.training.evaluation.metrics import Metrics


def describe_all(names: Iterable[str], plug_ins: Metrics) -> list[Trainable]:
    """Describe these architectures; skip those that cannot be trained, with a line on stderr."""
    found = []
    for name in names:
        try:
            found.append(describe(name, plug_ins))
        except Exception as error:  # a plug-in's code may raise anything
            click.echo(f"{name} is left out: {error}", err=True)
    return found


def describe(name: str, plug_ins: Metrics) -> Trainable:
    architecture = registry.load(name)
    return Trainable(
        architecture=name,
        config=architecture.config.model_json_schema(),
        recipes={key: plan.model_dump(mode="json") for key, plan in recipes.of(name).items()},
        datasets=datasets.fitting(architecture.spec),
        metrics={
            key: metric.greater_is_better
            for key, metric in metrics.of(architecture.spec, plug_ins).items()
        },
    )
