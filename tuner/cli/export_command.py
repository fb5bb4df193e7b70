"""``tuner export``."""

from pathlib import Path
from typing import Literal

import click

from tuner.cli.options import results_option


@click.command()
@click.argument("search")
@click.option(
    "--format",
    "kind",
    type=click.Choice(["parquet", "csv", "json"]),
    default="parquet",
    show_default=True,
    help="What to write.",
)
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    default=None,
    help="Where; by default SEARCH.FORMAT here.",
)
@results_option
def export(search: str, kind: Literal["parquet", "csv", "json"], output: Path | None, results: Path) -> None:
    r"""Write all trials of a search as a table: a row a trial.

    \b
    Examples:
        tuner export digits
        tuner export digits --format csv --output trials.csv
    """
    from tuner.errors import InputError
    from tuner.track.ledger import Ledger
    from tuner.track.results import build_table, write_table

    folder = results / search
    table = build_table(trial for stage in Ledger.open(folder).stages() for trial in stage.trials())
    path = output or Path(f"{folder.name}.{kind}")
    try:
        write_table(table, path, kind)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}); choose another place with --output") from error
    click.echo(f"{path}: {table.num_rows} trials, {table.num_columns} columns")
