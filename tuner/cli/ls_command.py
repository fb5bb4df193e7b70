"""``tuner ls``."""

import json
from pathlib import Path
from typing import Any

import click
from rich.table import Table

from tuner.cli.options import json_option, results_option
from tuner.cli.screen import print_table


@click.command()
@results_option
@json_option
def ls(results: Path, as_json: bool) -> None:
    r"""List the searches.

    \b
    Examples:
        tuner ls
        tuner ls --json
    """
    from tuner.errors import TunerError
    from tuner.track.plain import make_plain
    from tuner.track.store import list_searches

    rows: list[dict[str, Any]] = []
    faults = []
    for folder in list_searches(results.absolute()):
        try:
            rows += list_stages(folder)
        except TunerError as error:
            faults.append(f"{folder.name}: {error}")
    if as_json:
        click.echo(json.dumps(make_plain(rows), indent=2))
    elif rows:
        print_rows(rows)
    elif not faults:
        click.echo(f"no search in {results} yet; start one with: tuner run SPEC")
    for fault in faults:
        click.echo(f"not listed: {fault}", err=True)
    if faults:
        raise SystemExit(1)


def list_stages(folder: Path) -> list[dict[str, Any]]:
    """Return a row a stage of a search."""
    from tuner.track.best import rank_trials
    from tuner.track.ledger import Ledger

    rows = []
    for stage in Ledger.open(folder).stages():
        trials, attributes = stage.trials(), stage.attributes
        ranked = rank_trials(trials, maximize=stage.maximize)
        rows.append(
            {
                "search": folder.name,
                "stage": stage.name,
                "trials": len(trials),
                "metric": attributes["metric"],
                "best": ranked[0].value if ranked else None,
                "ended": attributes.get("ended"),
            }
        )
    return rows


def print_rows(rows: list[dict[str, Any]]) -> None:
    """Print a line a stage."""
    from tuner.report.leaderboard import format_objective

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("search", "stage", "trials", "metric", "best", "ended"):
        table.add_column(title, justify="right" if title in {"trials", "best"} else "left")
    for row in rows:
        best = "-" if row["best"] is None else format_objective(row["best"], row["metric"])
        table.add_row(row["search"], row["stage"], str(row["trials"]), row["metric"], best, row["ended"] or "not yet")
    print_table(table)
