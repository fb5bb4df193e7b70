"""``tuner train``."""

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tuner.cli.options import cache_option, json_option, set_option
from tuner.spec import load_training_spec

if TYPE_CHECKING:
    from tuner.train.loop import EpochResult


@click.command()
@click.argument("spec_path", metavar="CONFIG", type=click.Path(path_type=Path))
@set_option
@click.option("--cpus", default=1, show_default=True, type=click.IntRange(min=1), help="Threads to train with.")
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda or cuda:1.")
@click.option(
    "--output", type=click.Path(dir_okay=False, path_type=Path), default=None, help="Save the best epoch's model here."
)
@cache_option
@json_option
def train(
    spec_path: Path, overrides: tuple[str, ...], cpus: int, device: str, output: Path | None, cache: Path, as_json: bool
) -> None:
    r"""Train one configuration, without a search.

    CONFIG is what ``tuner best`` prints. The same file and seed give the same numbers again. The exit code is 1 if the
    training diverges.

    \b
    Examples:
        tuner best digits > best.yaml
        tuner train best.yaml
        tuner train best.yaml --set epochs=50 --output model.pt
    """
    spec = load_training_spec(spec_path, overrides)
    from tuner.errors import InputError, RunError
    from tuner.report.leaderboard import format_objective
    from tuner.strategy.diagnose import ADVICE
    from tuner.track.plain import make_plain
    from tuner.train.data import prepare
    from tuner.train.run import require_device, run_training, use_threads

    require_device(device)
    if output is not None and not output.absolute().parent.is_dir():
        raise InputError(f"--output {output}: there is no folder {output.parent}; make it, or choose another place")
    use_threads(cpus)
    for note in prepare(spec.data, cache.absolute()).notes:
        click.echo(f"data: {note}", err=True)
    best = None
    results = run_training(
        spec.config,
        spec.data,
        spec.objective,
        max_epochs=spec.epochs,
        seed=spec.seed,
        cache=cache.absolute(),
        device=device,
        model=output,
        is_growing=spec.fidelity == "data",
    )
    for result, is_best, *_ in results:
        best = result if is_best else best
        if as_json:
            measured = {name: value for name, value in dataclasses.asdict(result).items() if value is not None}
            click.echo(json.dumps(make_plain(measured)))
        else:
            click.echo(describe(result, spec.epochs))
    metric = spec.objective.metric
    if best is not None and not as_json:
        click.echo(f"best: {metric} {format_objective(getattr(best, metric), metric)} at epoch {best.epoch}")
    if output is not None and best is not None and not as_json:
        click.echo(f"model: {output}")
    if not result.is_finite:
        kept = "no model was saved" if best is None else f"{output} has the model of epoch {best.epoch}"
        raise RunError(
            f"{spec_path}: the training diverged at epoch {result.epoch}, its loss is not finite or far above a guess's"
            f"{'' if output is None else f'; {kept}'}; {ADVICE['diverged']}"
        )


def describe(result: "EpochResult", epochs: int) -> str:
    """Say in one line what an epoch measured."""
    accuracies = {
        "accuracy": result.val_accuracy,
        "top-5": result.val_top5_accuracy,
        "superclass": result.val_superclass_accuracy,
    }
    told = ", ".join(f"{name} {value:.2%}" for name, value in accuracies.items() if value is not None)
    return (
        f"epoch {result.epoch:>3} of {epochs}: loss {result.train_loss:.4f} "
        f"({result.train_loss_with_l2:.4f} with L2, {result.l2_share:.1%} of it), "
        f"accuracy {result.train_accuracy:.2%}; validation loss {result.val_loss:.4f}, {told}; "
        f"learning rate {result.learning_rate:.3g}, gradient {result.gradient_norm:.3g}, "
        f"step/weights {result.update_ratio:.2g}, {result.images_per_second:,.0f} images/s"
    )
