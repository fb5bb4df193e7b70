"""``tuner sync``."""

from pathlib import Path

import click

from tuner.cli.options import find_tracking_uri, results_option


@click.command()
@click.argument("search")
@results_option
def sync(search: str, results: Path) -> None:
    r"""Send to MLflow what it lacks of a search.

    A search needs MLflow only to be looked at: when its server was away, the ledger has kept all.

    \b
    Example:
        tuner sync digits
    """
    folder = results.absolute() / search
    uri = find_tracking_uri(folder)
    from tuner.execute.remote import fetch_artifacts
    from tuner.track.address import hide_password
    from tuner.track.ledger import Ledger
    from tuner.track.mirror import Mirror, held
    from tuner.track.store import find_store

    with find_store(folder).claimed(click.echo), held(folder):
        fetch_artifacts(folder)
        Mirror(Ledger.open(folder), folder, uri).sync(settle=True)
    click.echo(f"MLflow at {hide_password(uri)} has all of search {search!r}")
