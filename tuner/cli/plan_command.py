"""``tuner plan``."""

import dataclasses
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.table import Table

from tuner.cli.options import json_option, set_option, warn
from tuner.cli.screen import print_table
from tuner.cli.sitting import sitting_options
from tuner.spec import load_spec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tuner.execute.forecast import Band, Plan, PlannedStage


@click.command()
@click.argument("spec_path", metavar="SPEC", type=click.Path(path_type=Path))
@set_option
@click.option("--cost-per-gpu-hour", type=click.FloatRange(min=0), default=None, help="What an hour of one GPU costs.")
@click.option(
    "--rehearsals",
    "num_rehearsals",
    default=40,
    show_default=True,
    type=click.IntRange(min=1),
    help="How often the search is simulated; of long ones fewer, so that it takes no more than minutes.",
)
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0), help="What is made up is drawn from.")
@sitting_options
@json_option
def plan(
    spec_path: Path,
    overrides: tuple[str, ...],
    cost_per_gpu_hour: float | None,
    num_rehearsals: int,
    seed: int,
    ray_address: str | None,
    results: Path,
    cache: Path,
    as_json: bool,
) -> None:
    r"""Say what a search will take: trials, epochs, time, GPU hours, disk, memory; and what does not fit.

    Networks are measured on some batches of the images, as many at once as trials will run, on the machines where they
    will. Then the search is simulated again and again with its own sampler, halving and limits. No trial is begun. The
    exit code is 1 if something fails or does not fit.

    \b
    Examples:
        tuner plan search_spaces/coarse.yaml
        tuner plan search_spaces/cifar100/coarse.yaml --set limits.time=8h --cost-per-gpu-hour 2.50
        tuner plan search_spaces/coarse.yaml --ray-address 10.0.0.5:6379 --json
    """
    began = time.monotonic()
    spec = load_spec(spec_path, overrides, warn)
    from tuner.errors import ResourceError
    from tuner.execute.experiment import Surroundings
    from tuner.execute.forecast import list_stages
    from tuner.execute.plan import plan_search

    around = Surroundings(results.absolute(), cache.absolute(), ray_address=ray_address)

    def say(line: str) -> None:
        click.echo(line, err=True)

    found = plan_search(spec, around, say, num_rehearsals=num_rehearsals, seed=seed, began=began)
    num_gpus = found.placement.trials_at_once * found.placement.held_gpus
    if cost_per_gpu_hour is not None and num_gpus == 0:
        raise ResourceError(
            "--cost-per-gpu-hour: no trial gets a GPU, so none is paid for; leave it out, or name a cluster that has "
            "some with --ray-address"
        )
    low, middle, high = (num_gpus * seconds / 3600 * (cost_per_gpu_hour or 0.0) for seconds in found.bands["wall_s"])
    cost = None if cost_per_gpu_hour is None else (low, middle, high)
    stages = list_stages(found.rehearsals, [stage.name for stage in spec.stages])
    if as_json:
        document = {
            "search": spec.name,
            "placement": dataclasses.asdict(found.placement),
            "start_up_s": found.start_up_s,
            **found.bands,
            "cost": cost,
            "rehearsals": len(found.rehearsals),
            "ended": found.ended,
            "stages": [dataclasses.asdict(stage) for stage in stages],
            "networks": [dataclasses.asdict(network) for network in found.networks],
            "spread": found.spread,
            "unsteadiness": found.unsteadiness,
            "misfits": found.misfits,
        }
        click.echo(json.dumps(document, indent=2))
    else:
        print_plan(spec.name, found, stages, cost)
    if found.misfits:
        raise SystemExit(1)


def print_plan(name: str, plan: "Plan", stages: "Sequence[PlannedStage]", cost: "Band | None") -> None:
    """Print what a search will take, what that rests on, and what does not fit."""
    from tuner.report.leaderboard import format_bytes, format_seconds

    placement, num_rehearsals = plan.placement, len(plan.rehearsals)
    gpus = f" and {_count(placement.held_gpus, 'GPU')}" if placement.gpus else ""
    each = f"{_count(placement.cpus * placement.workers, 'CPU')}{gpus}"
    click.echo(f"search {name}: {_count(placement.trials_at_once, 'trial')} at once, each with {each}\n")
    networks = _begin_table("network", "an epoch", "to begin", "memory", "checkpoint")
    ends = [network for network in plan.networks if not network.is_drawn]
    for network in ends:
        if (taken := network.cost) is None:
            networks.add_row(network.name, "fails")
        else:
            numbers = f"{taken.train_s + taken.rest_s:.3g} s", f"{taken.begin_s:.2f} s"
            networks.add_row(network.name, *numbers, format_bytes(taken.memory_bytes), format_bytes(taken.state_bytes))
    print_table(networks)
    click.echo("\ntrials that come to each rung")
    rungs = _begin_table("stage", "epoch", "10%", "50%", "90%")
    for stage in stages:
        for rung, band in stage.rungs.items():
            rungs.add_row(stage.name, str(rung), *(f"{number:.0f}" for number in band))
    print_table(rungs)
    for stage in stages:
        if stage.num_begun < num_rehearsals:
            click.echo(f"stage {stage.name} was begun in {stage.num_begun} of {num_rehearsals} simulated searches")
    click.echo("\nin all")
    totals, bands = _begin_table("", "10%", "50%", "90%"), plan.bands
    for title, band in [("trials", bands["trials"]), ("epochs", bands["epochs"])]:
        totals.add_row(title, *(f"{number:,.0f}" for number in band))
    for stage in stages:
        totals.add_row(f"time of stage {stage.name}", *map(format_seconds, stage.seconds))
    totals.add_row("time of the command", *map(format_seconds, bands["wall_s"]))
    if placement.gpus:
        totals.add_row("GPU hours of training", *(f"{number:,.2f}" for number in bands["gpu_hours"]))
    if cost is not None:
        totals.add_row("cost of these GPUs", *(f"{number:,.2f}" for number in cost))
    totals.add_row("checkpoints at once", *map(format_bytes, bands["disk_bytes"]))
    totals.add_row("memory of all trials", *map(format_bytes, bands["memory_bytes"]))
    print_table(totals)
    for reason, number in plan.ended.most_common() if set(plan.ended) != {"complete"} else ():
        click.echo(f"ended in {number} of {num_rehearsals}: {reason}")
    click.echo(
        f"\nThis rests on {num_rehearsals} simulated searches with made-up learning curves: how good trials get and "
        "so which go on\nand whether a target is reached, is not known before. Epochs were measured for "
        f"{len(plan.networks)} configurations, just now, where\ntrials would run; others are foretold to about "
        f"{plan.spread:.0%}, and the machine's speed was steady to about {plan.unsteadiness:.0%}."
    )
    for misfit in plan.misfits:
        click.echo(click.style("will not fit", fg="red", bold=True) + f"  {misfit}")


def _count(number: float, what: str) -> str:
    return f"{number:g} {what}{'' if number == 1 else 's'}"


def _begin_table(first: str, *others: str) -> Table:
    """Begin a table with a column of words and columns of numbers."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(first, no_wrap=True)
    for other in others:
        table.add_column(other, justify="right", no_wrap=True)
    return table
