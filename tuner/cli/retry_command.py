"""``tuner retry``."""

from pathlib import Path

import click

from tuner.cli.sitting import sit, sitting_options


@click.command()
@click.argument("search")
@click.option("--failed", is_flag=True, help="All failed trials of the latest stage.")
@click.option(
    "--trial", "numbers", multiple=True, type=click.IntRange(min=0), help="This failed trial; may be given again."
)
@sitting_options
def retry(
    search: str, failed: bool, numbers: tuple[int, ...], ray_address: str | None, results: Path, cache: Path
) -> None:
    r"""Train the failed trials of a search again, and go on with it.

    Each is tried as a new trial with the same configuration and seed, so that the record of what failed stays; the
    sampler forgets the failure. Mend first what made them fail: tuner show SEARCH --trial N has the error.

    \b
    Examples:
        tuner retry digits --failed
        tuner retry digits --trial 7 --trial 12
    """
    from tuner.errors import InputError
    from tuner.execute.extend import retry_failed

    if failed == bool(numbers):
        raise InputError("say which trials: --failed for all that failed, or --trial N")
    spec, names = retry_failed(results.absolute() / search, numbers)
    click.echo(f"search {search!r} tries again: {', '.join(names)}")
    sit(spec, results, cache, ray_address, again=["resume", search, "--results", str(results)])
