"""``tuner reproduce``."""

import json
from pathlib import Path

import click

from tuner.cli.options import cache_option, json_option, results_option


@click.command()
@click.argument("search")
@click.option("--trial", "number", type=click.IntRange(min=0), default=None, help="The trial; without it, the best.")
@click.option("--stage", "stage_name", default=None, help="The trial's stage; without it, the last one.")
@click.option("--device", default="auto", show_default=True, help="cpu, cuda or cuda:1; auto is as the trial had it.")
@click.option(
    "--tolerance",
    default=0.0,
    show_default=True,
    type=click.FloatRange(min=0),
    help="How far the objective may differ, in its own units.",
)
@results_option
@cache_option
@json_option
def reproduce(
    search: str,
    number: int | None,
    stage_name: str | None,
    device: str,
    tolerance: float,
    results: Path,
    cache: Path,
    as_json: bool,
) -> None:
    r"""Train a trial of a search again, and state the difference.

    It is trained with its own seed for as many epochs as the ledger has of it, on a GPU if it had one and there is one
    here. The exit code is 1 if its objective differs by more than is tolerated.

    \b
    Examples:
        tuner reproduce digits
        tuner reproduce digits --trial 7
        tuner reproduce digits --stage coarse --trial 3 --tolerance 0.001
    """
    from tuner.execute.reproduce import find_trial, reproduce_trial
    from tuner.report.leaderboard import format_objective
    from tuner.track.plain import make_plain
    from tuner.track.provenance import read_provenance
    from tuner.train.run import require_device

    if device != "auto":
        require_device(device)
    stage, trial = find_trial(results / search, stage_name, number)
    if not as_json:
        click.echo(f"{trial.name} of search {search}: seed {trial.seed}, {len(trial.epochs)} epochs on record")
    again = reproduce_trial(stage, trial, cache.absolute(), device, read_provenance(Path.cwd()))
    metric = stage.objective.metric
    if as_json:
        click.echo(json.dumps(make_plain(again), indent=2))
    else:
        for line in again.surroundings:
            click.echo(f"differs from then: {line}")
        for name, difference in again.differences.items():
            click.echo(f"  {name:<24} differs by at most {difference:.3g}")
        then, now = (format_objective(value, metric) for value in (again.then, again.now))
        same = not again.differences
        click.echo(
            f"{metric} {then} then, {now} now: "
            + (
                "every number of every epoch is the same"
                if same
                else f"a difference of {again.objective_difference:.3g}"
            )
        )
    if not again.objective_difference <= tolerance:
        raise SystemExit(1)
