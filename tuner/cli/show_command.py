"""``tuner show``."""

import json
import math
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.table import Table

from tuner.cli.options import json_option, results_option
from tuner.cli.screen import print_table

if TYPE_CHECKING:
    from tuner.track.ledger import StageLedger


@click.command()
@click.argument("search")
@click.option("--top", default=10, show_default=True, type=click.IntRange(min=1), help="Trials of the leaderboard.")
@click.option("--stage", "stage_name", default=None, help="Only this stage.")
@click.option(
    "--all", "everything", is_flag=True, help="Every trial, in the order in which they began, and why each ended."
)
@click.option(
    "--trial",
    "number",
    type=click.IntRange(min=0),
    default=None,
    help="One trial of the (last) stage: its config, its epochs, why it ended, and the traceback if it failed.",
)
@results_option
@json_option
def show(
    search: str,
    top: int,
    stage_name: str | None,
    everything: bool,
    number: int | None,
    results: Path,
    as_json: bool,
) -> None:
    r"""Show a search: its stages, its best trials, and why each trial ended.

    \b
    Examples:
        tuner show digits
        tuner show digits --all
        tuner show digits --stage coarse --top 20
        tuner show digits --stage coarse --trial 7
        tuner show digits --json
    """
    if as_json:
        from tuner.track.best import find_front
        from tuner.track.results import build_table

        stages = choose_stages(results / search, stage_name)
        document = [
            {
                "stage": stage.name,
                "ended": stage.attributes.get("ended"),
                "narrowing": stage.attributes["narrowing"],
                "trials": build_table(stage.trials()).to_pylist(),
                "pareto": sorted(find_front(stage.trials(), stage.objective)),
            }
            for stage in stages
        ]
        click.echo(json.dumps({"search": search, "stages": document}, default=str, indent=2))
        return
    if number is not None:
        print_trial(results / search, number, stage_name)
        return
    print_search(results / search, top=top, stage_name=stage_name, everything=everything)


def print_trial(folder: Path, number: int, stage_name: str | None) -> None:
    """Print all that is known of one trial.

    Parameters
    ----------
    folder : Path
        The search's folder.
    number : int
        The trial.
    stage_name : str or None
        Its stage; None for the last one.
    """
    from tuner.errors import SearchNotFoundError
    from tuner.report.leaderboard import describe_config, format_objective, format_seconds

    stage = choose_stages(folder, stage_name)[-1]
    trials = stage.trials()
    if number >= len(trials):
        raise SearchNotFoundError(
            f"search {folder.name!r} has no trial {number} in stage {stage.name!r}; it has 0 to {len(trials) - 1}"
        )
    trial, metric = trials[number], stage.attributes["metric"]
    click.echo(f"{trial.name}: {trial.state}{trial.reason and ': '}{trial.reason}")
    click.echo(f"  config: {describe_config(trial.config, list(trial.config))}")
    seconds = format_seconds(sum(epoch.get("seconds", 0.0) for epoch in trial.epochs))
    best = f", best {format_objective(trial.value, metric)} at epoch {trial.best_epoch}" if trial.best_epoch else ""
    click.echo(f"  epochs: {len(trial.epochs)} in {seconds}{best}")
    if trial.again is not None:
        click.echo(f"  tries again what failed as {stage.name}-{trial.again}")
    if trial.execution:
        click.echo("  trained with: " + ", ".join(f"{name} {value}" for name, value in trial.execution.items()))
    if trial.error:
        click.echo(f"\n{trial.error}")


def print_search(folder: Path, *, top: int, stage_name: str | None = None, everything: bool = False) -> None:
    """Print a search's stages, and a leaderboard for the last of them or for the one that is named.

    Parameters
    ----------
    folder : Path
        The search's folder.
    top : int
        Rows of the leaderboard.
    stage_name : str or None
        The stage to rank.
    everything : bool
        Whether to list all trials in their order, with the reason of each one's end.
    """
    from tuner.report.leaderboard import describe_config, format_objective, format_seconds
    from tuner.track.best import find_front, rank_trials
    from tuner.track.ledger import Ledger

    chosen = choose_stages(folder, stage_name)
    stages = Ledger.open(folder).stages()
    overview = Table(box=None, pad_edge=False, header_style="bold", title=f"search {folder.name}", title_justify="left")
    for title in (
        "stage",
        "trials",
        "complete",
        "stopped",
        "diverged",
        "failed",
        "running",
        "paused",
        "epochs",
        "time",
        "best",
        "ended",
    ):
        overview.add_column(title, justify="left" if title in {"stage", "ended"} else "right", no_wrap=True)
    for stage in stages:
        trials, attributes = stage.trials(), stage.attributes
        counts = Counter(trial.state for trial in trials)
        ranked = rank_trials(trials, maximize=stage.maximize)
        overview.add_row(
            stage.name,
            str(len(trials)),
            *(str(counts[state]) for state in ("complete", "stopped", "diverged", "failed", "running", "paused")),
            str(sum(len(trial.epochs) for trial in trials)),
            format_seconds(attributes.get("elapsed_s", 0.0)),
            format_objective(ranked[0].value, attributes["metric"]) if ranked else "-",
            attributes.get("ended") or "not yet",
        )
    print_table(overview)
    stage = chosen[-1]
    trials, attributes = stage.trials(), stage.attributes
    space = stage.space
    searched = [parameter.name for parameter in space.parameters if not parameter.is_constant]
    ranked = rank_trials(trials, maximize=stage.maximize)
    further, front = stage.objective.also, find_front(trials, stage.objective)
    board = Table(
        box=None,
        pad_edge=False,
        header_style="bold",
        title=f"\n{stage.name}: "
        + ("all trials" if everything else f"best {min(top, len(ranked))} of {len(trials)} trials")
        + (f", and the {len(front)} of the Pareto front" if further and not everything else ""),
        title_justify="left",
    )
    titles = ("trial", attributes["metric"], *further, *(["front"] if further else []), "at epoch", "of", "state")
    for title in (*titles, *(["why"] if everything else []), "config"):
        board.add_column(
            title,
            justify="left" if title in {"front", "state", "config", "why"} else "right",
            no_wrap=title not in {"config", "why"},
        )
    best = [trial for place, trial in enumerate(ranked) if place < top or trial.number in front]
    for trial in trials if everything else best:
        measured = trial.epochs[trial.best_epoch - 1] if trial.best_epoch else {}
        board.add_row(
            str(trial.number),
            format_objective(trial.value, attributes["metric"]),
            *(format_objective(measured.get(metric, math.nan), metric) for metric in further),
            *(["*" if trial.number in front else ""] if further else []),
            str(trial.best_epoch or "-"),
            str(len(trial.epochs)),
            trial.state,
            *([trial.reason] if everything else []),
            describe_config(trial.config, searched),
        )
    print_table(board)


def choose_stages(folder: Path, stage_name: str | None) -> list["StageLedger"]:
    """Return a search's stages, or the one that is named; SearchNotFoundError if there is none."""
    from tuner.errors import SearchNotFoundError
    from tuner.track.ledger import Ledger

    stages = Ledger.open(folder).stages()
    if not stages:
        raise SearchNotFoundError(f"search {folder.name!r} has begun no stage yet; start it with: tuner run SPEC")
    chosen = [stage for stage in stages if stage_name in {None, stage.name}]
    if not chosen:
        names = ", ".join(stage.name for stage in stages)
        raise SearchNotFoundError(f"search {folder.name!r} has no stage {stage_name!r}; it has: {names}")
    return chosen
