"""``tuner report``."""

from pathlib import Path

import click

from tuner.cli.options import find_tracking_uri, results_option


@click.command()
@click.argument("search")
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    default=None,
    help="Where; by default report.html in the search's folder.",
)
@click.option("--mlflow/--no-mlflow", "is_sent", default=True, help="Whether to put it with the search in MLflow too.")
@results_option
def report(search: str, output: Path | None, is_sent: bool, results: Path) -> None:
    r"""Write what came out of a search as one HTML page.

    The page needs no network and no other file. A search that still runs has a page too, which says so.

    \b
    Examples:
        tuner report digits
        tuner report digits --output digits.html --no-mlflow
    """
    from tuner.errors import InputError, TrackingError
    from tuner.execute.remote import publish
    from tuner.report.search_report import build_report
    from tuner.spec import load_text
    from tuner.track.ledger import Ledger

    folder = results / search
    page = build_report(folder)
    path = output or folder / "report.html"
    folder.mkdir(parents=True, exist_ok=True)  # a search in PostgreSQL may have none here
    try:
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}); choose another place with --output") from error
    address = publish(folder, path) if output is None else ""
    click.echo(f"{address or path.absolute()}: {len(page) / 1e6:.1f} MB")
    ledger = Ledger.open(folder)
    if not is_sent or load_text(ledger.stages()[-1].attributes["asked"]).tracking.mlflow == "off":
        return
    uri = find_tracking_uri(results.absolute() / search)
    from tuner.track.mirror import Mirror

    try:
        if Mirror(ledger, folder, uri).send_report(path):
            click.echo(f"in MLflow too: {path.name} of its last stage's run")
    except TrackingError as error:
        click.echo(f"warning: {error}; the page is written all the same", err=True)
