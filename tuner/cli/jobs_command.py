"""``tuner jobs``, ``tuner status``, ``tuner logs`` and ``tuner wait``: searches that were sent to a cluster."""

import datetime
import json
from typing import TYPE_CHECKING, Any

import click
from rich.table import Table

from tuner.cli.options import address_option, json_option, warn
from tuner.cli.screen import print_table

if TYPE_CHECKING:
    from tuner.execute.jobs import Job, Jobs


@click.command()
@address_option
@json_option
def jobs(address: str, as_json: bool) -> None:
    r"""List the searches that were sent to a cluster.

    Their own record is where their results are: tuner show SEARCH tells more there.

    \b
    Example:
        tuner jobs --address http://head:8265
    """
    found = _open(address).list_all()
    if as_json:
        click.echo(json.dumps([_describe(job) for job in found], indent=2))
        return
    if not found:
        click.echo("no search was sent to this cluster yet; send one with: tuner submit SPEC")
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("job", "search", "state", "sent", "for"):
        table.add_column(title, justify="right" if title == "for" else "left")
    for job in found:
        sent = "-" if job.started is None else job.started.astimezone().strftime("%Y-%m-%d %H:%M")
        table.add_row(job.name, job.search, job.state, sent, _format_age(job))
    print_table(table)


@click.command()
@click.argument("job", required=False)
@address_option
@json_option
def status(job: str | None, address: str, as_json: bool) -> None:
    r"""Show how far a search on a cluster is.

    JOB is a job's name or its search's, then its latest job; without it, the latest of all.

    \b
    Examples:
        tuner status
        tuner status digits --json
    """
    jobs = _open(address)
    found = jobs.find(job)
    progress = {} if found.state == "pending" else jobs.read_progress(found.name)
    if as_json:
        click.echo(json.dumps({**_describe(found), "progress": progress}, indent=2))
        return
    click.echo(f"job {found.name}: {found.state}, {_format_age(found)}")
    if found.state in {"pending", "failed"} and found.message:
        click.echo(f"  {found.message.strip()}")
    if progress:
        click.echo(f"search {found.search}: {format_progress(progress)}")
    elif found.state == "running":
        click.echo(f"search {found.search}: starting; see tuner logs {found.name}")


@click.command()
@click.argument("job", required=False)
@click.option("--follow", "-f", is_flag=True, help="Go on until the job ends.")
@address_option
def logs(job: str | None, follow: bool, address: str) -> None:
    r"""Print what a search on a cluster has printed.

    JOB is a job's name or its search's, then its latest job; without it, the latest of all.

    With -f, the exit code is that of tuner wait. Ctrl-C ends only the printing.

    \b
    Examples:
        tuner logs digits
        tuner logs digits -f
    """
    jobs = _open(address)
    name = jobs.find(job).name
    if follow:
        follow_job(jobs, name)
    else:
        click.echo(jobs.read_log(name), nl=False)


@click.command()
@click.argument("job", required=False)
@click.option(
    "--timeout", "timeout_s", type=click.FloatRange(min=0), default=None, help="Give up after so many seconds."
)
@address_option
def wait(job: str | None, timeout_s: float | None, address: str) -> None:
    r"""Wait until a search on a cluster is over; exit with 0 only if it succeeded.

    JOB is a job's name or its search's, then its latest job; without it, the latest of all.

    \b
    Examples:
        tuner wait digits && tuner logs digits
        tuner wait digits --timeout 3600
    """
    jobs = _open(address)
    _end(jobs, jobs.wait(jobs.find(job).name, timeout_s))


def stop_job(address: str, name: str) -> None:
    """Stop a search on a cluster, as ctrl-C ends it, and wait until all of it is recorded."""
    jobs = _open(address)
    found = jobs.find(name)
    if found.is_over:
        click.echo(f"job {found.name} is over already: {found.state}")
        return
    ended = jobs.stop(found.name)
    click.echo(f"job {ended.name}: {ended.state}; all is recorded, and the same tuner submit goes on where it was")


def follow_job(jobs: "Jobs", name: str) -> None:
    """Print a job's log until the job ends, then end with its exit code."""
    for piece in jobs.follow(name):
        click.echo(piece, nl=False)
    _end(jobs, jobs.get(name))


def format_progress(progress: dict[str, str]) -> str:
    """Write in one line how far a search is."""
    left = dict(progress)
    words = [f"stage {left.pop('stage')} ({left.pop('number')})", f"{left.pop('done')} trials"]
    words += [f"best {left.pop('metric')} {left.pop('best')}"] if "best" in left else []
    return ", ".join([*words, *(f"{name} {value}" for name, value in left.items())])


def _open(address: str) -> "Jobs":
    from tuner.execute.jobs import Jobs

    return Jobs.open(address, warn)


def _end(jobs: "Jobs", job: "Job") -> None:
    """Say how a job ended, and end with 1 unless it succeeded."""
    click.echo(f"job {job.name}: {job.state}, {_format_age(job)}", err=True)
    if job.state != "succeeded":
        raise SystemExit(1)


def _describe(job: "Job") -> dict[str, Any]:
    times = {name: time and time.isoformat() for name, time in (("started", job.started), ("ended", job.ended))}
    return {"job": job.name, "search": job.search, "state": job.state, **times, "message": job.message}


def _format_age(job: "Job") -> str:
    from tuner.report.leaderboard import format_seconds

    if job.started is None:
        return "not begun"
    return format_seconds(((job.ended or datetime.datetime.now(datetime.UTC)) - job.started).total_seconds())
