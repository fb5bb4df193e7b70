"""Where tables are printed."""

import sys
from collections import Counter

import click
from rich.console import Console
from rich.table import Table

_PAGE = 1000  # columns: where there is no terminal, no line is broken


def open_console(width: int | None = None) -> Console:
    """Open a console that writes text as it is: brackets are no markup, and names between colons no pictures.

    Parameters
    ----------
    width : int or None
        Of plain text, in columns; None for the terminal's, with its colours.
    """
    return Console(width=width, color_system="auto" if width is None else None, markup=False, emoji=False)


def print_table(table: Table) -> None:
    """Print a table on the terminal, or with whole lines and no blanks at their ends.

    Lines are whole where there is no terminal, and where it is so narrow that a word or a number would be cut.
    """
    whole = _draw(table, _PAGE)
    if sys.stdout.isatty():
        console = open_console()
        if Counter(_draw(table, console.width).split()) == Counter(whole.split()):
            console.print(table)
            return
    click.echo("\n".join(line.rstrip() for line in whole.splitlines()))


def _draw(table: Table, width: int) -> str:
    """Draw a table in plain text."""
    console = open_console(width)
    with console.capture() as captured:
        console.print(table)
    return captured.get()
