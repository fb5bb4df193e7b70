"""``tuner resume``."""

import sys
from pathlib import Path

import click

from tuner.cli.options import set_option
from tuner.cli.sitting import sit, sitting_options


@click.command()
@click.argument("search")
@set_option
@sitting_options
def resume(search: str, overrides: tuple[str, ...], ray_address: str | None, results: Path, cache: Path) -> None:
    r"""Go on with a search where it was, by its name.

    Its ledger knows what was asked, so no file is needed. Whatever ended it, be it ctrl-C, a limit or a machine that
    died: no finished trial runs again, and interrupted ones go on after their last epoch. Resources, limits,
    tracking and ``notify`` may be changed.

    \b
    Examples:
        tuner resume digits
        tuner resume digits --set resources.trials_at_once=8 --ray-address 10.0.0.5:6379
        tuner resume digits --set limits.time=2h
    """
    from tuner.execute.asked import read_asked

    spec = read_asked(results / search, overrides)
    sit(spec, results, cache, ray_address, again=sys.argv[1:])
