"""The command line, as `perceptd` and as `python -m perceptd`.

A command's module is imported when the command is chosen: `perceptd --help` imports click alone.
"""

from importlib import import_module
from importlib.util import find_spec

import click
from click.shell_completion import CompletionItem

from perceptd import __version__

TRAINING = {
    "train": "Train a model into a checkpoint folder.",
    "evaluate": "Measure checkpoints on the same held-out rows.",
    "import": "Turn a .pt or .safetensors file into a checkpoint folder.",
    "plot": "Draw the plots of a checkpoint again.",
    "describe": "Print what can be trained here as JSON.",
    "drift-reference": "Add a drift reference to a checkpoint of an earlier release.",
}
SERVICE = {
    "serve": "Serve the models of the store.",
    "worker": "Run the jobs of a store.",
    "token": "Print the admin token; create, list and revoke others.",
    "models": "List, add, import, promote and roll back models.",
    "jobs": "Have a running server retrain a model.",
    "predict": "Ask a model of the store; no server is needed.",
}
SECTIONS = {
    "Commands that train (they need perceptd[train])": TRAINING,
    "Commands that serve": SERVICE,
}
NEED_TORCH = {*TRAINING, "worker"}


class LazyGroup(click.Group):
    """Knows the names and summaries of its commands, and imports the one that is chosen."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*TRAINING, *SERVICE]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in NEED_TORCH and not find_spec("torch"):
            raise click.UsageError(
                f"perceptd {cmd_name} needs torch: pip install 'perceptd[train]'", ctx
            )
        if cmd_name in TRAINING:
            from perceptd.training.commands import COMMANDS

            return COMMANDS[cmd_name]
        if cmd_name in SERVICE:
            module = import_module(f"perceptd.service.commands.{cmd_name}")
            command: click.Command = getattr(module, cmd_name)
            return command
        return None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.NoSuchCommand as error:
            known = self.list_commands(ctx)
            raise click.NoSuchCommand(error.command_name, possibilities=known, ctx=ctx) from None

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        summaries = {**TRAINING, **SERVICE}
        names = [name for name in summaries if name.startswith(incomplete)]
        commands = [CompletionItem(name, help=summaries[name]) for name in names]
        return [*commands, *click.Command.shell_complete(self, ctx, incomplete)]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, commands in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl(list(commands.items()))


@click.group(cls=LazyGroup)
@click.option("--stop-on-eof", is_flag=True, hidden=True, help="Stop when standard input ends.")
@click.version_option(__version__, prog_name="perceptd")
@click.pass_context
def main(context: click.Context, stop_on_eof: bool) -> None:
    """Train PyTorch classifiers, serve them over REST, and retrain them while they serve.

    Each setting can also be given as an environment variable: --data-dir as PERCEPTD_DATA_DIR.
    docs/operate.md lists them all.
    """
    is_training = context.invoked_subcommand in TRAINING
    room = "training.commands" if is_training else "service.commands.common"
    context.with_resource(import_module(f"perceptd.{room}").running())
    if stop_on_eof:
        from perceptd.training import lifeline

        lifeline.hold()


if __name__ == "__main__":
    main()
