"""A real MLflow server that wants a password and knows its name."""

import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cluster_head import find_free_port
from mlflow import MlflowClient

from tuner.errors import TrackingError
from tuner.track.mirror import reach

pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),  # MLflow's own
]
Tuner = Callable[..., "subprocess.CompletedProcess[str]"]
PASSWORD = "planted-password-4711"
CREDENTIALS = {"MLFLOW_TRACKING_USERNAME": "admin", "MLFLOW_TRACKING_PASSWORD": PASSWORD}
FEW = ("stages.coarse.trials=3", "stages.fine.trials=1", "stages.coarse.halving=none", "resources.trials_at_once=1")
QUICK = tuple(word for override in FEW for word in ("--set", override))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server as mlflow/ sets it up, on files; only the name 127.0.0.1 is its own."""
    folder = tmp_path_factory.mktemp("mlflow")
    port = find_free_port()
    shipped = Path(__file__).parents[2] / "mlflow/basic_auth.ini"
    (folder / "basic_auth.ini").write_text(shipped.read_text().replace("/auth/users.db", f"{folder}/users.db"))
    environment = {
        "MLFLOW_BACKEND_STORE_URI": f"sqlite:///{folder}/mlflow.db",
        "MLFLOW_ARTIFACTS_DESTINATION": str(folder / "artifacts"),
        "MLFLOW_SERVER_ALLOWED_HOSTS": f"127.0.0.1:{port}",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_AUTH_CONFIG_PATH": str(folder / "basic_auth.ini"),
        "MLFLOW_AUTH_ADMIN_PASSWORD": PASSWORD,
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "key-of-the-forms",
    }
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--app-name", "basic-auth", "--workers", "1"],
            cwd=folder,
            env=os.environ | environment,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        deadline = time.monotonic() + 180
        while not answers(f"http://127.0.0.1:{port}/health"):
            assert process.poll() is None and time.monotonic() < deadline, (folder / "log").read_text()
            time.sleep(0.5)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=60)


def answers(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=5).close()
    except OSError:
        return False
    return True


def test_what_the_server_refuses_is_explained(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(TrackingError, match="MLFLOW_TRACKING_PASSWORD"):
        reach(server)
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    reach(server)
    with pytest.raises(TrackingError, match="--allowed-hosts"):
        reach(server.replace("127.0.0.1", "localhost"))
    secret = server.replace("://", "://admin:hidden-4711@").replace("127.0.0.1", "localhost")
    with pytest.raises(TrackingError) as refused:
        reach(secret)
    assert "hidden-4711" not in str(refused.value)


def test_a_search_is_recorded_there_and_the_password_nowhere(
    tuner: Tuner, server: str, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = CREDENTIALS | {"MLFLOW_TRACKING_PASSWORD": "wrong-word-4711"}
    done = tuner("run", str(small), *QUICK, MLFLOW_TRACKING_URI=server, **wrong)
    assert done.returncode == 0, "training does not wait for MLflow"
    assert "tuner sync small" in done.stdout
    assert "wrong-word-4711" not in done.stdout + done.stderr
    sent = tuner("sync", "small", MLFLOW_TRACKING_URI=server, **CREDENTIALS)
    assert sent.returncode == 0, sent.stderr
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    client = MlflowClient(server)
    experiment = client.get_experiment_by_name("small")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    assert len(runs) == 3 + 1 + 2
    assert {run.info.status for run in runs} <= {"FINISHED", "FAILED"}
    parent = next(run for run in runs if run.data.tags["tuner.stage"] == "fine" and "tuner.trial" not in run.data.tags)
    assert {artifact.path for artifact in client.list_artifacts(parent.info.run_id)} >= {"spec.yaml", "best"}
    files = [path for path in (tmp_path / "results").rglob("*") if path.is_file()]
    assert files
    assert not [path for path in files if PASSWORD.encode() in path.read_bytes()]
    assert PASSWORD not in str([run.to_dictionary() for run in runs])
