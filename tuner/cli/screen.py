"""Where tables are printed."""

import sys

import click
from rich.console import Console
from rich.table import Table

_PAGE = 1000  # columns: where there is no terminal, no line is broken


def open_console(width: int | None = None) -> Console:
    """Open a console that writes text as it is: brackets are no markup, and names between colons no pictures.

    Parameters
    ----------
    width : int or None
        In columns; None for the terminal's.
    """
    return Console(width=width, markup=False, emoji=False)


def print_table(table: Table) -> None:
    """Print a table on the terminal, or, where there is none, with whole lines and no blanks at their ends."""
    if sys.stdout.isatty():
        open_console().print(table)
        return
    console = open_console(_PAGE)
    with console.capture() as captured:
        console.print(table)
    click.echo("\n".join(line.rstrip() for line in captured.get().splitlines()))
