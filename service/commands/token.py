"""`perceptd token`: the admin token."""

from typing import Any

import click

from service import auth
from service.commands.common import DATA_DIR, read_settings


@click.command()
@DATA_DIR
def token(**overrides: Any) -> None:
    """Print the admin token; the first time, make it."""
    settings = read_settings(**overrides)
    if not (settings.admin_token or (settings.data_dir / auth.FILE).exists()):
        click.echo(f"There was none: this is a new one, kept in {settings.data_dir}.", err=True)
    click.echo(auth.admin_token(settings).get_secret_value())
