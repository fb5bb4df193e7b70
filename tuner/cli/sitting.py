"""One sitting of a search, as a person sees it: what ``tuner run`` and the commands that go on with a search share."""

import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import click

from tuner.cli.options import (
    cache_option,
    choose_tracking_uri,
    find_webhook,
    need_package,
    repeat_results,
    results_option,
)
from tuner.spec.search import SearchSpec

Command = TypeVar("Command", bound=Callable[..., object])


def sitting_options(command: Command) -> Command:
    """Add the options that say where a search runs: ``--ray-address``, ``--results`` and ``--cache``."""
    address = click.option("--ray-address", default=None, help="An existing cluster; without it, Ray starts here.")
    return address(results_option(cache_option(command)))


def sit(
    spec: SearchSpec,
    results: Path,
    cache: Path,
    ray_address: str | None,
    *,
    fresh: bool = False,
    is_checked: bool = False,
    again: Sequence[str],
) -> None:
    """Run a search until it ends, show what came out, and say how to go on; exit code 1 if it was interrupted.

    Parameters
    ----------
    spec : SearchSpec
        The search.
    results, cache : Path
        The folders of all searches and of decoded images.
    ray_address : str or None
        An existing cluster; None starts Ray here.
    fresh : bool
        Whether an earlier search of this name is put aside.
    is_checked : bool
        Whether a new search's networks are checked, quickly, before its first trial.
    again : sequence of str
        The command, without its name, that goes on with the search.
    """
    from tuner.cli.show_command import print_search
    from tuner.cli.watch import LiveTable, PlainLines
    from tuner.execute.experiment import Surroundings, put_aside, run_search
    from tuner.track.provenance import read_provenance

    if spec.tracking.wandb != "off":
        need_package("Weights & Biases", "wandb", "wandb")
    uri, webhook = choose_tracking_uri(spec.tracking.mlflow), find_webhook(spec.notify)
    provenance = read_provenance(Path.cwd())
    around = Surroundings(results.absolute(), cache.absolute(), uri, ray_address, provenance, is_checked, webhook)
    if fresh and (moved := put_aside(around.results / spec.name, spec.storage)):
        click.echo(
            f"the earlier search {spec.name!r} is kept in {moved}; delete that folder if it is not needed", err=True
        )
    watcher = LiveTable() if sys.stdout.isatty() else PlainLines()
    ended = run_search(spec, around, watcher)
    print_search(around.results / spec.name, top=10)
    if ended == "interrupted":
        click.echo(f"\ninterrupted; all is recorded. To go on where it was:\n  {shlex.join(['tuner', *again])}")
        raise SystemExit(1)
    if ended != "complete":
        click.echo(f"\nended early: {ended}")
    search = f"{spec.name}{repeat_results()}"
    if uri is not None:
        click.echo(f"\nCompare the trials in MLflow:\n  tuner ui {search}")
    click.echo(f"Train the best configuration again:\n  tuner best {search} > best.yaml && tuner train best.yaml")
