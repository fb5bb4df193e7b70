"""Searches on a cluster that one is not part of: sent to Ray's Jobs API, watched and stopped through it.

A job runs ``tuner run`` on the cluster's head. All that is sent is this package and the search file; what the search is
given of the environment travels in a file that only its driver reads, since Ray writes the variables of a runtime
environment into its logs.
"""

import asyncio
import contextlib
import datetime
import hashlib
import logging
import os
import re
import shlex
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import aiohttp
import ray
from ray.exceptions import AuthenticationError as RayAuthenticationError
from ray.job_submission import JobDetails, JobStatus, JobSubmissionClient

import tuner
from tuner.errors import AddressError, AuthenticationError, ClusterError, InputError, JobNotFoundError
from tuner.execute.authentication import WHERE, find_token_header
from tuner.execute.cluster import refuse_silent

UPLOAD_LIMIT_BYTES = 100 * 2**20  # Ray's own, which it looks at only after it has packed everything
STOP_WITHIN_S = 120  # for the driver to write its ledger and MLflow; Ray gives 3 seconds by itself
_POLL_EVERY_S = 1.0
_PATIENCE_S = 60.0  # with a head that does not answer


@dataclass(frozen=True)
class Submission:
    """What a job is to run.

    Attributes
    ----------
    search : str
        The search's name.
    spec : str
        The text of the search file.
    overrides : tuple of str
        What ``--set`` changes in it.
    results : str or None
        The folder of all searches, as the cluster's machines see it; None for what ``TUNER_RESULTS`` says there, or
        else ``tuner/results`` in the home folder.
    environment : mapping
        Variables for the driver; never printed.
    python : str
        The interpreter on the cluster's head.
    """

    search: str
    spec: str
    overrides: tuple[str, ...] = ()
    results: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    python: str = "python"

    @property
    def digest(self) -> str:
        """What tells one submission of a search from another; nothing of the environment goes in."""
        return hashlib.sha256(repr((self.spec, self.overrides, self.results)).encode()).hexdigest()[:16]

    @property
    def entrypoint(self) -> str:
        """The shell command that runs on the head."""
        options = [word for override in self.overrides for word in ("--set", override)]
        command = shlex.join([self.python, "-m", "tuner", "run", "spec.yaml", *options])
        return f'. ./environment && exec {command} --ray-address "$RAY_ADDRESS" --results "$TUNER_RESULTS"'

    def write(self, folder: Path, job: str) -> None:
        """Write the job's working folder: the search file, and the environment in a file that only its owner reads."""
        (folder / "spec.yaml").write_text(self.spec)
        lines = [f"# {job}: read once, then deleted"]  # the name makes each job's package one of its own
        lines += [f"export {name}={shlex.quote(value)}" for name, value in self.environment.items()]
        lines.append(
            'export TUNER_RESULTS="${TUNER_RESULTS:-$HOME/tuner/results}"'
            if self.results is None
            else f"export TUNER_RESULTS={shlex.quote(self.results)}"
        )
        # by default runs go beside the results: the working folder is deleted with the job
        lines += [
            'case "$TUNER_RESULTS" in *://*) runs="$HOME/tuner" ;; *) runs="$TUNER_RESULTS" ;; esac',
            'export MLFLOW_TRACKING_URI="${MLFLOW_TRACKING_URI:-sqlite:///$runs/mlflow.db}"',
            'mkdir -p "$runs" && rm environment',
            "",
        ]
        secret = folder / "environment"
        secret.touch(0o600)
        secret.write_text("\n".join(lines))


@dataclass(frozen=True)
class Job:
    """A search on a cluster, at one moment.

    Attributes
    ----------
    name : str
        The job's own name: its submission id.
    search : str
        The search's name.
    digest : str
        What tells its submission from others of the same search.
    state : str
        pending, running, succeeded, failed or stopped.
    started, ended : datetime or None
        In UTC.
    message : str
        What Ray says of it.
    """

    name: str
    search: str
    digest: str
    state: str
    started: datetime.datetime | None
    ended: datetime.datetime | None
    message: str

    @property
    def is_over(self) -> bool:
        """Whether it will never run again."""
        return self.state in {"succeeded", "failed", "stopped"}


class Jobs:
    """The searches on one cluster.

    Parameters
    ----------
    client : JobSubmissionClient
        Knows where the cluster is, and has its token.
    """

    def __init__(self, client: JobSubmissionClient) -> None:
        self._client = client

    @classmethod
    def open(cls, address: str, say: Callable[[str], None]) -> Self:
        """Reach a cluster, with the token if it asks for one.

        Parameters
        ----------
        address : str
            Of the cluster's dashboard: ``http://HOST:8265``.
        say : function
            Told, in one line, what is worth a warning.

        Raises
        ------
        AddressError
            If no Jobs API answers there.
        AuthenticationError
            If the cluster asks for a token and there is none, or it is not the right one.
        """
        for handler in logging.getLogger("ray").handlers:
            handler.setLevel(logging.WARNING)  # its modules set their own levels
        address = address.rstrip("/") if "://" in address else f"http://{address.rstrip('/')}"
        host = address.partition("://")[2].partition("/")[0]
        refuse_silent(host, f"no Ray dashboard answers at {address}: {_WHICH_ADDRESS}")
        os.environ["RAY_API_SERVER_ADDRESS"] = address  # Ray lets its variables win over what it is called with
        try:
            client = _connect(address, {"Authorization": ""})
            say(
                f"{address} asks for no token: whoever reaches it can run commands there; start its nodes with "
                "RAY_AUTH_MODE=token"
            )
        except RayAuthenticationError:
            header = find_token_header()
            if not header:
                raise AuthenticationError(
                    f"{address} asks for a token and there is none here: get it from who runs the cluster (there: "
                    f"ray get-auth-token), and put it into {WHERE}"
                ) from None
            try:
                client = _connect(address, dict(header))
            except RayAuthenticationError:
                raise AuthenticationError(
                    f"{address} does not take this token: it is another cluster's, or an old one; get it anew from who "
                    f"runs the cluster (there: ray get-auth-token), and put it into {WHERE}, of which the first wins"
                ) from None
        theirs = client._server_ray_version
        if theirs != ray.__version__:
            say(f"{address} runs Ray {theirs}, here is {ray.__version__}: searches are tested with the latter")
        return cls(client)

    def submit(self, submission: Submission) -> tuple[Job, bool]:
        """Send a search, unless it runs there already.

        Returns
        -------
        tuple of Job and bool
            The job, and whether it is a new one.

        Raises
        ------
        InputError
            If too much would be sent, or the search runs there already with another file or elsewhere.
        ClusterError
            If the cluster does not take it.
        """
        earlier = [job for job in self.list_all() if job.search == submission.search]
        for job in earlier:
            if not job.is_over and job.digest != submission.digest:
                raise InputError(
                    f"search {submission.search!r} runs there already as job {job.name}, with another file, other "
                    f"--set or other --results; stop it first (tuner stop {job.name} --address ...), or give this one "
                    "another name with --set name=NAME"
                )
            if not job.is_over:
                return job, False
        numbers = [int(match[1]) for job in earlier if (match := re.search(r"-(\d+)$", job.name))]
        name = f"{submission.search}-{max(numbers, default=0) + 1}"
        package = Path(tuner.__file__).parent
        with tempfile.TemporaryDirectory(prefix="tuner-submit-") as scratch:
            submission.write(Path(scratch), name)
            refuse_large(package, Path(scratch))
            runtime_env = {
                "working_dir": scratch,
                "py_modules": [str(package)],
                "env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": str(STOP_WITHIN_S)},
            }
            try:
                with self._translated(name):
                    self._client.submit_job(
                        entrypoint=submission.entrypoint,
                        submission_id=name,
                        runtime_env=runtime_env,
                        metadata={"search": submission.search, "digest": submission.digest},
                    )
            except ClusterError as error:
                if f"{name} already exists" in str(error):  # sent by someone else at the same moment
                    return self.get(name), False
                raise
        return self.get(name), True

    def list_all(self) -> list[Job]:
        """Return the searches that were ever sent to the cluster, in the order in which they came."""
        with self._translated():
            found = [job for job in self._client.list_jobs() if "search" in (job.metadata or {})]
        return [_read_job(job) for job in sorted(found, key=lambda job: job.start_time or 0)]

    def find(self, name: str | None) -> Job:
        """Find a job by its name, or the latest one of a search by the search's name, or the latest of all.

        Raises
        ------
        JobNotFoundError
            If there is none.
        """
        jobs = self.list_all()
        chosen = [job for job in jobs if job.name == name] or [job for job in jobs if name in {job.search, None}]
        if not chosen:
            names = ", ".join(job.name for job in jobs)
            raise JobNotFoundError(
                f"no job and no search {name!r} on the cluster; "
                + (f"there are: {names}" if names else "none was sent yet: tuner submit SPEC")
                if name
                else "no search was sent to the cluster yet: tuner submit SPEC"
            )
        return chosen[-1]

    def get(self, name: str) -> Job:
        """Return a job by its name.

        Raises
        ------
        ClusterError
            If the cluster does not answer.
        """
        with self._translated(name):
            return _read_job(self._client.get_job_info(name))

    def read_log(self, name: str) -> str:
        """Return all that a job has printed.

        Raises
        ------
        ClusterError
            If the cluster does not answer.
        """
        with self._translated(name):
            return str(self._client.get_job_logs(name))

    def read_progress(self, name: str) -> dict[str, str]:
        """Return how far a job's search is, as it last said: stage, trials, best and the like; empty before."""
        said = re.findall(r"^\S+ progress: (.*=.*)$", self.read_log(name), re.MULTILINE)
        return dict(word.split("=", 1) for word in shlex.split(said[-1]) if "=" in word) if said else {}

    def follow(self, name: str) -> Iterator[str]:
        """Yield what a job prints, piece by piece, until it ends; a connection that breaks is made again.

        Raises
        ------
        ClusterError
            If the cluster does not answer for a minute.
        """
        num_read, deadline = 0, time.monotonic() + _PATIENCE_S
        while True:
            num_seen = 0
            try:
                with contextlib.closing(_step_through(self._client.tail_job_logs(name))) as pieces:
                    for piece in pieces:
                        num_seen, before = num_seen + len(piece), num_seen
                        deadline = time.monotonic() + _PATIENCE_S
                        if num_seen > num_read:
                            yield piece[max(0, num_read - before) :]
                            num_read = num_seen
                if self.get(name).is_over:
                    return
            except (RuntimeError, aiohttp.ClientError, OSError, ClusterError) as error:
                if time.monotonic() > deadline:
                    raise ClusterError(f"job {name}: its log cannot be followed any more ({error})") from error
            time.sleep(_POLL_EVERY_S)

    def wait(self, name: str, timeout_s: float | None = None) -> Job:
        """Wait until a job is over, or for so long, through times when the head does not answer.

        Raises
        ------
        ClusterError
            If the cluster does not answer for a minute.
        """
        began = answered = time.monotonic()
        while True:
            try:
                job = self.get(name)
                answered = time.monotonic()
                if job.is_over or (timeout_s is not None and answered - began >= timeout_s):
                    return job
            except ClusterError:
                if time.monotonic() - answered > _PATIENCE_S:
                    raise
            time.sleep(_POLL_EVERY_S)

    def stop(self, name: str) -> Job:
        """End a job's search as ctrl-C would, and wait until its ledger is written.

        Raises
        ------
        ClusterError
            If it does not end in time.
        """
        deadline = time.monotonic() + STOP_WITHIN_S + _PATIENCE_S
        asked_while = ""
        while not (job := self.get(name)).is_over:
            if job.state != asked_while:  # Ray forgets what was asked of a job that had not begun
                with self._translated(name):
                    self._client.stop_job(name)
                asked_while = job.state
            if time.monotonic() > deadline:
                raise ClusterError(
                    f"job {name} is still {job.state}, {STOP_WITHIN_S + _PATIENCE_S:.0f} s after it was told to stop; "
                    f"see tuner logs {name}"
                )
            time.sleep(_POLL_EVERY_S)
        return job

    @contextlib.contextmanager
    def _translated(self, name: str = "") -> Iterator[None]:
        try:
            yield
        except RayAuthenticationError as error:
            raise AuthenticationError(f"the cluster no longer takes the token: {error}") from error
        except (RuntimeError, OSError, ValueError) as error:
            subject = f"job {name}: " if name else ""
            raise ClusterError(f"{subject}the cluster does not do what was asked: {error}") from error


def refuse_large(*folders: Path) -> None:
    """Refuse to send more than Ray takes, before it is packed.

    Raises
    ------
    InputError
        If the files are too large together.
    """
    sizes = {
        path: path.stat().st_size
        for folder in folders
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    if (total := sum(sizes.values())) > UPLOAD_LIMIT_BYTES:
        largest = max(sizes, key=lambda path: sizes[path])
        raise InputError(
            f"{total / 2**20:.0f} MiB would be sent, and Ray takes {UPLOAD_LIMIT_BYTES / 2**20:.0f}; the largest file "
            f"is {largest} ({sizes[largest] / 2**20:.0f} MiB): it does not belong to the package, move it elsewhere"
        )


_WHICH_ADDRESS = (
    "give the dashboard's address, http://HOST:8265 (a port forwarded by ray dashboard, ssh -L or kubectl port-forward "
    "is as good), or set RAY_API_SERVER_ADDRESS"
)


def _connect(address: str, headers: dict[str, str]) -> JobSubmissionClient:
    try:
        return JobSubmissionClient(address, headers=headers)
    except (RuntimeError, OSError, ValueError, KeyError) as error:
        raise AddressError(f"no Ray dashboard answers at {address} ({error}): {_WHICH_ADDRESS}") from error


def _read_job(found: JobDetails) -> Job:
    metadata: Mapping[str, Any] = found.metadata or {}
    return Job(
        name=str(found.submission_id),
        search=metadata.get("search", ""),
        digest=metadata.get("digest", ""),
        state=JobStatus(found.status).value.lower(),
        started=_utc(found.start_time),
        ended=_utc(found.end_time),
        message=found.message or "",
    )


def _utc(milliseconds: int | None) -> datetime.datetime | None:
    return None if not milliseconds else datetime.datetime.fromtimestamp(milliseconds / 1000, datetime.UTC)


def _step_through(pieces: AsyncIterator[str]) -> Generator[str, None, None]:
    """Yield from an asynchronous iterator where nothing else is asynchronous."""
    with asyncio.Runner() as runner:
        while (piece := runner.run(_next(pieces))) is not None:
            yield piece


async def _next(pieces: AsyncIterator[str]) -> str | None:
    return await anext(pieces, None)
