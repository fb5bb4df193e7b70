"""``tuner finalize``."""

import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.table import Table

from tuner.cli.options import (
    cache_option,
    choose_tracking_uri,
    find_webhook,
    hush_mlflow,
    json_option,
    repeat_results,
    results_option,
)
from tuner.cli.screen import print_table

if TYPE_CHECKING:
    from tuner.track.ledger import StageLedger


@click.command()
@click.argument("search")
@click.option("--top", default=3, show_default=True, type=click.IntRange(min=1), help="How many configurations.")
@click.option("--seeds", default=3, show_default=True, type=click.IntRange(min=1), help="Trainings of each of them.")
@click.option("--retrain", is_flag=True, help="Train the winner once more, on the validation images too.")
@click.option("--again", is_flag=True, help="Open the test set although it was opened before; this is marked.")
@click.option("--ray-address", default=None, help="An existing cluster; without it, Ray starts here.")
@results_option
@cache_option
@json_option
def finalize(
    search: str,
    top: int,
    seeds: int,
    retrain: bool,
    again: bool,
    ray_address: str | None,
    results: Path,
    cache: Path,
    as_json: bool,
) -> None:
    r"""Train a search's best configurations over seeds, and open the test set once.

    They are ranked by their mean on the validation images; two configurations that no search chose are trained beside
    them, to tell whether the search paid. The best model is registered in MLflow. Ctrl-C stops cleanly, and the same
    command goes on.

    \b
    Examples:
        tuner finalize digits
        tuner finalize digits --top 5 --seeds 5 --retrain
        tuner predict digits IMAGE.png
    """
    hush_mlflow()
    from tuner.cli.watch import LiveTable, PlainLines
    from tuner.execute.experiment import Surroundings
    from tuner.execute.finalize import Request, finalize_search
    from tuner.spec import load_text
    from tuner.track.ledger import Ledger
    from tuner.track.provenance import read_provenance

    folder = results.absolute() / search
    stages = Ledger.open(folder).stages()
    asked = load_text(stages[-1].attributes["asked"]) if stages else None
    uri = choose_tracking_uri("off" if asked is None else asked.tracking.mlflow)
    webhook = None if asked is None else find_webhook(asked.notify)
    provenance = read_provenance(Path.cwd())
    around = Surroundings(results.absolute(), cache.absolute(), uri, ray_address, provenance, webhook=webhook)
    watcher = LiveTable() if sys.stdout.isatty() else PlainLines(is_error=as_json)
    ended = finalize_search(search, Request(top, seeds, retrain, again), around, watcher)
    if ended == "interrupted":
        click.echo(f"\ninterrupted; all is recorded. To go on:\n  {shlex.join(['tuner', *sys.argv[1:]])}", err=as_json)
        raise SystemExit(1)
    final = max(
        (final for final in Ledger.open(folder).finals() if final.attributes.get("openings")),
        key=lambda final: int(final.attributes["openings"][-1]["number"]),
    )
    opening = final.attributes["openings"][-1]
    if as_json:
        click.echo(json.dumps(opening, indent=2))
        return
    print_outcome(final, opening)
    click.echo(f"\nmodel: {folder / 'artifacts' / final.name / 'model.pt'}")
    if uri is not None:
        click.echo(f"in MLflow: models:/{search}@champion")
    where = repeat_results()
    click.echo(
        f"See all of it:\n  tuner report {search}{where}\nUse the model:\n  tuner predict {search}{where} IMAGE..."
    )


def print_outcome(final: "StageLedger", opening: dict[str, Any]) -> None:
    """Print what the final trainings and the test set said, as the ledger has it."""
    from tuner.report.leaderboard import describe_config, format_objective

    outcome = opening["outcome"]
    metric, test = outcome["metric"], outcome["test"]
    searched = [parameter.name for parameter in final.space.parameters if not parameter.is_constant]
    table = Table(box=None, pad_edge=False, header_style="bold", title_justify="left", title=f"\n{final.name}")
    titles = ("place", "configuration", metric, "95% interval", "in the search", "test accuracy", "seeds", "config")
    for title in titles:
        table.add_column(title, justify="left" if title in {"configuration", "config"} else "right", no_wrap=True)
    for place, one in enumerate(outcome["contenders"], start=1):
        mean = one["mean"]
        interval = (
            "-"
            if mean["low"] is None
            else f"{format_objective(mean['low'], metric)} to {format_objective(mean['high'], metric)}"
        )
        table.add_row(
            "-" if one["value"] is None else str(place),
            one["name"],
            format_objective(mean["estimate"], metric),
            interval,
            "-" if one["value"] is None else format_objective(one["value"], metric),
            f"{one['test_mean']['estimate']:.2%}",
            str(len(one["validation"])),
            describe_config(one["config"], searched),
        )
    print_table(table)
    how = f"opening {opening['number']} of this search, which is marked" if opening["again"] else "for the first time"
    click.echo(f"\nThe test set was opened at {opening['time']}, {how}: {outcome['data']['num_test']:,} images.")
    low, high = test["interval"]["low"], test["interval"]["high"]
    figures = [f"accuracy {test['accuracy']:.2%} ({low:.2%} to {high:.2%})"]
    figures += [
        f"{title} {test[name]:.2%}"
        for name, title in (("top5_accuracy", "top-5"), ("superclass_accuracy", "superclass"))
        if test[name] is not None
    ]
    figures += [f"loss {test['loss']:.4f}", f"calibration error {test['calibration_error']:.2%}"]
    trained = ", on all training images" if outcome["model"]["is_retrained"] else ""
    click.echo(f"The model, {outcome['model']['trial']}{trained}: {', '.join(figures)}")
    for gain in outcome["gains"]:
        click.echo(f"Did the search pay? {judge_gain(gain)}")
    ensemble = outcome["ensemble"]
    if len(ensemble["members"]) > 1:
        told = (
            f"{kind} vote {ensemble[kind]['accuracy']:.2%}, {describe_gain(ensemble[kind]['gain'])}"
            for kind in ("soft", "hard")
        )
        click.echo(f"An ensemble of {len(ensemble['members'])}: {'; '.join(told)} over {ensemble['members'][0]} alone")
    for warning in outcome["warnings"]:
        click.echo(f"warning: {warning}", err=True)


def judge_gain(gain: dict[str, Any]) -> str:
    """Say whether the search paid, held against a configuration that there would be without it."""
    if gain.get("is_winner"):
        return f"It found nothing better than the {gain['over']} configuration"
    paid = "yes" if gain["low"] > 0 else "no, it lost" if gain["high"] < 0 else "that may be chance"
    return f"{describe_gain(gain)} over the {gain['over']} configuration: {paid}"


def describe_gain(gain: dict[str, Any]) -> str:
    """Say a difference of accuracies with its interval, in percentage points."""
    estimate, low, high = (100 * gain[key] for key in ("estimate", "low", "high"))
    return f"{estimate:+.2f} points ({low:+.2f} to {high:+.2f})"
