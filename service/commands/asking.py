"""What commands that ask a running server have in common."""

import functools
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from pydantic import BaseModel

from perceptd.service.auth import credentials
from perceptd.service.client import Client, host_of
from perceptd.service.commands.common import DATA_DIR, read_settings
from perceptd.service.settings import Settings, is_loopback

URL = click.option(
    "--url",
    envvar="PERCEPTD_URL",
    default=lambda: f"http://127.0.0.1:{os.environ.get('PERCEPTD_PORT', '8000')}",
    show_default="http://127.0.0.1 and PERCEPTD_PORT or 8000",
    show_envvar=True,
    help="Where the server answers.",
)

AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON.")

FOLLOW = click.option("--follow", is_flag=True, help="Stay and tell what happens to the job.")

DATASET = click.option("--dataset", help="A data set by name, or a file in datasets/ of the store.")


def asks_server(*, changes: bool) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options that name a server, and a client of it as its first argument.

    What changes something there is refused at once where no admin token is known here.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @URL
        @DATA_DIR
        @functools.wraps(command)
        def asking(url: str, data_dir: Path | None, **values: Any) -> None:
            above = click.get_current_context().find_object(Path)
            settings = read_settings(data_dir=data_dir or above)
            with Client(url, token_for(url, settings, changes=changes)) as client:
                command(client, **values)

        return asking

    return decorate


def token_for(url: str, settings: Settings, *, changes: bool) -> str | None:
    """The token for a server, of those known here; none is made, for its store may be elsewhere.

    The default store's goes to this machine only: another server is not to learn it by accident.
    """
    token = None if changes else credentials.clear(settings.predict_token)
    ours = is_loopback(host_of(url)) or "data_dir" in settings.model_fields_set
    if token is None and settings.admin_token:
        token = credentials.clear(settings.admin_token)
    elif token is None and ours and os.access(settings.data_dir / credentials.FILE, os.R_OK):
        token = credentials.admin_token(settings).get_secret_value()
    if token is None and changes:
        raise click.ClickException(
            f"this needs the admin token of the server at {url}: set PERCEPTD_ADMIN_TOKEN to what "
            "`perceptd token` prints there, or name the server's store with --data-dir"
        )
    return token


def tell(answer: BaseModel, text: str, *, as_json: bool) -> None:
    click.echo(answer.model_dump_json() if as_json else text)


def parse_gate(_: click.Context, __: click.Parameter, value: str | None) -> Any:
    """`always`, `never`, an object as JSON, or the metric that a gate compares."""
    if value is None or value in ("always", "never"):
        return value
    if not value.startswith("{"):
        return {"metric": value}
    try:
        return json.loads(value)
    except json.JSONDecodeError as error:
        raise click.BadParameter(f"{value!r} is no JSON: {error}") from None


GATE = click.option(
    "--gate",
    metavar="always|never|METRIC|JSON",
    callback=parse_gate,
    help='What it must do to become production: accuracy, or {"metric": "loss", "threshold": 0.1}.',
)
