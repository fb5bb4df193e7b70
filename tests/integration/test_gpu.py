"""A whole search whose trials share a real GPU, and what reads it afterwards."""

import json
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tuner.spec.search import DataSpec
from tuner.track.ledger import Ledger
from tuner.train.data import LabelledImages, Opening, open_images, prepare, prepare_test

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


def read_test(cache: Path) -> LabelledImages:
    """The images that finalize scored."""
    data, opening = DataSpec(name="digits"), Opening(lambda: None)
    return open_images(prepare_test(data, cache, prepare(data, cache), opening), opening)


def save_test_images(folder: Path, cache: Path) -> list[str]:
    """Write them to files."""
    names = []
    for number, pixels in enumerate(read_test(cache).images):
        names.append(f"{number}.png")
        Image.fromarray(pixels[:, :, 0]).save(folder / names[-1])
    return names


def test_two_trials_share_a_gpu_and_all_that_follows_uses_it(
    tuner: Callable[..., "subprocess.CompletedProcess[str]"], tmp_path: Path, cache: Path
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
        assert all(0 < epoch["system/gpu_0_memory_usage_percentage"] <= 100 for epoch in trial.epochs)
    again = tuner("reproduce", "shared", "--trial", "0", "--json")
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["surroundings"] == [], "on the GPU, as the trial had it"
    finalized = tuner("finalize", "shared", "--top", "2", "--seeds", "2", "--json")
    assert finalized.returncode == 0, finalized.stderr
    outcome = json.loads(finalized.stdout)["outcome"]
    assert outcome["scored_on"] == [f"{socket.gethostname()}, {torch.cuda.get_device_name()}"]
    paths = save_test_images(tmp_path, cache)
    for device in ("cpu", "cuda"):
        found = tuner("predict", "shared", *paths, "--device", device, "--json")
        assert found.returncode == 0, found.stderr
        classes = [int(row["classes"][0]["class"]) for row in json.loads(found.stdout)]
        right = np.mean(classes == read_test(cache).labels)
        assert right == pytest.approx(outcome["test"]["accuracy"], abs=0.006), "two images may be ties"
    limited = tuner("run", "shared.yaml", "--set", "name=limited", "--set", "limits.gpu_hours=0.0002")
    assert limited.returncode == 0, limited.stderr
    assert "GPU hours was reached" in limited.stdout + limited.stderr
