"""`perceptd token`: the admin token."""

from typing import Any

import click

from service import auth
from service.commands.common import DATA_DIR, read_settings


@click.command()
@DATA_DIR
def token(**overrides: Any) -> None:
    """Print the admin token; the first time, make it."""
    click.echo(auth.admin_token(read_settings(**overrides)).get_secret_value())
