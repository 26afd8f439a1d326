"""`perceptd models`: the models of the store, and which versions serve."""

import json
from pathlib import Path
from typing import Any

import click

from perceptd.models.checkpoint import read
from perceptd.models.terminal import SET
from perceptd.service.client import Client
from perceptd.service.commands.asking import (
    AS_JSON,
    DATASET,
    FOLLOW,
    GATE,
    calls_server,
    print_answer,
)
from perceptd.service.commands.common import (
    ADDS_MODELS,
    DATA_DIR,
    existing_store,
    opened_store,
    read_settings,
)
from perceptd.service.commands.jobs import show_queued
from perceptd.service.schemas.models import VersionPublic
from perceptd.service.store.aliases import PREVIOUS, PRODUCTION
from perceptd.service.store.repository import Repository


@click.group()
def models() -> None:
    """List, add, import, promote and roll back models."""


@models.command("list")
@DATA_DIR
def list_models(data_dir: Path | None) -> None:
    """List the models of the store, with versions, aliases and held-out accuracy."""
    settings = read_settings(data_dir=data_dir)
    with existing_store(settings) as database:
        repository = Repository(database, settings.data_dir)
        production = repository.production()
        if not production:
            click.echo(f"No models yet; {ADDS_MODELS}.", err=True)
        for model in production:
            for version in repository.versions(model):
                accuracy = version.meta.metrics.get("test", {}).get("accuracy")
                click.echo(
                    f"{model:<16} {version.version:>3}  {', '.join(version.aliases) or '-':<22} "
                    f"{'-' if accuracy is None else f'{accuracy:.4f}':>6}  "
                    f"{version.meta.architecture}, {version.created_at:%Y-%m-%d %H:%M}"
                )


@models.command()
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option("--name", help="The model's name.  [default: its architecture]")
@click.option("--promote", is_flag=True, help="Make it production, as every first version is.")
@DATA_DIR
def add(checkpoint: Path, name: str | None, promote: bool, data_dir: Path | None) -> None:
    """Add the folder CHECKPOINT to the store as the next version of a model.

    Running servers of the store serve it within a second once it is production.
    """
    settings = read_settings(data_dir=data_dir)
    read(checkpoint)  # first: a wrong path must not create a store
    with opened_store(settings) as repository:
        model, version = repository.register(checkpoint, name, promote=promote)
        aliases = repository.version(model, version).aliases
    state = ", production" if PRODUCTION in aliases else ""
    click.echo(f"{model} version {version}{state}, in {settings.data_dir}")


@models.command()
@click.argument("model")
@click.argument("version", type=int)
@AS_JSON
@calls_server(changes=True)
def promote(client: Client, *, model: str, version: int, as_json: bool) -> None:
    """Make VERSION of MODEL production on a running server; no request fails or waits."""
    print_production(client.promote(model, version), as_json=as_json)


@models.command()
@click.argument("model")
@AS_JSON
@calls_server(changes=True)
def rollback(client: Client, *, model: str, as_json: bool) -> None:
    """Make the previous production version of MODEL production again on a running server."""
    versions = client.versions(model).versions
    previous = next((one.version for one in versions if PREVIOUS in one.aliases), None)
    if previous is None:
        raise click.ClickException(f"{model} has had no other version in production")
    print_production(client.promote(model, previous), as_json=as_json)


@models.command("import")
@click.argument("model")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--architecture", help="Architecture of the weights.  [default: the model's]")
@SET
@DATASET
@GATE
@FOLLOW
@AS_JSON
@calls_server(changes=True)
def import_weights(
    client: Client,
    *,
    model: str,
    file: Path,
    follow: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Upload FILE, a .pt or .safetensors, to a running server as the next version of MODEL.

    A job checks and measures it. It becomes production if --gate says so, or if it is the first
    version of MODEL. `perceptd import` makes a checkpoint folder without a server instead.
    """
    fields = {
        name: value if isinstance(value, str) else json.dumps(value)
        for name, value in options.items()
        if value is not None
    }
    show_queued(client, client.upload(model, file, fields), follow=follow, as_json=as_json)


def print_production(version: VersionPublic, *, as_json: bool) -> None:
    print_answer(version, f"{version.model} version {version.version}, production", as_json=as_json)
