"""What a search will take, said by the installed command, on a real local Ray."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

Tuner = Callable[..., "subprocess.CompletedProcess[str]"]


def test_a_search_is_planned_and_nothing_is_begun(tuner: Tuner, small: Path, tmp_path: Path) -> None:
    done = tuner("plan", str(small), "--json", "--rehearsals", "2", "--set", "limits.epochs=20")
    assert done.returncode == 0, done.stderr
    planned = json.loads(done.stdout)
    assert planned["epochs"] == [20.0] * 3
    assert planned["ended"] == {"the limit of 20 epochs was reached": 2}
    assert planned["stages"][0]["rungs"]["1"] == [8.0] * 3
    assert 0 < planned["seconds"][0] < planned["wall_s"][0]
    assert {one["name"] for one in planned["networks"] if not one["is_drawn"]} == {
        "simple_cnn, smallest", "simple_cnn, largest", "lenet",
    }  # fmt: skip
    assert all(one["cost"]["train_s"] > 0 and one["fault"] == "" for one in planned["networks"])
    assert planned["misfits"] == []
    assert [path.name for path in tmp_path.iterdir()] == [small.name], "no trial, no folder, no record"


def test_what_can_never_be_placed_is_refused_before_anything_is_measured(tuner: Tuner, small: Path) -> None:
    done = tuner("plan", str(small), "--set", "resources.gpus=64")
    assert done.returncode == 2
    assert "64 GPUs" in done.stderr
    assert "measuring" not in done.stderr
