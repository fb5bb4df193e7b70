"""A whole search whose trials share a real GPU, and what reads it afterwards."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tuner.track.ledger import Ledger

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no GPU here")

SPEC = """\
name: shared
data: digits
space:
  architecture: {choice: {simple_cnn: {width: {logint: [8, 32]}}, lenet: {}}}
  learning_rate: {loguniform: [1e-3, 0.3]}
stages:
  coarse: {trials: 8, max_epochs: 3, halving: {reduction: 3, min_epochs: 1}}
  fine: {trials: 4, max_epochs: 4}
resources: {gpus: 0.5, trials_at_once: 2}
"""


def test_two_trials_share_a_gpu_and_all_that_follows_uses_it(
    tuner: Callable[..., "subprocess.CompletedProcess[str]"], tmp_path: Path
) -> None:
    (tmp_path / "shared.yaml").write_text(SPEC)
    checked = tuner("check", "shared.yaml", "--device", "cuda")
    assert checked.returncode in {0, 1}, checked.stderr
    found = tuner("run", "shared.yaml")
    assert found.returncode == 0, found.stderr
    trials = [trial for stage in Ledger.open(tmp_path / "results" / "shared").stages() for trial in stage.trials()]
    assert len(trials) == 12
    assert {trial.execution["device"] for trial in trials} == {torch.cuda.get_device_name()}
    for trial in trials:
        assert all(epoch["gpu_seconds"] == pytest.approx(epoch["seconds"] / 2) for epoch in trial.epochs)
        assert all(0 < epoch["peak_memory_bytes"] < 2**31 for epoch in trial.epochs)
    again = tuner("reproduce", "shared", "--trial", "0", "--device", "cuda")
    assert again.returncode == 0, again.stderr
    finalized = tuner("finalize", "shared", "--top", "2", "--seeds", "2")
    assert finalized.returncode == 0, finalized.stderr
    limited = tuner("run", "shared.yaml", "--set", "name=limited", "--set", "limits.gpu_hours=0.0002")
    assert limited.returncode == 0, limited.stderr
    assert "GPU hours was reached" in limited.stdout + limited.stderr
