"""Searches sent to a real Ray cluster that asks for a token."""

import dataclasses
import json
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cluster_head import Head
from ray._raylet import AuthenticationTokenLoader

from tuner.errors import AddressError, InputError, JobNotFoundError
from tuner.execute.jobs import Jobs, Submission

pytestmark = pytest.mark.timeout(900)  # several processes start one after the other
Tuner = Callable[..., "subprocess.CompletedProcess[str]"]
PLANTED = "planted-secret-4711"
# more trials than a test waits for
ENDLESS = ("stages.coarse.trials=4000", "stages.coarse.max_epochs=81", "resources.trials_at_once=1")


@pytest.fixture
def there(tuner: Tuner, head: Head) -> Tuner:
    """The command, with the cluster's address and token."""

    def run(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        own = {"RAY_API_SERVER_ADDRESS": head.dashboard, "RAY_AUTH_TOKEN_PATH": str(head.token_file)}
        return tuner(*arguments, **(own | environment))

    return run


@pytest.fixture
def jobs(head: Head, monkeypatch: pytest.MonkeyPatch) -> Iterator[Jobs]:
    """The same cluster from this process, which forgets its token afterwards."""
    AuthenticationTokenLoader.instance().reset_cache()
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(head.token_file))
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "overwritten")
    said: list[str] = []
    found = Jobs.open(head.dashboard, said.append)
    assert not said
    yield found
    AuthenticationTokenLoader.instance().reset_cache()


def find_files_with(text: str, *folders: Path) -> list[Path]:
    """The files that hold a text, of those that can be read."""
    files = (path for folder in folders for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return [path for path in files if text.encode() in path.read_bytes()]


def test_without_the_token_nothing_is_sent_and_it_is_said_why(there: Tuner, small: Path, tmp_path: Path) -> None:
    for environment, said in (
        ({"RAY_AUTH_TOKEN_PATH": "", "HOME": str(tmp_path)}, "there is none here"),
        ({"RAY_AUTH_TOKEN": PLANTED}, "does not take this token"),
    ):
        done = there("submit", str(small), **environment)
        assert done.returncode == 2, done.stdout + done.stderr
        assert said in done.stderr
        assert "ray get-auth-token" in done.stderr
        assert PLANTED not in done.stderr


def test_a_search_is_sent_once_seen_stopped_and_gone_on_with(
    there: Tuner, head: Head, jobs: Jobs, small: Path, tmp_path: Path
) -> None:
    results = tmp_path / "shared"
    spec = small.read_text()
    sent = Submission("small", spec, (*ENDLESS,), str(results), {"SECRET": PLANTED})
    options = [word for override in ENDLESS for word in ("--set", override)]
    first = there("submit", str(small), *options, "--results", str(results), "--env", "SECRET", SECRET=PLANTED)
    assert first.returncode == 0, first.stderr
    assert "sent as job small-1" in first.stdout
    job, is_new = jobs.submit(sent)
    assert (job.name, is_new) == ("small-1", False)
    with pytest.raises(InputError, match="tuner stop small-1"):
        jobs.submit(dataclasses.replace(sent, overrides=(*ENDLESS, "seed=5")))

    deadline = time.monotonic() + 200
    while "best" not in jobs.read_progress("small-1"):
        assert not jobs.get("small-1").is_over and time.monotonic() < deadline, jobs.read_log("small-1")
        time.sleep(1)
    status = json.loads(there("status", "--json").stdout)
    assert (status["job"], status["state"], status["progress"]["stage"]) == ("small-1", "running", "coarse")
    assert status["progress"]["done"].endswith("of 4000")
    processes = subprocess.run(["ps", "auxww"], capture_output=True, text=True, check=True).stdout
    assert "-m tuner run spec.yaml" in processes
    assert PLANTED not in processes

    stopped = there("stop", "small", "--address", head.dashboard)
    assert stopped.returncode == 0, stopped.stderr
    assert jobs.wait("small-1").state == "stopped"
    assert "interrupted; all is recorded" in jobs.read_log("small-1")

    limit = f"limits.epochs={int(jobs.read_progress('small-1')['epochs']) + 9}"
    more, is_new = jobs.submit(dataclasses.replace(sent, overrides=(*ENDLESS, limit)))
    assert (more.name, is_new) == ("small-2", True)
    followed = there("logs", "small", "-f")
    assert followed.returncode == 0, followed.stdout + followed.stderr
    assert "going on after" in followed.stdout
    assert "ended early" in followed.stdout
    assert [job.state for job in jobs.list_all()] == ["stopped", "succeeded"]
    with sqlite3.connect(results / "mlflow.db") as runs:
        states = {status for (status,) in runs.execute("select status from runs")}
    assert states and "RUNNING" not in states

    assert (head.session / "session_latest/logs/runtime_env_agent.log").exists(), "where Ray would have written it"
    assert find_files_with("small-2", head.session), "the search for files finds what is there"
    assert not find_files_with(PLANTED, head.session, results)


def test_a_job_that_is_not_there_is_named(jobs: Jobs) -> None:
    with pytest.raises(JobNotFoundError, match="'nothing'"):
        jobs.find("nothing")


def test_an_address_without_a_dashboard_is_said_at_once(head: Head) -> None:
    for address in ("http://127.0.0.1:1", head.gcs):
        with pytest.raises(AddressError, match="http://HOST:8265"):
            Jobs.open(address, print)
