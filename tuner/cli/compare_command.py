"""``tuner compare``."""

import json
from pathlib import Path

import click
from rich.table import Table

from tuner.cli.options import json_option, results_option
from tuner.cli.screen import print_table


@click.command()
@click.argument("first", metavar="SEARCH")
@click.argument("second", metavar="OTHER")
@click.option(
    "--output", type=click.Path(dir_okay=False, path_type=Path), default=None, help="Write a page with a figure here."
)
@results_option
@json_option
def compare(first: str, second: str, output: Path | None, results: Path, as_json: bool) -> None:
    r"""Set two searches beside each other.

    What each found, what it cost, how far each was after equally many epochs, and where their spaces differ.

    \b
    Examples:
        tuner compare digits digits-refined
        tuner compare digits digits-refined --output comparison.html
    """
    from tuner.errors import InputError
    from tuner.report.comparison import compare_searches, write_comparison

    found = compare_searches(results / first, results / second)
    if as_json:
        click.echo(json.dumps({"searches": found.figures, "space": found.differences}, indent=2))
    else:
        for warning in found.warnings:
            click.echo(f"warning: {warning}", err=True)
        table = Table(box=None, pad_edge=False, header_style="bold")
        for title in ("", first, second):
            table.add_column(title, justify="right" if title else "left", no_wrap=True)
        for title, *values in found.rows():
            table.add_row(title, *values)
        print_table(table)
        if found.differences:
            click.echo("\nTheir spaces differ:")
            for name, here, there in found.differences:
                click.echo(f"  {name}: {here or 'not there'} | {there or 'not there'}")
    if output is not None:
        try:
            output.write_text(write_comparison(found), encoding="utf-8")
        except OSError as error:
            raise InputError(f"{output}: cannot be written ({error.strerror}); choose another place") from error
        click.echo(f"{output.absolute()}", err=as_json)
