"""``tuner check``."""

import dataclasses
import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tuner.cli.options import cache_option, choose_tracking_uri, json_option, results_option, set_option
from tuner.spec import load_spec

if TYPE_CHECKING:
    from tuner.train.checks import Finding

_COLOURS = {"pass": "green", "warn": "yellow", "fail": "red"}


@click.command()
@click.argument("spec_path", metavar="SPEC", type=click.Path(path_type=Path))
@set_option
@click.option("--quick", is_flag=True, help="Leave out all that trains: seconds instead of minutes.")
@click.option("--cpus", default=1, show_default=True, type=click.IntRange(min=1), help="Threads to train with.")
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda or cuda:1.")
@results_option
@cache_option
@json_option
def check(
    spec_path: Path,
    overrides: tuple[str, ...],
    quick: bool,
    cpus: int,
    device: str,
    results: Path,
    cache: Path,
    as_json: bool,
) -> None:
    r"""See whether each network of a search can learn, before any trial is paid for.

    Of each family the smallest and the largest network: its scores, gradients, first loss, L2 term and evaluation;
    whether it learns a few images by heart, and something that holds for others; and at which learning rates. The
    images first. A contact sheet, a figure of the learning rates and all numbers are kept in RESULTS/NAME/check and in
    MLflow. The exit code is 1 if anything fails; a warning may be meant so.

    \b
    Examples:
        tuner check search_spaces/coarse.yaml
        tuner check search_spaces/coarse.yaml --quick
        tuner check search_spaces/cifar100/coarse.yaml --cpus 4 --device cuda
    """
    spec = load_spec(spec_path, overrides, lambda text: click.echo(f"warning: {text}", err=True))
    import numpy as np

    from tuner.errors import InputError, TrackingError
    from tuner.execute.experiment import read_before
    from tuner.report.rate_figure import draw_rates
    from tuner.spec.space import Space
    from tuner.track.check_run import record_check
    from tuner.track.plain import make_plain
    from tuner.train.checks import RateRange, check_space, draw_contact_sheet, find_ends
    from tuner.train.data import load_splits
    from tuner.train.run import require_device, use_threads

    require_device(device)
    use_threads(cpus)
    before = read_before(spec, results.absolute())
    space = before.space if before is not None else spec.space
    assert isinstance(space, Space), "a space that comes from a search has one before it"
    splits = load_splits(spec.data, cache.absolute())
    folder = results.absolute() / spec.name / "check"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        draw_contact_sheet(splits, np.random.default_rng(spec.seed)).save(folder / "contact_sheet.png")
    except OSError as error:
        raise InputError(
            f"{folder}: cannot be written ({error.strerror}); choose another folder with --results"
        ) from error
    tests: dict[str, RateRange] = {}
    findings: list[Finding] = []
    for finding in check_space(
        space, splits, seed=spec.seed, device=device, is_quick=quick, see_rates=tests.__setitem__
    ):
        findings.append(finding)
        if not as_json:
            print_finding(finding)
    if tests:
        curves = {name: (test.rates, test.losses) for name, test in tests.items()}
        windows = {name: (test.low, test.high) for name, test in tests.items()}
        draw_rates(curves, windows, find_ends(space, "learning_rate"), folder / "learning_rates.png")
    recorded = [dataclasses.asdict(finding) for finding in findings]
    plain = make_plain(recorded)
    (folder / "findings.json").write_text(json.dumps(plain, indent=2) + "\n")
    counts: Counter[str] = Counter(finding.status for finding in findings)
    uri = choose_tracking_uri(spec.tracking.mlflow)
    if uri is not None:
        try:
            record_check(uri, spec.name, recorded, folder)
        except TrackingError as error:
            click.echo(f"warning: {error}; all of it is in {folder}", err=True)
    if as_json:
        click.echo(json.dumps({"findings": plain, **{state: counts[state] for state in _COLOURS}}, indent=2))
    else:
        click.echo(f"\n{counts['pass']} passed, {counts['warn']} warnings, {counts['fail']} failed; see {folder}")
    if counts["fail"]:
        raise SystemExit(1)


def print_finding(finding: "Finding") -> None:
    """Print one line of a check, and what to do about it."""
    state = click.style(finding.status, fg=_COLOURS[finding.status], bold=True)
    bound = f" (should be {finding.bound})" if finding.bound and finding.status != "pass" else ""
    click.echo(f"{state}  {finding.subject:<22} {finding.check:<19} {finding.text}{bound}")
    if finding.advice:
        click.echo(f"{'':<49}{finding.advice}")
