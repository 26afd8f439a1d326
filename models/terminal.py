"""What the commands of training and service share: `--set`, suggestions, a bar of epochs."""

import json
import sys
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

import click


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`; did you mean NEAREST?`, or an empty string if no known name is similar."""
    near = get_close_matches(name, list(known), 1)
    return f"; did you mean {near[0]}?" if near else ""


def pairs(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> dict[str, Any] | None:
    """Parse NAME=VALUE; a value that is not JSON is text. None if no value is given."""
    settings = {}
    for value in values:
        name, equals, text = value.partition("=")
        if not equals:
            raise click.BadParameter(f"{value!r}: expected NAME=VALUE, such as hidden=8")
        try:
            settings[name] = json.loads(text)
        except json.JSONDecodeError:
            settings[name] = text
    return settings or None


SET = click.option(
    "--set",
    "config",
    multiple=True,
    metavar="NAME=VALUE",
    callback=pairs,
    help="Change the network: hidden=8, activation=tanh, channels=[16,32]. Repeatable.",
)


class EpochBar:
    """A live bar of epochs, followed by text; hidden if the output is not a terminal."""

    def __init__(self, epochs: int) -> None:
        self._bar = click.progressbar(
            length=epochs,
            label="epochs",
            show_pos=True,
            show_eta=False,  # click estimates from whole seconds; the training knows more
            item_show_func=lambda text: text,
            hidden=not sys.stdout.isatty(),
        )

    def draw(self, epoch: int, text: str) -> None:
        self._bar.update(epoch - self._bar.pos, text)

    def finish(self) -> None:
        """Leave the bar on the screen and start a new line, if the bar was drawn."""
        if self._bar.pos:
            self._bar.render_finish()


def epoch_text(*, loss: float, test_accuracy: float, seconds_left: float) -> str:
    return f"loss {loss:.4f}  held-out accuracy {test_accuracy:.4f}  {seconds_left:.0f} s left"
