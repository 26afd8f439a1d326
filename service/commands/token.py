"""`perceptd token`: the admin token of the store, and tokens that are issued by name."""

import re
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click

from perceptd.service.auth import credentials
from perceptd.service.auth.credentials import Role
from perceptd.service.auth.tokens import ROLES
from perceptd.service.commands.common import DATA_DIR, issued_tokens, read_settings
from perceptd.service.settings import TOKEN

UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
LASTS = re.compile(r"([1-9][0-9]{0,5})([smhdw])")


def parse_lasts(_: click.Context, __: click.Parameter, value: str | None) -> timedelta | None:
    """`90d` and the like."""
    if value is None:
        return None
    if not (found := LASTS.fullmatch(value)):
        raise click.BadParameter("expected a number and one of s, m, h, d, w, such as 90d")
    lasts = timedelta(**{UNITS[found[2]]: int(found[1])})
    if lasts > timedelta(days=36_500):
        raise click.BadParameter("expected at most 36500d; leave it out for a token without an end")
    return lasts


@click.group(invoke_without_command=True)
@DATA_DIR
@click.pass_context
def token(context: click.Context, /, **overrides: Any) -> None:
    """Print the admin token; the first time, make it.

    The commands below issue further tokens, by name: each can be revoked alone, so that one
    replaces another while both work.
    """
    context.obj = overrides["data_dir"]
    if context.invoked_subcommand:
        return
    settings = read_settings(**overrides)
    if not (settings.admin_token or (settings.data_dir / credentials.FILE).exists()):
        click.echo(f"There was none: this is a new one, kept in {settings.data_dir}.", err=True)
    click.echo(credentials.admin_token(settings).get_secret_value())


@token.command()
@click.argument("name")
@click.option("--role", type=click.Choice(ROLES), required=True, help="What it allows.")
@click.option("--expires", "lasts", callback=parse_lasts, help="In how long, such as 90d or 12h.")
@DATA_DIR
@click.pass_obj
def create(
    above: Path | None, name: str, role: Role, lasts: timedelta | None, data_dir: Path | None
) -> None:
    """Issue a token called NAME and print it, this once: the store keeps its hash alone.

    Running servers take it within a second. With the first for predictions these are open no more.
    """
    with issued_tokens(read_settings(data_dir=data_dir or above)) as tokens:
        click.echo(tokens.create(name, role, lasts))


@token.command("list")
@DATA_DIR
@click.pass_obj
def list_tokens(above: Path | None, data_dir: Path | None) -> None:
    """List the issued tokens: name, role, created, expires."""
    with issued_tokens(read_settings(data_dir=data_dir or above)) as tokens:
        for one in tokens.all():
            expires = moment(one.expires_at) if one.expires_at else "never"
            if one.expires_at and one.expires_at <= datetime.now(UTC):
                expires += " (expired)"
            click.echo(f"{one.name:<24} {one.role:<7}  {moment(one.created_at)}  {expires}")


@token.command()
@click.argument("name")
@DATA_DIR
@click.pass_obj
def revoke(above: Path | None, name: str, data_dir: Path | None) -> None:
    """Revoke the token called NAME; running servers refuse it within a second."""
    with issued_tokens(read_settings(data_dir=data_dir or above)) as tokens:
        tokens.revoke(name)
        is_last = all(one.role != "predict" for one in tokens.all())
    click.echo(f"{name} is revoked")
    if is_last:
        click.echo(
            "No predict token that was issued is left: unless PERCEPTD_PREDICT_TOKEN is set, "
            "predictions are open on loopback.",
            err=True,
        )


@token.command("hash")
def print_hash() -> None:
    """Print the hash of a token read from standard input.

    PERCEPTD_ADMIN_TOKEN and PERCEPTD_PREDICT_TOKEN take it instead of the token.
    """
    given = sys.stdin.readline().strip()
    if not TOKEN.fullmatch(given):
        raise click.ClickException("a token has 16 or more ASCII characters, no blank, no comma")
    click.echo(credentials.hash_of(given))


def moment(when: datetime) -> str:
    return f"{when:%Y-%m-%d %H:%M} UTC"
