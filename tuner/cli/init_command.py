"""``tuner init``."""

import sys
from pathlib import Path

import click

from tuner.errors import InputError
from tuner.spec.sections import PATH_NEEDED
from tuner.spec.starter import KINDS, Wish, write_starter


@click.command()
@click.argument("data", required=False, type=click.Choice(list(KINDS)))
@click.option("--budget", default=None, help="For how long it may search, such as 30m, 8h or 2d.")
@click.option("--name", default=None, help="The search's name.  [default: the data set's]")
@click.option("--path", default=None, help="The data set's folder, where it is not downloaded.")
@click.option("--size", type=click.IntRange(8, 512), default=None, help="Scale images to this side.")
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    default=None,
    help="The file; - prints it.  [default: NAME.yaml]",
)
def init(
    data: str | None, budget: str | None, name: str | None, path: str | None, size: int | None, output: Path | None
) -> None:
    r"""Write a commented search file for a data set and a budget.

    What is not given is asked for, on a terminal.

    \b
    Examples:
        tuner init
        tuner init cifar10 --budget 8h
        tuner init folder --path photos --budget 2h --name birds --output -
    """
    data = data or _ask("DATA", "Data set", "digits", click.Choice(list(KINDS)))
    if path is None and data in PATH_NEEDED:
        path = _ask("--path", "Its folder")
    budget = budget or _ask("--budget", "For how long may it search", "30m")
    name = name or data
    text = write_starter(Wish(name, data, budget, path, size))
    if output == Path("-"):
        click.echo(text, nl=False)
        return
    target = output or Path(f"{name}.yaml")
    try:
        with target.open("x") as file:
            file.write(text)
    except FileExistsError:
        raise InputError(f"{target}: is there already and is left as it is; choose another with --output") from None
    except OSError as error:
        raise InputError(f"{target}: cannot be written ({error.strerror}); choose another with --output") from error
    click.echo(f"{target}: a search {name!r}; look at it, then run it:\n  tuner run {target}")


def _ask(option: str, question: str, default: str | None = None, kind: click.Choice[str] | None = None) -> str:
    """Ask on a terminal; elsewhere say what to give."""
    if not sys.stdin.isatty():
        raise InputError(f"{option}: is needed where nobody can be asked; see tuner init --help")
    return str(click.prompt(question, default=default, type=kind))
