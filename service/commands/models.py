"""`perceptd models`: what the store holds, and what of it serves."""

import json
from pathlib import Path
from typing import Any

import click

from perceptd.models.terminal import SET
from perceptd.service.client import Client
from perceptd.service.commands.asking import (
    AS_JSON,
    DATASET,
    FOLLOW,
    GATE,
    asks_server,
    tell,
)
from perceptd.service.commands.common import DATA_DIR, opened_store, read_settings
from perceptd.service.commands.jobs import show_queued
from perceptd.service.schemas.models import VersionPublic
from perceptd.service.store.aliases import PREVIOUS, PRODUCTION


@click.group(invoke_without_command=True)
@DATA_DIR
@click.pass_context
def models(context: click.Context, /, data_dir: Path | None) -> None:
    """List the models of the store, with versions, aliases and held-out accuracy."""
    context.obj = data_dir
    if context.invoked_subcommand:
        return
    with opened_store(read_settings(data_dir=data_dir)) as repository:
        for model in repository.production():
            for version in repository.versions(model):
                accuracy = version.meta.metrics.get("test", {}).get("accuracy")
                click.echo(
                    f"{model:<16} {version.version:>3}  {', '.join(version.aliases) or '-':<22} "
                    f"{'-' if accuracy is None else f'{accuracy:.4f}':>6}  "
                    f"{version.meta.architecture}, {version.created_at:%Y-%m-%d %H:%M}"
                )


@models.command()
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option("--name", help="The model's name.  [default: its architecture's]")
@click.option("--promote", is_flag=True, help="Make it production, as a model's first version is.")
@DATA_DIR
@click.pass_obj
def add(
    above: Path | None, checkpoint: Path, name: str | None, promote: bool, data_dir: Path | None
) -> None:
    """Add the folder CHECKPOINT to the store as a model's next version.

    A running server that uses the same store serves it within a second once it is production.
    """
    settings = read_settings(data_dir=data_dir or above)
    with opened_store(settings) as repository:
        model, version = repository.register(checkpoint, name, promote=promote)
        aliases = repository.version(model, version).aliases
    state = ", production" if PRODUCTION in aliases else ""
    click.echo(f"{model} version {version}{state}, in {settings.data_dir}")


@models.command()
@click.argument("model")
@click.argument("version", type=int)
@AS_JSON
@asks_server(changes=True)
def promote(client: Client, *, model: str, version: int, as_json: bool) -> None:
    """Have a running server make VERSION of MODEL production; no request fails or waits."""
    tell_production(client.promote(model, version), as_json=as_json)


@models.command()
@click.argument("model")
@AS_JSON
@asks_server(changes=True)
def rollback(client: Client, *, model: str, as_json: bool) -> None:
    """Have a running server make the version of MODEL production that was so before."""
    versions = client.versions(model).versions
    previous = next((one.version for one in versions if PREVIOUS in one.aliases), None)
    if previous is None:
        raise click.ClickException(f"{model} has had no other version in production")
    tell_production(client.promote(model, previous), as_json=as_json)


@models.command("import")
@click.argument("model")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--architecture", help="What the weights are of.  [default: the model's]")
@SET
@DATASET
@GATE
@FOLLOW
@AS_JSON
@asks_server(changes=True)
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

    A job checks it and measures it. It becomes production only where --gate says so, or as the
    first version of a model that is not there yet.
    """
    fields = {
        name: value if isinstance(value, str) else json.dumps(value)
        for name, value in options.items()
        if value is not None
    }
    show_queued(client, client.upload(model, file, fields), follow=follow, as_json=as_json)


def tell_production(version: VersionPublic, *, as_json: bool) -> None:
    tell(version, f"{version.model} version {version.version}, production", as_json=as_json)
