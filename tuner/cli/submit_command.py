"""``tuner submit``."""

import os
import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

import click

from tuner.cli.options import address_option, set_option, warn
from tuner.errors import InputError
from tuner.spec import SearchSpec, load_spec

_MLFLOW = ("MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")
_LEDGER = ("TUNER_STORAGE", "PGUSER", "PGPASSWORD")


@click.command()
@click.argument("spec_path", metavar="SPEC", type=click.Path(path_type=Path))
@set_option
@address_option
@click.option(
    "--results",
    default=None,
    help="The folder of all searches, which every machine of the cluster reaches; by default what TUNER_RESULTS says "
    "there, or else ~/tuner/results.",
)
@click.option(
    "--env",
    "names",
    multiple=True,
    metavar="NAME[=VALUE]",
    help="Give the search this variable of yours, such as a password; may be given again. MLFLOW_TRACKING_URI, "
    "_USERNAME, _PASSWORD and _TOKEN, TUNER_STORAGE, PGUSER and PGPASSWORD go along by themselves.",
)
@click.option("--python", default="python", show_default=True, help="The interpreter on the cluster's head.")
@click.option("--follow", "-f", is_flag=True, help="Then print what it prints, until it ends.")
def submit(
    spec_path: Path,
    overrides: tuple[str, ...],
    address: str,
    results: str | None,
    names: tuple[str, ...],
    python: str,
    follow: bool,
) -> None:
    r"""Send a search to a Ray cluster that this machine is not part of.

    This package and SPEC are sent, nothing else: data sets have to be there. A search that runs there already is not
    sent again; one that was stopped goes on where it was. Values of variables are never printed, and reach only the
    process that drives the search.

    \b
    Examples:
        tuner submit search_spaces/coarse.yaml --address http://head:8265
        tuner submit search_spaces/coarse.yaml --results /shared/results --follow
        tuner submit search_spaces/coarse.yaml --env HTTPS_PROXY --set limits.time=8h
    """
    spec = load_spec(spec_path, overrides, warn)
    refuse_paths_from_here(spec, results)
    environment = read_environment(names)
    from tuner.cli.jobs_command import follow_job
    from tuner.execute.jobs import Jobs, Submission

    jobs = Jobs.open(address, warn)
    job, is_new = jobs.submit(
        Submission(spec.name, spec_path.read_text(), overrides, results, environment, python),
    )
    click.echo(f"search {spec.name!r} " + (f"was sent as job {job.name}" if is_new else f"runs already as {job.name}"))
    if follow:
        follow_job(jobs, job.name)
        return
    at = f" --address {address}"
    for verb, what in (("status", "how far it is"), ("logs -f", "what it prints"), ("stop", "end it; nothing is lost")):
        click.echo(f"  {f'tuner {verb} {job.name}{at}':<60} {what}")


def refuse_paths_from_here(spec: SearchSpec, results: str | None) -> None:
    """Refuse folders that mean nothing on another machine.

    Raises
    ------
    InputError
        If there is one.
    """
    for name, path in (("data.path", spec.data.path), ("--results", results)):
        if path is not None and "://" not in path and not PurePosixPath(path).is_absolute():
            raise InputError(
                f"{name}: {path!r} begins where one happens to be, and only the search file is sent; write where it is "
                "on the cluster's machines, from the root: /..."
            )


def read_environment(names: Iterable[str]) -> dict[str, str]:
    """Return the variables that a search is given: those that are named, MLflow's and the ledger's.

    Raises
    ------
    InputError
        If one is not set, or is not a name.
    """
    tracking = os.environ.get("MLFLOW_TRACKING_URI", "")
    is_elsewhere = not tracking or tracking.startswith(("http://", "https://"))  # a file here is none there
    chosen = {name: os.environ[name] for name in _MLFLOW if name in os.environ and is_elsewhere}
    chosen |= {name: os.environ[name] for name in _LEDGER if name in os.environ}
    for given in names:
        name, is_set, value = given.partition("=")
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            raise InputError(f"--env: {name!r} is no name of a variable; write --env NAME or --env NAME=VALUE")
        if not is_set and name not in os.environ:
            raise InputError(f"--env: {name} is not set here; set it, or write --env {name}=VALUE")
        chosen[name] = value if is_set else os.environ[name]
    return chosen
