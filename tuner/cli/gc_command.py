"""``tuner gc``."""

import os
import tempfile
from pathlib import Path

import click

from tuner.cli.options import cache_option, results_option


@click.command()
@click.option("--yes", is_flag=True, help="Free it; without, it is only listed.")
@click.option(
    "--unused-for",
    "unused_days",
    default=30.0,
    show_default=True,
    type=click.FloatRange(min=0),
    help="Days after which decoded images that were not read are freed; they are made again when wanted.",
)
@results_option
@cache_option
def gc(yes: bool, unused_days: float, results: Path, cache: Path) -> None:
    r"""List what searches left behind and nobody needs, and free it if asked to.

    That is: files of searches that were killed, checkpoints of trials that have ended and are not among their stage's
    best, decoded images that were not used for long, sessions of Ray that have ended, and this machine's temporary
    folders of workers that were killed. Ledgers, what a search needs to go on, and searches that run are never touched.

    \b
    Examples:
        tuner gc
        tuner gc --yes
        tuner gc --yes --unused-for 7
    """
    from tuner.errors import TunerError
    from tuner.execute.garbage import find_garbage, free
    from tuner.report.leaderboard import format_bytes

    scratch = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp"  # noqa: S108 where Ray has it
    temporary = Path(tempfile.gettempdir())
    places = (results.absolute(), cache.absolute(), Path(scratch) / "ray")
    found = find_garbage(*places, unused_days * 86400, temporary, lambda fault: click.echo(f"kept: {fault}", err=True))
    freed = 0
    for garbage in found:
        click.echo(f"{format_bytes(garbage.size_bytes):>10}  {garbage.path}: {garbage.why}")
        if yes:
            try:
                free(garbage)
                freed += garbage.size_bytes
            except (TunerError, OSError) as error:
                click.echo(f"kept: {error}", err=True)
    if yes:
        click.echo(f"freed {format_bytes(freed)}")
    elif found:
        total = sum(garbage.size_bytes for garbage in found)
        click.echo(f"nothing was deleted; to free {format_bytes(total)}: tuner gc --yes")
    else:
        click.echo("nothing to free")
