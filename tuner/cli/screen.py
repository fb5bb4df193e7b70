"""Where tables are printed."""

import sys

import click
from rich.console import Console
from rich.table import Table

_PAGE = 1000  # columns: where there is no terminal, no line is broken


def print_table(table: Table) -> None:
    """Print a table on the terminal, or, where there is none, with whole lines and no blanks at their ends."""
    if sys.stdout.isatty():
        Console().print(table)
        return
    console = Console(width=_PAGE)
    with console.capture() as captured:
        console.print(table)
    click.echo("\n".join(line.rstrip() for line in captured.get().splitlines()))
