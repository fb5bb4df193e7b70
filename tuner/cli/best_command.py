"""``tuner best``."""

from pathlib import Path

import click

from tuner.cli.options import results_option


@click.command()
@click.argument("search")
@click.option("--stage", "stage_name", default=None, help="The best of this stage, instead of all.")
@click.option("--trial", "number", type=click.IntRange(min=0), default=None, help="This trial of the (last) stage.")
@results_option
def best(search: str, stage_name: str | None, number: int | None, results: Path) -> None:
    r"""Print a search's best configuration as YAML, ready for ``tuner train``.

    \b
    Examples:
        tuner best digits
        tuner best digits > best.yaml && tuner train best.yaml
        tuner best digits --stage coarse --trial 7
    """
    from tuner.spec import dump_training_spec
    from tuner.track.best import find_best

    click.echo(dump_training_spec(find_best(results / search, stage_name, number)), nl=False)
