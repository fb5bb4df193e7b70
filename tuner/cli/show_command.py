"""``tuner show``."""

import json
import math
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.table import Table

from tuner.cli.options import json_option, repeat_results, results_option
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
    "--trial", "number", type=click.IntRange(min=0), default=None, help="Explain this trial of the (last) stage."
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

    Below the trials stands what their learning curves show, and what stopping some of them saved and cost.

    \b
    Examples:
        tuner show digits
        tuner show digits --all
        tuner show digits --stage coarse --trial 7
        tuner show digits --stage coarse --top 20
        tuner show digits --json
    """
    if as_json:
        from tuner.track.best import find_front, find_trial
        from tuner.track.plain import make_plain
        from tuner.track.results import build_table

        stages = choose_stages(results / search, stage_name)
        stages = stages if number is None else stages[-1:]
        document = [
            {
                "stage": stage.name,
                "ended": stage.attributes.get("ended"),
                "narrowing": stage.attributes["narrowing"],
                "audit": stage.attributes.get("audit"),
                "trials": build_table(stage.trials() if number is None else [find_trial(stage, number)]).to_pylist(),
                "pareto": sorted(find_front(stage.trials(), stage.objective)),
            }
            for stage in stages
        ]
        click.echo(json.dumps(make_plain({"search": search, "stages": document}), default=str, indent=2))
        return
    if number is not None:
        print_trial(results / search, number, stage_name)
        return
    from tuner.track.store import find_store

    folder = results / search
    print_search(folder, top=top, stage_name=stage_name, everything=everything)
    if not choose_stages(folder, None)[-1].attributes.get("ended") and find_store(folder).find_holder() is None:
        click.echo(f"\nnobody runs this search; go on with it with:\n  tuner resume {search}{repeat_results()}")


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
    from tuner.report.explain import describe_audit, describe_diagnoses
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
    titles = (
        "trial",
        attributes["metric"],
        *further,
        *(["front"] if further else []),
        "at epoch",
        "of",
        "state",
        "curves",
    )
    for title in (*titles, *(["why"] if everything else []), "config"):
        board.add_column(
            title,
            justify="left" if title in {"front", "state", "curves", "config", "why"} else "right",
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
            trial.diagnosis.get("kind", ""),
            *([trial.reason] if everything else []),
            describe_config(trial.config, searched),
        )
    print_table(board)
    if findings := [*describe_diagnoses(trials), *describe_audit(attributes.get("audit"))]:
        click.echo("\n" + "\n".join(findings))


def print_trial(folder: Path, number: int, stage_name: str | None) -> None:
    """Print one trial: why it ended where it did, what its curves show, and every epoch.

    Parameters
    ----------
    folder : Path
        The search's folder.
    number : int
        The trial.
    stage_name : str or None
        Its stage; None for the last one.
    """
    from tuner.report.explain import describe_place, find_places
    from tuner.report.leaderboard import describe_config, format_objective
    from tuner.spec import load_text
    from tuner.strategy.diagnose import ADVICE, KINDS
    from tuner.strategy.halving import find_rungs
    from tuner.track.best import find_trial

    stage = choose_stages(folder, stage_name)[-1]
    trial, metric = find_trial(stage, number), stage.attributes["metric"]
    own = next(one for one in load_text(stage.attributes["spec"]).stages if one.name == stage.name)
    trials = stage.trials()
    places = find_places(trial, trials, find_rungs(own.halving, own.max_epochs), maximize=stage.maximize)
    value = f"{format_objective(trial.value, metric)} at epoch {trial.best_epoch}" if trial.best_epoch else "no result"
    click.echo(f"trial {number} of stage {stage.name} of search {folder.name}: {trial.state}, {metric} {value}")
    click.echo(describe_config(trial.config, trial.config))
    if trial.reason:
        click.echo(f"why: {trial.reason}")
    if trial.again is not None:
        click.echo(f"tries trial {trial.again} again, which failed")
    for place in places:
        click.echo(f"at epoch {place.rung}: {describe_place(place, metric)}")
    if trial.diagnosis:
        kind = KINDS[trial.diagnosis["kind"]]
        click.echo(f"curves: {kind}: {trial.diagnosis['text']}\nadvice: {ADVICE[kind]}")
    table = Table(box=None, pad_edge=False, header_style="bold", title="", title_justify="left")
    names = ("train_loss", "l2_share", "train_accuracy", "val_loss", "val_accuracy", "learning_rate", "update_ratio")
    for title in ("epoch", *names):
        table.add_column(title, justify="right", no_wrap=True)
    for epoch, measured in enumerate(trial.epochs, start=1):
        table.add_row(str(epoch), *(format_measured(name, measured.get(name, math.nan)) for name in names))
    print_table(table)
    if trial.error:
        click.echo(trial.error)


def format_measured(name: str, value: float) -> str:
    """Write what an epoch measured: shares in percent, losses with four digits."""
    if not math.isfinite(value):
        return "-"
    if name.endswith(("accuracy", "share")):
        return f"{value:.2%}"
    return f"{value:.4f}" if name.endswith("loss") else f"{value:.3g}"


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
