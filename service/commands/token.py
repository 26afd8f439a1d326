"""`perceptd token`: the admin token of the store, and tokens issued by name."""

import re
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click

from perceptd.service.auth import credentials
from perceptd.service.auth.credentials import Role
from perceptd.service.auth.tokens import ROLES, Tokens
from perceptd.service.commands.common import DATA_DIR, existing_store, issued_tokens, read_settings
from perceptd.service.settings import TOKEN

UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
DURATION = re.compile(r"([1-9][0-9]{0,5})([smhdw])")


def parse_duration(_: click.Context, __: click.Parameter, value: str | None) -> timedelta | None:
    """Parse a number and a unit, such as `90d`."""
    if value is None:
        return None
    if not (found := DURATION.fullmatch(value)):
        raise click.BadParameter("expected a number and one of s, m, h, d, w, such as 90d")
    lasts = timedelta(**{UNITS[found[2]]: int(found[1])})
    if lasts > timedelta(days=36_500):
        raise click.BadParameter("expected at most 36500d; without --expires a token never expires")
    return lasts


@click.group(invoke_without_command=True)
@DATA_DIR
@click.pass_context
def token(context: click.Context, /, **overrides: Any) -> None:
    """Print the admin token of the store; create it if there is none.

    The commands below issue tokens by name. Each can be revoked alone, so that a new token can
    replace an old one while both work.
    """
    context.obj = overrides["data_dir"]
    if context.invoked_subcommand:
        return
    settings = read_settings(**overrides)
    is_new = not (settings.admin_token or (settings.data_dir / credentials.FILE).exists())
    admin_token = credentials.admin_token(settings)
    if is_new:
        click.echo(f"Created a new admin token in {settings.data_dir.resolve()}.", err=True)
    click.echo(admin_token.get_secret_value())


@token.command()
@click.argument("name")
@click.option("--role", type=click.Choice(ROLES), required=True, help="What the token allows.")
@click.option("--expires", "lasts", callback=parse_duration, help="Lifetime, such as 90d or 12h.")
@DATA_DIR
@click.pass_obj
def create(
    above: Path | None, name: str, role: Role, lasts: timedelta | None, data_dir: Path | None
) -> None:
    """Issue a token called NAME and print it only now: the store keeps its hash alone.

    Running servers accept it within a second. After the first predict token, predictions need one.
    """
    with issued_tokens(read_settings(data_dir=data_dir or above)) as tokens:
        is_first = all(one.role != "predict" for one in tokens.all())
        click.echo(tokens.create(name, role, lasts))
    if role == "predict" and is_first:
        click.echo("From now on predictions and reads need a token.", err=True)


@token.command("list")
@DATA_DIR
@click.pass_obj
def list_tokens(above: Path | None, data_dir: Path | None) -> None:
    """List the issued tokens: name, role, created, expires."""
    with existing_store(read_settings(data_dir=data_dir or above)) as database:
        for one in Tokens(database).all():
            expires = moment(one.expires_at) if one.expires_at else "never"
            if one.expires_at and one.expires_at <= datetime.now(UTC):
                expires += " (expired)"
            click.echo(f"{one.name:<24} {one.role:<7}  {moment(one.created_at)}  {expires}")


@token.command()
@click.argument("name")
@DATA_DIR
@click.pass_obj
def revoke(above: Path | None, name: str, data_dir: Path | None) -> None:
    """Revoke the token NAME; running servers refuse it within a second."""
    with existing_store(read_settings(data_dir=data_dir or above)) as database:
        tokens = Tokens(database)
        tokens.revoke(name)
        is_last = all(one.role != "predict" for one in tokens.all())
    click.echo(f"{name} is revoked")
    if is_last:
        click.echo(
            "No issued predict token is left: unless PERCEPTD_PREDICT_TOKEN is set, "
            "predictions are open on loopback.",
            err=True,
        )


@token.command("hash")
def print_hash() -> None:
    """Print the hash of a token read from standard input.

    PERCEPTD_ADMIN_TOKEN and PERCEPTD_PREDICT_TOKEN accept the hash instead of the token.
    """
    given = sys.stdin.readline().strip()
    if not TOKEN.fullmatch(given):
        raise click.ClickException(
            "expected a token: 16 or more ASCII characters, no space, no comma"
        )
    click.echo(credentials.hash_of(given))


def moment(when: datetime) -> str:
    return f"{when:%Y-%m-%d %H:%M} UTC"
