"""``tuner replay``."""

import dataclasses
import json
from pathlib import Path

import click
from rich.table import Table

from tuner.cli.options import json_option, results_option
from tuner.cli.screen import print_table


@click.command()
@click.argument("search")
@click.option("--reduction", type=click.IntRange(2, 16), default=None, help="About the ratio of neighbouring rungs.")
@click.option("--min-epochs", type=click.IntRange(min=1), default=None, help="The first rung.")
@click.option(
    "--rule", type=click.Choice(["promise", "forecast", "rank", "median"]), default=None, help="What decides."
)
@click.option("--type", "kind", type=click.Choice(["promotion", "stopping"]), default=None, help="Wait, or end.")
@click.option("--workers", default=2, show_default=True, type=click.IntRange(min=1), help="Trials at once.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0), help="What guesses are drawn from.")
@click.option("--stage", "stage_name", default=None, help="Which stage, instead of the last.")
@results_option
@json_option
def replay(
    search: str,
    reduction: int | None,
    min_epochs: int | None,
    rule: str | None,
    kind: str | None,
    workers: int,
    seed: int,
    stage_name: str | None,
    results: Path,
    as_json: bool,
) -> None:
    r"""Say what other settings of halving would have cost and found.

    The recorded trials come again in their order, judged by the other settings. Where one goes on that was stopped, the
    rest of its curve is guessed from trials like it, ten times: the numbers are the 10th, 50th and 90th percentile.

    \b
    Examples:
        tuner replay digits --reduction 4 --min-epochs 3
        tuner replay digits --stage coarse --rule rank --type stopping
    """
    from tuner.execute.replay import replay_search
    from tuner.report.leaderboard import format_objective, format_seconds
    from tuner.strategy.replay import summarise_outcomes

    given = {"reduction": reduction, "min_epochs": min_epochs, "rule": rule, "type": kind}
    settings: dict[str, object] = {name: value for name, value in given.items() if value is not None}
    found = replay_search(results / search, settings, stage_name=stage_name, workers=workers, seed=seed)
    bands = summarise_outcomes(found.replayed)
    if as_json:
        document = {
            "stage": found.stage,
            "metric": found.metric,
            "rungs": found.rungs,
            "recorded": dataclasses.asdict(found.recorded) | {"best": found.sign * found.recorded.best},
            "replayed": bands | {"best": [found.sign * value for value in bands["best"]]},
        }
        click.echo(json.dumps(document, indent=2))
        return
    changed = ", ".join(f"{name} {value}" for name, value in settings.items()) or "its own settings"
    click.echo(f"stage {found.stage} of search {search}, {found.num_trials} trials, with {changed}: rungs ", nl=False)
    click.echo(", ".join(map(str, found.rungs)))
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("", "recorded", "10%", "50%", "90%"):
        table.add_column(title, justify="right" if title else "left", no_wrap=True)
    once = found.recorded

    def show_best(value: float) -> str:
        return format_objective(found.sign * value, found.metric)

    table.add_row("epochs trained", f"{once.epochs:,}", *(f"{value:,.0f}" for value in bands["epochs"]))
    table.add_row("of them guessed", "0", *(f"{value:,.0f}" for value in bands["num_guessed"]))
    table.add_row("workers' time", format_seconds(once.seconds), *(format_seconds(value) for value in bands["seconds"]))
    table.add_row("trials to the end", str(once.num_complete), *(f"{value:.0f}" for value in bands["num_complete"]))
    table.add_row(f"best {found.metric}", show_best(once.best), *(show_best(value) for value in bands["best"]))
    print_table(table)
    num_known = sum(outcome.is_best_known for outcome in found.replayed)
    click.echo(
        f"the best value is on record in {num_known} of {len(found.replayed)} replays, and guessed in the others"
    )
