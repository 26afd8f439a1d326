"""`perceptd models`: what the store holds, and what of it serves."""

from pathlib import Path

import click

from service.commands.common import DATA_DIR, opened_store, read_settings
from service.repository import PRODUCTION


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
@DATA_DIR
@click.pass_obj
def promote(above: Path | None, model: str, version: int, data_dir: Path | None) -> None:
    """Make VERSION of MODEL production: forward, or back to where `previous` points."""
    with opened_store(read_settings(data_dir=data_dir or above)) as repository:
        repository.point(model, PRODUCTION, version)
    click.echo(f"{model} version {version}, production")
