"""``tuner extend``."""

from pathlib import Path

import click

from tuner.cli.sitting import sit, sitting_options


@click.command()
@click.argument("search")
@click.option("--trials", default=None, metavar="+N", help="More trials; without the plus sign, the new number.")
@click.option(
    "--max-epochs", default=None, type=click.IntRange(1, 100_000), help="A further stage, of trials of this length."
)
@click.option("--time", "time_s", default=None, metavar="+DURATION", help="More time; without the plus, the new limit.")
@click.option(
    "--stage", "stage_name", default=None, help="The stage that gets the trials, instead of the latest that has begun."
)
@sitting_options
def extend(
    search: str,
    trials: str | None,
    max_epochs: int | None,
    time_s: str | None,
    stage_name: str | None,
    ray_address: str | None,
    results: Path,
    cache: Path,
) -> None:
    r"""Ask more of a search, and go on with it: more trials, longer ones, more time.

    Nothing that was trained is trained again. A trial that is complete stays so: its learning rate has fallen over the
    length that it was made for, so it cannot go on as if it had been made for a longer one. With --max-epochs a further
    stage follows instead, in the space narrowed by what is known; the best configurations are tried there first, anew
    and at the new length. It has a third of the last stage's trials (one in its reduction), or as many as --trials
    says.

    \b
    Examples:
        tuner extend digits --trials +50
        tuner extend digits --max-epochs 81
        tuner extend digits --time +2h
        tuner extend digits --trials +20 --stage fine
    """
    from tuner.errors import InputError
    from tuner.execute.extend import More, extend_search

    if trials is None and max_epochs is None and time_s is None:
        raise InputError("say what to extend: --trials +50, --max-epochs 81 or --time +2h")
    if max_epochs is not None and stage_name is not None:
        raise InputError("--max-epochs adds a stage after the last one; leave --stage out")
    spec = extend_search(
        results.absolute() / search,
        trials=None if trials is None else More.read(trials, "--trials"),
        max_epochs=max_epochs,
        time_s=None if time_s is None else More.read(time_s, "--time"),
        stage_name=stage_name,
    )
    stages = ", ".join(
        f"{stage.name}: {stage.trials} trials of up to {stage.max_epochs} epochs" for stage in spec.stages
    )
    limit = "" if spec.limits.time_s is None else f"; {spec.limits.time_s:g} s"
    click.echo(f"search {search!r} is asked for now: {stages}{limit}")
    sit(spec, results, cache, ray_address, again=["resume", search, "--results", str(results)])
