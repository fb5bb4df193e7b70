"""``tuner sync``."""

from pathlib import Path

import click

from tuner.cli.options import find_tracking_uri, results_option


@click.command()
@click.argument("search")
@results_option
def sync(search: str, results: Path) -> None:
    r"""Send to MLflow what it lacks of a search, and write what its TensorBoard files lack.

    A search needs MLflow only to be looked at: when its server was away, the ledger has kept all.

    \b
    Example:
        tuner sync digits
    """
    folder = results.absolute() / search
    uri = find_tracking_uri(folder)
    from tuner.execute.remote import fetch_artifacts
    from tuner.track.ledger import Ledger
    from tuner.track.mirror_lock import held
    from tuner.track.mirror_main import open_images
    from tuner.track.store import find_store

    with find_store(folder).claimed(click.echo), held(folder):
        fetch_artifacts(folder)
        for image in open_images(Ledger.open(folder), folder, uri):
            image.sync(settle=True)
            click.echo(f"{image.name} has all of search {search!r}")
