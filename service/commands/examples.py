"""Turns an example from an error of the server into the command that sends it."""

import json
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

import click
from click.core import ParameterSource

KEPT = ("url", "data_dir")  # options that say which server is asked


def command_of(context: click.Context, example: Mapping[str, Any]) -> str:
    """The command of `context` with the values of `example`, and with its own other arguments."""
    words = [context.command_path]
    for parameter in context.command.params:
        name = str(parameter.name)
        given = context.get_parameter_source(name) is ParameterSource.COMMANDLINE
        if name in example:
            words += _words(parameter, example[name])
        elif given and (isinstance(parameter, click.Argument) or name in KEPT):
            words += _words(parameter, context.params[name])
    return " ".join(words)


def _words(parameter: click.Parameter, value: Any) -> Iterator[str]:
    if isinstance(parameter, click.Argument):
        yield shlex.quote(_text(value))
        return
    option = parameter.opts[0]
    if isinstance(value, bool):
        if value:
            yield option
    elif parameter.multiple and isinstance(value, dict):
        for key, setting in value.items():
            yield f"{option} {shlex.quote(f'{key}={_text(setting)}')}"
    else:
        yield f"{option} {shlex.quote(_text(value))}"


def _text(value: Any) -> str:
    return json.dumps(value) if isinstance(value, (dict, list, bool)) else str(value)
