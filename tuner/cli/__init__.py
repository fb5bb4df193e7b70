"""What the user types."""

import importlib
import sys
from collections.abc import Sequence

import click

from tuner import __version__
from tuner.errors import TunerError

# name: (module, what --help says); modules are imported when their command is called, since some take seconds
COMMANDS = {
    "init": ("init", "Write a commented search file for a data set and a budget."),
    "run": ("run", "Run a search, or go on with it where it was."),
    "resume": ("resume", "Go on with a search where it was, by its name."),
    "extend": ("extend", "Ask more of a search, and go on with it: more trials, longer ones, more time."),
    "retry": ("retry", "Train the failed trials of a search again, and go on with it."),
    "stop": ("stop", "Stop a search that runs, from another terminal or machine, as ctrl-C would."),
    "validate": ("validate", "Check a search file and say everything that is wrong with it."),
    "check": ("check", "See whether each network of a search can learn, before any trial is paid for."),
    "explain": ("explain", "Say what a key of a search file means, what it allows and what it is by default."),
    "schema": ("schema", "Print the JSON Schema of search files, for editors."),
    "ls": ("ls", "List the searches."),
    "show": ("show", "Show a search: its stages, its best trials, and why each trial ended."),
    "replay": ("replay", "Say what other settings of halving would have cost and found."),
    "refine": ("refine", "Write the search that follows a search, its space narrowed, and do not run it."),
    "report": ("report", "Write what came out of a search as one HTML page."),
    "compare": ("compare", "Set two searches beside each other."),
    "finalize": ("finalize", "Train a search's best configurations over seeds, and open the test set once."),
    "predict": ("predict", "Say what a model makes of images."),
    "reproduce": ("reproduce", "Train a trial of a search again, and state the difference."),
    "best": ("best", "Print a search's best configuration as YAML."),
    "train": ("train", "Train one configuration, without a search."),
    "export": ("export", "Write all trials of a search as a table."),
    "ui": ("ui", "Open MLflow on the recorded searches."),
    "sync": ("sync", "Send to MLflow what it lacks of a search."),
    "submit": ("submit", "Send a search to a Ray cluster that this machine is not part of."),
    "jobs": ("jobs", "List the searches that were sent to a cluster."),
    "status": ("jobs", "Show how far a search on a cluster is."),
    "logs": ("jobs", "Print what a search on a cluster has printed."),
    "wait": ("jobs", "Wait until a search on a cluster is over."),
    "doctor": ("doctor", "Look over the whole chain that a search needs, and say what to mend."),
    "gc": ("gc", "List what searches left behind and nobody needs, and free it if asked to."),
    "models": ("models", "List the families of networks, or the layers of one."),
    "completion": ("completion", "Print the script by which a shell completes tuner's commands and options."),
}


def keep_lines(command: click.Command) -> click.Command:
    r"""Let a help text's examples stand on lines of their own: click wants the character that ``\b`` means."""
    command.help = (command.help or "").replace("\\b\n", "\b\n")
    return command


class LazyGroup(click.Group):
    """A group that imports a command when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands in the order in which one needs them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command, or return None if there is none of that name."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"tuner.cli.{COMMANDS[cmd_name][0]}_command")
        command = getattr(module, cmd_name)
        assert isinstance(command, click.Command), "each module holds its commands by their names"
        return keep_lines(command)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.command(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="tuner")
def cli() -> None:
    r"""Hyperparameter search for image classifiers: coarse, then fine.

    \b
    Examples:
        tuner run search_spaces/coarse.yaml      search, and record every trial
        tuner show digits                        the best trials, and why each ended
        tuner ui                                 compare them in MLflow
    """


keep_lines(cli)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; exit with 0, with 1 if a run failed, or with 2 if the input is wrong."""
    try:
        cli.main(args=None if arguments is None else list(arguments), prog_name="tuner", standalone_mode=True)
    except TunerError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)
