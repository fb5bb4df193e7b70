"""The whole chain looked over, on a real cluster."""

import json
import os
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from cluster_head import Head, running_node

Tuner = Callable[..., "subprocess.CompletedProcess[str]"]
CHECKS = ["ray", "token", "versions", "gpus", "clock", "disk", "storage", "ledger", "mlflow"]


def examine(tuner: Tuner, head: Head, **environment: str) -> tuple[int, dict[str, dict[str, str]]]:
    """The exit code, and the last finding of every check."""
    done = tuner("doctor", "--ray-address", head.gcs, "--json", **(head.token | environment))
    assert done.stdout.startswith("["), done.stdout + done.stderr
    return done.returncode, {finding["check"]: finding for finding in json.loads(done.stdout)}


@pytest.mark.timeout(600)
def test_a_sound_cluster_passes_and_a_machine_without_the_shared_folder_is_named(
    tuner: Tuner, head: Head, cache: Path, tmp_path: Path, small: Path
) -> None:
    code, findings = examine(tuner, head, MLFLOW_TRACKING_URI="http://127.0.0.1:1")
    assert list(findings) == CHECKS
    assert {check for check, finding in findings.items() if finding["verdict"] != "pass"} == {"mlflow"}
    assert code == 1
    assert "http://127.0.0.1:1" in findings["mlflow"]["found"]
    assert "MLFLOW_TRACKING_URI" in findings["mlflow"]["remedy"]
    assert not list((tmp_path / "results").iterdir()), "it leaves nothing behind"

    if os.geteuid() != 0:
        pytest.skip("a machine that sees another folder needs a mount of its own")
    elsewhere = ("unshare", "--mount", "sh", "-c", f'mount -t tmpfs none {tmp_path}/results && exec "$@"', "sh")
    with running_node(head, cache, *elsewhere):
        deadline = time.monotonic() + 120
        while "2 machines" not in (both := examine(tuner, head)[1])["ray"]["found"]:
            assert time.monotonic() < deadline, both
        refused = tuner("run", str(small), "--ray-address", head.gcs, **head.token)
    assert both["storage"]["verdict"] == "fail"
    assert "No such file" in both["storage"]["found"]
    assert "NFS" in both["storage"]["remedy"]
    assert both["versions"]["verdict"] == "pass"
    assert refused.returncode == 2, "before any trial is started"
    assert f"is not the same everywhere: {socket.gethostname()} (" in refused.stderr
    assert not (tmp_path / "results/small/checkpoints").exists()


def test_a_wrong_token_is_what_is_said_to_be_wrong(tuner: Tuner, head: Head) -> None:
    code, findings = examine(tuner, head, RAY_AUTH_TOKEN="wrong-4711")
    assert code == 1
    assert findings["ray"]["verdict"] == "fail"
    assert "is the token right?" in findings["ray"]["remedy"]
    assert "wrong-4711" not in str(findings)
