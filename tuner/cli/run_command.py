"""``tuner run``."""

import sys
from pathlib import Path

import click

from tuner.cli.options import set_option, warn
from tuner.cli.sitting import sit, sitting_options
from tuner.spec import load_spec


@click.command()
@click.argument("spec_path", metavar="SPEC", type=click.Path(path_type=Path))
@set_option
@click.option("--fresh", is_flag=True, help="Put an earlier search of this name aside and start over.")
@click.option(
    "--no-check",
    is_flag=True,
    envvar="TUNER_NO_CHECK",
    show_envvar=True,
    help="Begin without the quick check of the networks.",
)
@sitting_options
def run(
    spec_path: Path,
    overrides: tuple[str, ...],
    fresh: bool,
    no_check: bool,
    ray_address: str | None,
    results: Path,
    cache: Path,
) -> None:
    r"""Run a search, or go on with it where it was.

    Ctrl-C stops cleanly: all is recorded, and the same command goes on. A second ctrl-C stops at once. A search that
    was finished is shown again and nothing is trained. A new search begins with what ``tuner check SPEC --quick`` does.

    \b
    Examples:
        tuner run search_spaces/coarse.yaml
        tuner run search_spaces/coarse.yaml --set stages.coarse.trials=8 --set limits.time=5m
        tuner run search_spaces/coarse.yaml --fresh
        tuner run search_spaces/coarse.yaml --ray-address 10.0.0.5:6379
    """
    spec = load_spec(spec_path, overrides, warn)
    again = [argument for argument in sys.argv[1:] if argument != "--fresh"]
    sit(spec, results, cache, ray_address, fresh=fresh, is_checked=not no_check, again=again)
