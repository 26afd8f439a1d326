"""The command `perceptd`."""

import sys
from importlib.metadata import version as installed_version

import click

from models.checkpoint import CheckpointError
from models.picture import PictureError
from service.commands.models import models
from service.commands.predict import predict
from service.commands.serve import serve, token, worker
from service.errors import PerceptdError
from service.runtimes import DeviceError

EXPECTED_ERRORS = (CheckpointError, DeviceError, PerceptdError, PictureError, OSError)


@click.group()
@click.version_option(installed_version("perceptd"), prog_name="perceptd")
def cli() -> None:
    """Serve PyTorch classifiers over REST, and retrain them while they serve.

    Each setting can also be given as an environment variable, --data-dir as PERCEPTD_DATA_DIR;
    the README lists them all.
    """


for command in (serve, worker, token, models, predict):
    cli.add_command(command)


def main() -> None:
    try:
        cli()
    except EXPECTED_ERRORS as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
