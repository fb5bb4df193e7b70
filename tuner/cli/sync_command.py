"""``tuner sync``."""

from pathlib import Path

import click

from tuner.cli.options import choose_tracking_uri, results_option


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
    from tuner.execute.experiment import claimed
    from tuner.spec import load_text
    from tuner.track.ledger import Ledger
    from tuner.track.mirror import Mirror, held

    folder = results.absolute() / search
    ledger = Ledger.open(folder)
    asked = {load_text(stage.attributes["asked"], "the ledger").tracking.mlflow for stage in ledger.stages()[:1]}
    uri = choose_tracking_uri(next(iter(asked - {"off"}), "auto"))
    assert uri is not None, "only off is none"
    with claimed(folder), held(folder):
        Mirror(ledger, folder, uri).sync(settle=True)
    click.echo(f"MLflow at {uri} has all of search {search!r}")
