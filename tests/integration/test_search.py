"""A whole search on a real local Ray, its ledger, and a real MLflow store."""

import json
import math
import os
import shutil
import signal
import sqlite3
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import SPEC, TUNER, clean_environment

Tuner = Callable[..., "subprocess.CompletedProcess[str]"]
ONE_AT_A_TIME = ("--set", "resources.trials_at_once=1")
UNTRACKED = ("--set", "tracking.mlflow=off")
LONGER = ("--set", "stages.coarse.max_epochs=9", "--set", "stages.fine.max_epochs=9")
TIMES = {"seconds", "images_per_second", "timestamp", "peak_memory_bytes"}


def read_trials(folder: Path) -> dict[str, dict[str, Any]]:
    """Every trial of a search by its name, without what differs from run to run."""
    from tuner.track.ledger import Ledger

    return {
        trial.name: {
            "config": dict(trial.config),
            "seed": trial.seed,
            "state": trial.state,
            "reason": trial.reason,
            "epochs": [
                {k: v for k, v in epoch.items() if k not in TIMES and not k.startswith("system/")}
                for epoch in trial.epochs
            ],
        }
        for stage in Ledger.open(folder).stages()
        for trial in stage.trials()
    }


def read_runs(database: Path) -> list[sqlite3.Row]:
    """Every MLflow run, with the tags that say which trial it is."""
    with sqlite3.connect(database) as connection:
        connection.row_factory = sqlite3.Row
        tag = "(select value from tags where tags.run_uuid = runs.run_uuid and key = '{}')"
        names = {"stage": "tuner.stage", "trial": "tuner.trial", "state": "tuner.state", "parent": "mlflow.parentRunId"}
        columns = ", ".join(f"{tag.format(key)} as {name}" for name, key in names.items())
        return connection.execute(f"select run_uuid, status, {columns} from runs").fetchall()


def assert_mirrored(folder: Path, database: Path) -> None:
    """One run a trial and a stage, none running, every point there and none twice."""
    from tuner.track.ledger import Ledger

    stages = Ledger.open(folder).stages()
    runs = read_runs(database)
    trials = {(t.stage, str(t.number)): t for stage in stages for t in stage.trials()}
    expected = [*trials, *((stage.name, None) for stage in stages)]
    assert Counter((run["stage"], run["trial"]) for run in runs) == Counter(expected)
    assert {run["status"] for run in runs} <= {"FINISHED", "FAILED"}
    parents = {run["stage"]: run["run_uuid"] for run in runs if run["trial"] is None}
    with sqlite3.connect(database) as connection:
        for run in runs:
            if run["trial"] is None:
                continue
            trial = trials[run["stage"], run["trial"]]
            assert run["parent"] == parents[run["stage"]]
            assert run["state"] == trial.state
            points = connection.execute(
                "select key, step, value from metrics where run_uuid = ?", (run["run_uuid"],)
            ).fetchall()
            assert Counter((key, step) for key, step, _ in points) == Counter(
                (key, epoch)
                for epoch, measured in enumerate(trial.epochs, start=1)
                for key in [*(k for k in measured if k not in {"epoch", "timestamp"}), "best_val_accuracy"]
            )
            values = {(key, step): value for key, step, value in points}
            for epoch, measured in enumerate(trial.epochs, start=1):
                if math.isfinite(measured["val_accuracy"]):
                    assert values["val_accuracy", epoch] == measured["val_accuracy"]


def test_a_search_runs_coarse_then_fine_and_everything_is_recorded(tuner: Tuner, small: Path, tmp_path: Path) -> None:
    small.write_text(small.read_text() + "notify: {command: [tee, -a, told.json], events: [end]}\n")
    done = tuner("run", str(small), TUNER_NO_CHECK="0")
    assert done.returncode == 0, done.stderr
    assert "check: 21 lines, 21 pass" in done.stdout
    assert "stage fine" in done.stdout
    assert "tuner ui" in done.stdout
    for noise in ("Traceback", "WARNING", "INFO", "raylet"):
        assert noise not in done.stdout + done.stderr
    trials = read_trials(tmp_path / "results/small")
    assert Counter(name.partition("-")[0] for name in trials) == {"coarse": 8, "fine": 4}
    assert_mirrored(tmp_path / "results/small", tmp_path / "mlflow.db")
    (line,) = (tmp_path / "told.json").read_text().splitlines()
    told = json.loads(line)
    assert (told["event"], told["reason"], told["stage"]) == ("end", "complete", "fine")
    artifacts = {
        p.relative_to(tmp_path / "mlartifacts").name for p in (tmp_path / "mlartifacts").rglob("*") if p.is_file()
    }
    assert artifacts == {"spec.yaml", "narrowing.md", "trials.parquet", "config.yaml", "model.pt"}

    again = tuner("run", str(small))
    assert again.returncode == 0, again.stderr
    assert read_trials(tmp_path / "results/small") == trials, "a finished search trains nothing"

    shown = tuner("show", "small", "--all").stdout
    assert "reached the last epoch" in shown
    assert "learning curves: " in shown
    assert "halving: " in shown
    explained = tuner("show", "small", "--stage", "coarse", "--trial", "0").stdout
    assert "at epoch 1: " in explained
    assert "curves: " in explained
    checked = tuner("check", str(small), "--quick")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "21 passed, 0 warnings, 0 failed" in checked.stdout
    files = {p.name for p in (tmp_path / "mlartifacts").rglob("*") if p.is_file()} - artifacts
    assert files == {"contact_sheet.png", "findings.json"}
    best = tuner("best", "small")
    (tmp_path / "best.yaml").write_text(best.stdout)
    origin = next(line.split("/")[1] for line in best.stdout.splitlines() if line.startswith("origin:"))
    trained = tuner("train", "best.yaml", "--json", "--output", "model.pt")
    assert trained.returncode == 0, trained.stderr
    epochs = [{k: v for k, v in json.loads(line).items() if k not in TIMES} for line in trained.stdout.splitlines()]
    assert epochs[: len(trials[origin]["epochs"])] == trials[origin]["epochs"], (
        "the same config and seed, the same numbers"
    )
    assert (tmp_path / "model.pt").exists()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    """A finished search in longer stages, never interrupted, in a folder of results."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "small.yaml").write_text(SPEC)
    command = [TUNER, "run", "small.yaml", *ONE_AT_A_TIME, *LONGER, *UNTRACKED]
    done = subprocess.run(
        command, cwd=folder, env=clean_environment(cache), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return folder / "results"


def test_a_killed_search_goes_on_as_if_nothing_had_happened(
    small: Path, whole: Path, tuner: Tuner, tmp_path: Path, cache: Path
) -> None:
    """kill -9 in the middle of a trial of each stage, then the same command: as the same seed gives it elsewhere."""
    arguments = ["run", str(small), *ONE_AT_A_TIME, *LONGER]
    folder = tmp_path / "results/small"
    for stage, trial in (("coarse", 3), ("fine", 1)):
        driver = subprocess.Popen(
            [TUNER, *arguments],
            cwd=tmp_path,
            env=clean_environment(cache),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        try:
            wait_for(
                lambda s=stage, t=trial: len(read_trials(folder).get(f"{s}-{t}", {}).get("epochs", [])) >= 1,
                driver,
                folder,
            )
        finally:
            driver.send_signal(signal.SIGKILL)
            driver.communicate()
    finished = {name: t for name, t in read_trials(folder).items() if t["state"] not in {"running", "paused"}}
    done = tuner(*arguments)
    assert done.returncode == 0, done.stderr
    trials = read_trials(folder)
    assert finished.items() <= trials.items(), "no finished trial ran again"
    assert trials == read_trials(whole / "small"), "the search is that of a run never interrupted"
    assert_mirrored(folder, tmp_path / "mlflow.db")


def wait_for(condition: Callable[[], bool], driver: "subprocess.Popen[bytes]", folder: Path) -> None:
    """Wait until something is in the ledger; fail if the driver ends before."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if (folder / "ledger.journal").exists() and condition():
            return
        assert driver.poll() is None, f"the search ended early: {driver.stderr and driver.stderr.read()!r}"
        time.sleep(0.02)
    pytest.fail("nothing was recorded in two minutes")


def test_a_signal_to_all_its_processes_stops_it_cleanly_and_the_same_command_goes_on(
    small: Path, tuner: Tuner, tmp_path: Path, cache: Path
) -> None:
    folder = tmp_path / "results/small"
    driver = subprocess.Popen(
        [TUNER, "run", str(small)],
        cwd=tmp_path,
        env=clean_environment(cache),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        process_group=0,
    )
    wait_for(lambda: any(trial["epochs"] for trial in read_trials(folder).values()), driver, folder)
    os.killpg(driver.pid, signal.SIGTERM)  # as a terminal does, timeout, and a batch system
    output, errors = driver.communicate(timeout=60)
    assert driver.returncode == 1
    assert b"interrupted" in output
    assert b"Traceback" not in output + errors
    assert {run["status"] for run in read_runs(tmp_path / "mlflow.db")} <= {"FINISHED", "FAILED", "KILLED"}
    finished = {name: t for name, t in read_trials(folder).items() if t["state"] not in {"running", "paused"}}
    assert tuner("run", str(small)).returncode == 0
    assert finished.items() <= read_trials(folder).items()
    assert_mirrored(folder, tmp_path / "mlflow.db")


def test_a_time_limit_ends_a_search_and_says_so(tuner: Tuner, small: Path, tmp_path: Path) -> None:
    endless = ("--set", "limits.time=1s", "--set", "stages.coarse.trials=500")
    done = tuner("run", str(small), *endless, *ONE_AT_A_TIME, *UNTRACKED)
    assert done.returncode == 0, done.stderr
    assert "time limit" in done.stdout
    trials = read_trials(tmp_path / "results/small")
    assert 0 < len(trials) < 500
    assert all(trial["state"] not in {"running", "paused"} for trial in trials.values())


@pytest.mark.slow
def test_a_limit_of_epochs_ends_a_search_at_the_very_epoch_and_a_larger_one_goes_on(
    tuner: Tuner, small: Path, tmp_path: Path
) -> None:
    for most in (7, 10):
        done = tuner("run", str(small), "--set", f"limits.epochs={most}", *UNTRACKED)
        assert done.returncode == 0, done.stderr
        assert f"ended early: the limit of {most} epochs was reached" in done.stdout
        trials = read_trials(tmp_path / "results/small")
        assert sum(len(trial["epochs"]) for trial in trials.values()) == most
        assert all(trial["state"] not in {"running", "paused"} for trial in trials.values())
        assert f"the limit of {most} epochs was reached" in tuner("show", "small").stdout


def test_fresh_puts_the_earlier_search_aside(tuner: Tuner, small: Path, whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path / "results")
    quick = ("--set", "stages.coarse.trials=1", "--set", "stages.fine.trials=1", *ONE_AT_A_TIME, *UNTRACKED)
    other = tuner("run", str(small), *quick, "--set", "seed=1")
    assert other.returncode == 2
    assert "another seed" in other.stderr
    assert "--fresh" in other.stderr
    fresh = tuner("run", str(small), *quick, "--set", "seed=1", "--fresh")
    assert fresh.returncode == 0, fresh.stderr
    kept = [folder for folder in (tmp_path / "results").iterdir() if folder.name != "small"]
    assert len(kept) == 1
    assert str(kept[0]) in fresh.stderr
    assert read_trials(kept[0]) == read_trials(whole / "small")


def test_a_space_can_come_from_a_finished_search(tuner: Tuner, whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path / "results")
    finer = tmp_path / "finer.yaml"
    finer.write_text(
        "name: finer\ndata: digits\nspace: {from: small}\nstages:\n  fine: {trials: 2, max_epochs: 2, narrow: {}}\n"
    )
    done = tuner("run", str(finer), *ONE_AT_A_TIME, *UNTRACKED)
    assert done.returncode == 0, done.stderr
    assert len(read_trials(tmp_path / "results/finer")) == 2
