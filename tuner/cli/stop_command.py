"""``tuner stop``."""

import time
from pathlib import Path

import click

from tuner.cli.options import repeat_results, results_option


@click.command()
@click.argument("search")
@click.option(
    "--timeout", "timeout_s", default=60.0, show_default=True, type=click.FloatRange(min=0), help="Seconds to wait."
)
@results_option
@click.option("--address", default=None, help="The dashboard of the cluster that the search was sent to.")
def stop(search: str, timeout_s: float, results: Path, address: str | None) -> None:
    r"""Stop a search that runs, from another terminal or machine, as ctrl-C would.

    All is recorded, and tuner resume goes on. The request goes by way of the ledger, so it reaches a driver on another
    machine that shares it. A search that tuner submit sent is stopped at its cluster's --address; SEARCH may be a job's
    name then.

    \b
    Examples:
        tuner stop digits
        tuner stop digits --address http://head:8265
        tuner stop digits --results /shared/results --timeout 300
    """
    if address is not None:
        from tuner.cli.jobs_command import stop_job

        stop_job(address, search)
        return
    from tuner.errors import RunError
    from tuner.track.ledger import Ledger
    from tuner.track.store import find_store

    folder = results.absolute() / search
    Ledger.open(folder)  # says which searches there are
    store = find_store(folder)
    holder = store.find_holder()
    resume = f"tuner resume {search}{repeat_results()}"
    if holder is None:
        click.echo(f"nobody runs search {search!r}; go on with it with: {resume}")
        return
    store.ask_to_stop(holder)
    deadline = time.monotonic() + timeout_s
    while store.find_holder() == holder:
        if time.monotonic() > deadline:
            raise RunError(
                f"search {search!r} was asked to stop and has not within {timeout_s:g} s: {holder}. Wait, or end that "
                "process; nothing that was recorded is lost either way"
            )
        time.sleep(0.2)
    click.echo(f"search {search!r} has stopped; all is recorded. To go on where it was:\n  {resume}")
