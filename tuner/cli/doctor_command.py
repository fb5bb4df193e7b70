"""``tuner doctor``."""

import dataclasses
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tuner.cli.options import cache_option, choose_tracking_uri, json_option, results_option

if TYPE_CHECKING:
    from tuner.execute.doctor import Finding


@click.command()
@click.option("--ray-address", default=None, help="An existing cluster; without it, Ray starts here.")
@results_option
@cache_option
@json_option
def doctor(ray_address: str | None, results: Path, cache: Path, as_json: bool) -> None:
    r"""Look over the whole chain that a search needs, and say what to mend.

    Whether Ray is reached and lets one in, whether every machine has the same versions, GPUs that torch can use, the
    right time, room on its disks and the same folder of results, and whether PostgreSQL, if TUNER_STORAGE names one for
    the ledgers, and MLflow answer. Run it where the search
    will run: on one of the cluster's machines. The exit code is 1 if anything fails.

    \b
    Examples:
        tuner doctor
        tuner doctor --ray-address 10.0.0.5:6379 --results /shared/results
        tuner doctor --json
    """
    findings = []
    for finding in _examine(ray_address, results.absolute(), cache.absolute()):
        findings.append(finding)
        if not as_json:
            click.echo(f"{finding.verdict:<5} {finding.check:<9} {finding.found}")
            if finding.remedy:
                click.echo(f"{'':<16}to do: {finding.remedy}")
    if as_json:
        click.echo(json.dumps([dataclasses.asdict(finding) for finding in findings], indent=2))
    if any(finding.verdict == "fail" for finding in findings):
        raise SystemExit(1)


def _examine_ledgers() -> "Iterator[Finding]":
    """See whether the database that the environment names can hold ledgers."""
    from tuner.errors import TunerError
    from tuner.execute.doctor import Finding
    from tuner.track.store import VARIABLE

    if not (address := os.environ.get(VARIABLE)):
        yield Finding("ledger", "pass", f"a file in each search's folder; {VARIABLE} is not set")
        return
    try:
        from tuner.track.postgres import examine_database

        yield Finding("ledger", "pass", examine_database(address))
    except TunerError as error:
        found, _, remedy = str(error).partition("; ")
        yield Finding("ledger", "fail", found, remedy)


def _examine(ray_address: str | None, results: Path, cache: Path) -> "Iterator[Finding]":
    from tuner.execute.doctor import Finding, examine_cluster

    yield from examine_cluster(ray_address, results, cache)
    yield from _examine_ledgers()
    uri = choose_tracking_uri("auto")
    assert uri is not None, "auto is never off"
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")  # MLflow's own patience is four minutes
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    if uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).exists():
        yield Finding("mlflow", "pass", f"{uri} will be made by the first search")
        return
    from tuner.errors import TrackingError
    from tuner.track.address import hide_password
    from tuner.track.mirror import reach

    try:
        reach(uri)
        yield Finding("mlflow", "pass", f"{hide_password(uri)} answers")
    except TrackingError as error:
        found, _, remedy = str(error).rpartition("; ")
        yield Finding("mlflow", "fail", found, remedy)
