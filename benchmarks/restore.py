"""The same kill, here and in Ray Tune as its documentation shows it: what is lost, and what comes double?

A search of 8 trials of up to 9 epochs of 0.15 s, one trial at a time, has its driver killed by SIGKILL after a random
number of epochs, and is gone on with: here by the same command, in Ray Tune by ``Tuner.restore`` with OptunaSearch,
ASHAScheduler and MLflowLoggerCallback, a checkpoint an epoch. Both with TPE, halving by ranks, MLflow on sqlite and the
same objective, which is a function of the configuration and the epoch; each is compared with its own uninterrupted run.

    python benchmarks/restore.py --repeats 4 --output benchmarks/results/restore.json

What is there already is gone on from, so that it may be run in pieces (``--minutes``).
"""

import argparse
import json
import math
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

TRIALS, EPOCHS, WORK_S = 8, 9, 0.15
SPEC = f"""
name: killed
data: digits
space:
  architecture: lenet
  learning_rate: {{loguniform: [1e-4, 1.0]}}
  l2: {{loguniform: [1e-7, 1e-2]}}
stages:
  only:
    trials: {TRIALS}
    max_epochs: {EPOCHS}
    sampler: tpe
    halving: {{rule: rank, type: stopping, reduction: 3, min_epochs: 1, audit: 0}}
resources: {{gpus: 0, trials_at_once: 1}}
"""


def train_epoch(folder: Path, rate: float, l2: float, epoch: int) -> float:
    """Write down that an epoch is trained, work, and return what it is worth."""
    with (folder / "begun.log").open("a") as log:
        log.write(f"{rate!r} {epoch} {time.time()}\n")
    time.sleep(WORK_S)
    distance = (math.log10(rate) + 1.5) ** 2 + (math.log10(l2) + 4) ** 2 / 4
    return math.exp(-distance / 4) * epoch / (epoch + 1)


def drive_tuner(folder: Path) -> None:
    """Run or go on with the search here."""
    from tuner.cli.watch import PlainLines
    from tuner.execute.experiment import Surroundings, run_search
    from tuner.spec import load_text
    from tuner.track.provenance import read_provenance

    def train(task: Any) -> Iterator[dict[str, float]]:
        if task is None:
            return
        task.folder.mkdir(parents=True, exist_ok=True)
        checkpoint = task.folder / "last.pt"
        done = int(checkpoint.read_text()) if checkpoint.exists() else 0
        rate, l2 = task.config["learning_rate"], task.config["l2"]
        for epoch in range(min(done, task.epochs_recorded) + 1, EPOCHS + 1):
            value = train_epoch(folder, rate, l2, epoch)
            checkpoint.write_text(str(epoch))
            yield {"epoch": epoch, "val_accuracy": value, "train_loss": 1.0, "val_loss": 1.0, "timestamp": time.time()}

    around = Surroundings(folder, folder / "cache", f"sqlite:///{folder / 'mlflow.db'}", None, read_provenance(folder))
    run_search(load_text(SPEC), around, PlainLines(), train=train)


def drive_ray(folder: Path) -> None:
    """Run or restore the search in Ray Tune."""
    import ray
    from ray import tune
    from ray.air.integrations.mlflow import MLflowLoggerCallback
    from ray.tune.schedulers import ASHAScheduler
    from ray.tune.search import ConcurrencyLimiter
    from ray.tune.search.optuna import OptunaSearch

    def objective(config: dict[str, float]) -> None:
        start = 1
        if (checkpoint := tune.get_checkpoint()) is not None:
            with checkpoint.as_directory() as held:
                start = int((Path(held) / "epoch").read_text()) + 1
        for epoch in range(start, EPOCHS + 1):
            value = train_epoch(folder, config["learning_rate"], config["l2"], epoch)
            with tempfile.TemporaryDirectory() as made:
                (Path(made) / "epoch").write_text(str(epoch))
                report = {"val_accuracy": value, "epoch": epoch}
                tune.report(report, checkpoint=tune.Checkpoint.from_directory(made))

    ray.init(address="local", num_cpus=1, include_dashboard=False)
    path = folder / "ray" / "killed"
    if tune.Tuner.can_restore(str(path)):
        restored = tune.Tuner.restore(str(path), trainable=objective, resume_errored=True)
        restored.fit()
        return
    callback = MLflowLoggerCallback(tracking_uri=f"sqlite:///{folder / 'mlflow.db'}", experiment_name="killed")
    tune.Tuner(
        objective,
        param_space={"learning_rate": tune.loguniform(1e-4, 1.0), "l2": tune.loguniform(1e-7, 1e-2)},
        tune_config=tune.TuneConfig(
            metric="val_accuracy",
            mode="max",
            num_samples=TRIALS,
            search_alg=ConcurrencyLimiter(OptunaSearch(seed=0), max_concurrent=1),
            scheduler=ASHAScheduler(time_attr="training_iteration", max_t=EPOCHS, grace_period=1, reduction_factor=3),
        ),
        run_config=tune.RunConfig(name="killed", storage_path=str(folder / "ray"), callbacks=[callback]),
    ).fit()


def begin(system: str, folder: Path) -> "subprocess.Popen[bytes]":
    """Start a driver."""
    with (folder / "log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, __file__, "--drive", system, str(folder)], stdout=log, stderr=log, start_new_session=True
        )


def count_begun(folder: Path) -> int:
    """How many epochs were begun."""
    log = folder / "begun.log"
    return len(log.read_text().splitlines()) if log.exists() else 0


def measure(system: str, folder: Path, killed_after: int | None) -> dict[str, Any]:
    """Run one search, killed or not, and count."""
    folder.mkdir(parents=True)
    driver = begin(system, folder)
    if killed_after is not None:
        while count_begun(folder) < killed_after:
            if driver.poll() is not None:
                raise SystemExit(f"{folder}: the search ended before it was killed")
            time.sleep(0.02)
        time.sleep(WORK_S / 2)
        os.kill(driver.pid, signal.SIGKILL)
        driver.wait()
        time.sleep(3)  # its workers end
        driver = begin(system, folder)
    if driver.wait() != 0:
        raise SystemExit(f"{folder}: the search failed; see its log")
    return count(folder)


def count(folder: Path) -> dict[str, Any]:
    """Count trials and epochs by what was trained, and runs and points by what MLflow has."""
    trained: dict[str, list[int]] = {}
    for line in (folder / "begun.log").read_text().splitlines():
        rate, epoch, _ = line.split()
        trained.setdefault(rate, []).append(int(epoch))
    with sqlite3.connect(folder / "mlflow.db") as connection:
        # the runs of trials: those that have a learning rate
        wanted = "select run_uuid from params where key = 'learning_rate'"
        runs = connection.execute(f"select run_uuid, status from runs where run_uuid in ({wanted})").fetchall()
        points = connection.execute(
            f"select p.value, m.step from metrics m join params p using (run_uuid) where m.key = 'val_accuracy' and "
            f"p.key = 'learning_rate' and run_uuid in ({wanted})"
        ).fetchall()
    by_point = Counter((float(rate), step) for rate, step in points)
    by_epoch = Counter((float(rate), epoch) for rate, epochs in trained.items() for epoch in set(epochs))
    return {
        "trials": len(trained),
        "runs": len(runs),
        "runs_still_running": sum(status == "RUNNING" for _, status in runs),
        "epochs_trained_twice": sum(len(epochs) - len(set(epochs)) for epochs in trained.values()),
        "points_missing": (by_epoch - by_point).total(),
        "points_double": (by_point - by_epoch).total(),
        "lengths": {rate: max(epochs) for rate, epochs in trained.items()},
    }


def compare(killed: dict[str, Any], whole: dict[str, Any]) -> dict[str, Any]:
    """Add how the search went another way than without the kill."""
    now, then = killed.pop("lengths"), whole["lengths"]
    same = sum(now.get(rate) == length for rate, length in then.items())
    return killed | {
        "trials_as_uninterrupted": same,
        "configurations_as_uninterrupted": len(now.keys() & then.keys()),
        "trials_too_many": killed["trials"] - TRIALS,
    }


def main() -> None:
    """Measure both, in turn."""
    if sys.argv[1:2] == ["--drive"]:
        {"tuner": drive_tuner, "ray": drive_ray}[sys.argv[2]](Path(sys.argv[3]))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=4)
    parser.add_argument("--minutes", type=float, default=1e9)
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/restore.json"))
    given = parser.parse_args()
    result = json.loads(given.output.read_text()) if given.output.exists() else {"whole": {}, "killed": []}
    end = time.monotonic() + 60 * given.minutes
    for repeat in range(-1, given.repeats):
        for system in ("tuner", "ray"):
            if time.monotonic() > end or any(
                (row["repeat"], row["system"]) == (repeat, system) for row in result["killed"]
            ):
                continue
            with tempfile.TemporaryDirectory() as made:
                if repeat < 0:
                    if system not in result["whole"]:
                        result["whole"][system] = measure(system, Path(made) / "search", None)
                else:
                    after = int(np.random.default_rng(repeat).integers(4, 20))
                    counted = compare(measure(system, Path(made) / "search", after), result["whole"][system])
                    row = {"repeat": repeat, "system": system, "killed_after_epochs": after, **counted}
                    print(json.dumps(row), flush=True)
                    result["killed"].append(row)
            given.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
