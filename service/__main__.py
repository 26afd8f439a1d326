"""The command `perceptd`."""

import os
import sys
from importlib import import_module

import click

from perceptd import __version__
from perceptd.models.checkpoint import CheckpointError
from perceptd.models.tracing import TracingError
from perceptd.service.errors import DeviceError, PerceptdError, ServerError

EXPECTED_ERRORS = (
    CheckpointError,
    DeviceError,
    PerceptdError,
    ServerError,
    TracingError,
    OSError,
)


class Commands(click.Group):
    """Each is a module of its name, imported when it is asked for: a server needs no client."""

    names = ("serve", "worker", "token", "models", "jobs", "predict")

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.names)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.names:
            return None
        command: click.Command = getattr(
            import_module(f"perceptd.service.commands.{cmd_name}"), cmd_name
        )
        return command


@click.group(cls=Commands)
@click.version_option(__version__, prog_name="perceptd")
def cli() -> None:
    """Serve PyTorch classifiers over REST, and retrain them while they serve.

    Each setting can also be given as an environment variable, --data-dir as PERCEPTD_DATA_DIR;
    the documentation lists them all.
    """


def main() -> None:
    os.umask(os.umask(0o077) | 0o007)  # the store is nobody else's to read
    try:
        cli()
    except EXPECTED_ERRORS as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
