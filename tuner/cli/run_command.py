"""``tuner run``."""

import shlex
import sys
from pathlib import Path

import click

from tuner.cli.options import cache_option, choose_tracking_uri, results_option, set_option, warn
from tuner.spec import load_spec


@click.command()
@click.argument("spec_path", metavar="SPEC", type=click.Path(path_type=Path))
@set_option
@click.option("--fresh", is_flag=True, help="Put an earlier search of this name aside and start over.")
@click.option("--ray-address", default=None, help="An existing cluster; without it, Ray starts here.")
@results_option
@cache_option
def run(
    spec_path: Path, overrides: tuple[str, ...], fresh: bool, ray_address: str | None, results: Path, cache: Path
) -> None:
    r"""Run a search, or go on with it where it was.

    Ctrl-C stops cleanly: all is recorded, and the same command goes on. A second ctrl-C stops at once. A search that
    was finished is shown again and nothing is trained.

    \b
    Examples:
        tuner run search_spaces/coarse.yaml
        tuner run search_spaces/coarse.yaml --set stages.coarse.trials=8 --set limits.time=5m
        tuner run search_spaces/coarse.yaml --fresh
        tuner run search_spaces/coarse.yaml --ray-address 10.0.0.5:6379
    """
    spec = load_spec(spec_path, overrides, warn)
    from tuner.cli.show_command import print_search
    from tuner.cli.watch import LiveTable, PlainLines
    from tuner.execute.experiment import Surroundings, put_aside, run_search
    from tuner.track.provenance import read_provenance

    uri = choose_tracking_uri(spec.tracking.mlflow)
    around = Surroundings(results.absolute(), cache.absolute(), uri, ray_address, read_provenance(Path.cwd()))
    if fresh and (moved := put_aside(around.results / spec.name)):
        click.echo(
            f"the earlier search {spec.name!r} is kept in {moved}; delete that folder if it is not needed", err=True
        )
    watcher = LiveTable() if sys.stdout.isatty() else PlainLines()
    ended = run_search(spec, around, watcher)
    print_search(around.results / spec.name, top=10)
    if ended == "interrupted":
        given = [argument for argument in sys.argv[1:] if argument != "--fresh"]
        click.echo(f"\ninterrupted; all is recorded. To go on where it was:\n  {shlex.join(['tuner', *given])}")
        raise SystemExit(1)
    if ended != "complete":
        click.echo(f"\nended early: {ended}")
    if uri is not None:
        click.echo(f"\nCompare the trials in MLflow:\n  tuner ui {spec.name}")
    click.echo(f"Train the best configuration again:\n  tuner best {spec.name} > best.yaml && tuner train best.yaml")
