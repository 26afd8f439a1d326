"""What the command lines of training and service share: the `--set` option and a training's bar."""

import json
import sys
from typing import Any

import click


def pairs(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> dict[str, Any] | None:
    """NAME=VALUE, each value as JSON where it is JSON, else as text; None where there is none."""
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
    """A live bar of epochs with words behind it; nothing where the output is no terminal."""

    def __init__(self, epochs: int) -> None:
        self._bar = click.progressbar(
            length=epochs,
            label="epochs",
            show_pos=True,
            show_eta=False,  # click guesses from whole seconds; the training knows
            item_show_func=lambda words: words,
            hidden=not sys.stdout.isatty(),
        )

    def draw(self, epoch: int, words: str) -> None:
        self._bar.update(epoch - self._bar.pos, words)

    def finish(self) -> None:
        """Leave it as it is, and go on beneath; one that was never drawn leaves nothing."""
        if self._bar.pos:
            self._bar.render_finish()


def epoch_words(*, loss: float, test_accuracy: float, seconds_left: float) -> str:
    """An epoch's figures, as they stand behind a bar or in a line."""
    return f"loss {loss:.4f}  held-out accuracy {test_accuracy:.4f}  {seconds_left:.0f} s left"
