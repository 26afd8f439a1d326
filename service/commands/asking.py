"""Options, client and output of the commands that call a running server."""

import functools
import json
import os
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import click
from pydantic import BaseModel

from perceptd.models.terminal import did_you_mean
from perceptd.service.auth import credentials
from perceptd.service.client import Client, RefusedError, host_of
from perceptd.service.commands.common import DATA_DIR, read_settings
from perceptd.service.commands.examples import command_of
from perceptd.service.errors import FieldError, ServerError
from perceptd.service.settings import Settings, is_loopback

URL = click.option(
    "--url",
    envvar="PERCEPTD_URL",
    default=lambda: f"http://127.0.0.1:{os.environ.get('PERCEPTD_PORT', '8000')}",
    show_default="http://127.0.0.1 and PERCEPTD_PORT or 8000",
    show_envvar=True,
    help="Address of the server.",
)

AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON.")

FOLLOW = click.option("--follow", is_flag=True, help="Follow the job until it ends.")

DATASET = click.option("--dataset", help="A data set's name, or a file in datasets/ of the store.")


def calls_server(*, changes: bool) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options that name a server, and a client as its first argument.

    A command that `changes` something is refused at once if no admin token is known.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @URL
        @DATA_DIR
        @functools.wraps(command)
        def with_client(url: str, data_dir: Path | None, **values: Any) -> None:
            settings = read_settings(data_dir=data_dir)
            with Client(url, token_for(url, settings, changes=changes)) as client:
                try:
                    command(client, **values)
                except RefusedError as error:
                    raise click.ClickException(f"{error}{hint_for(error, client)}") from error

        return with_client

    return decorate


def hint_for(error: RefusedError, client: Client) -> str:
    """What to do next: the nearest known name, and a command that works; empty if unknown."""
    context, example = click.get_current_context(), error.problem.example
    errors = error.problem.errors or []
    wrong = {field for one in errors for field in one.loc}
    hint = "".join(map(nearest_name, errors))
    if error.problem.code == "model_not_found":
        with suppress(ServerError):  # the first error is the one to show
            hint = did_you_mean(str(context.params.get("model", "")), client.models())
    if isinstance(example, dict):
        hint += f"; this works: {command_of(context, example)}"
    elif example is not None and "file" not in wrong:  # it is a curl command that uploads one
        valid = {"architecture": "dnn"} if "architecture" in wrong else {}
        hint += f"; this works: {command_of(context, valid)}"
    return hint


def nearest_name(error: FieldError) -> str:
    """The nearest of the names that the server says it knows; empty if none is similar."""
    if values := re.match(r"one of ([^(]+)", error.expected):
        return did_you_mean(error.got.strip('"'), values[1].strip().split(", "))
    if settings := re.search(r"known(?:: | setting \()([^)]+)", error.expected):
        return did_you_mean(str(error.loc[-1]), settings[1].split(", "))
    return ""


def token_for(url: str, settings: Settings, *, changes: bool) -> str | None:
    """The token for a server, from the settings or the store; none is created.

    The token of the default store is sent to this machine only, so that no other server learns it
    by accident. Raises `ClickException` if a command that `changes` something has no token.
    """
    token = None if changes else credentials.clear(settings.predict_token)
    is_ours = is_loopback(host_of(url)) or "data_dir" in settings.model_fields_set
    if token is None and settings.admin_token:
        token = credentials.clear(settings.admin_token)
    elif token is None and is_ours and os.access(settings.data_dir / credentials.FILE, os.R_OK):
        token = credentials.admin_token(settings).get_secret_value()
    if token is None and changes:
        raise click.ClickException(
            f"this needs the admin token of the server at {url}: set PERCEPTD_ADMIN_TOKEN to what "
            "`perceptd token` prints there, or name the server's store with --data-dir"
        )
    return token


def print_answer(answer: BaseModel, text: str, *, as_json: bool) -> None:
    click.echo(answer.model_dump_json() if as_json else text)


def parse_gate(_: click.Context, __: click.Parameter, value: str | None) -> Any:
    """Parse `always`, `never`, a JSON object, or the name of a metric."""
    if value is None or value in ("always", "never"):
        return value
    if not value.startswith("{"):
        return {"metric": value}
    try:
        return json.loads(value)
    except json.JSONDecodeError as error:
        raise click.BadParameter(f"{value!r} is not JSON: {error}") from None


GATE = click.option(
    "--gate",
    metavar="always|never|METRIC|JSON",
    callback=parse_gate,
    help="What makes the version production: a metric such as accuracy, or "
    '{"metric": "loss", "threshold": 0.1}.',
)
