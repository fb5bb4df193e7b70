"""What does a trial cost beyond its own work?

Runs 32 trials of 6 epochs of 0.05 s of sleep on 2 slots, interleaved and several times over, with

- tuner, tracking in MLflow (sqlite), and the same without tracking;
- Ray Tune as its documentation shows it: function trainable, OptunaSearch, ASHAScheduler, MLflowLoggerCallback on
sqlite;
- Optuna's own loop in two processes on a journal file, without tracking.

    python benchmarks/overhead.py --repeats 3 --output benchmarks/results/overhead.json

Every epoch records when it began and ended. From these: *start-up*, from the command to the end of the first epoch;
*overhead*, the slots' time between the first epoch's begin and the last one's end that was no work, per trial;
*busy*, the share of that time in which a slot had a trial.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

TRIALS, EPOCHS, WORK_S, SLOTS = 32, 6, 0.05, 2

SPEC = f"""
name: overhead
data: digits
space:
  architecture: lenet
  learning_rate: {{loguniform: [1e-4, 1.0]}}
  l2: {{loguniform: [1e-7, 1e-2]}}
stages:
  only: {{trials: {TRIALS}, max_epochs: {EPOCHS}, sampler: tpe, halving: {{min_epochs: {EPOCHS}}}}}
resources: {{gpus: 0, trials_at_once: {SLOTS}}}
tensorboard: {{scalars: false}}
"""


def work() -> dict[str, float]:
    """Do one epoch's work and say when."""
    start = time.time()
    time.sleep(WORK_S)
    return {"start": start, "end": time.time(), "val_accuracy": 0.5, "train_loss": 1.0, "val_loss": 1.0}


def sleep_instead(task: Any) -> Iterator[dict[str, float]]:
    """Stand where training stands."""
    if task is not None:
        for epoch in range(1, EPOCHS + 1):
            yield {"epoch": epoch, "trial": task.number, **work()}


def run_tuner(folder: Path, tracked: bool) -> list[dict[str, float]]:
    """Run the search with everything but the training."""
    from tuner.cli.watch import PlainLines
    from tuner.execute.experiment import Surroundings, run_search
    from tuner.spec import load_text
    from tuner.track.ledger import Ledger
    from tuner.track.provenance import read_provenance

    uri = f"sqlite:///{folder / 'mlflow.db'}" if tracked else None
    around = Surroundings(folder, folder / "cache", uri, None, read_provenance(folder))
    run_search(load_text(SPEC), around, PlainLines(), train=sleep_instead)
    return [dict(epoch) for trial in Ledger.open(folder / "overhead").stages()[0].trials() for epoch in trial.epochs]


def run_ray_tune(folder: Path) -> list[dict[str, float]]:
    """Run the same as Ray Tune's documentation shows it."""
    import ray
    from ray import tune
    from ray.air.integrations.mlflow import MLflowLoggerCallback
    from ray.tune.schedulers import ASHAScheduler
    from ray.tune.search.optuna import OptunaSearch

    def objective(config: dict[str, float]) -> None:
        for _ in range(EPOCHS):
            tune.report(work())

    ray.init(num_cpus=SLOTS)
    results = tune.Tuner(
        objective,
        param_space={"learning_rate": tune.loguniform(1e-4, 1.0), "l2": tune.loguniform(1e-7, 1e-2)},
        tune_config=tune.TuneConfig(
            metric="val_accuracy",
            mode="max",
            num_samples=TRIALS,
            max_concurrent_trials=SLOTS,
            search_alg=OptunaSearch(),
            scheduler=ASHAScheduler(max_t=EPOCHS, grace_period=EPOCHS),
        ),
        run_config=tune.RunConfig(
            storage_path=str(folder),
            callbacks=[
                MLflowLoggerCallback(tracking_uri=f"sqlite:///{folder / 'mlflow.db'}", experiment_name="overhead")
            ],
        ),
    ).fit()
    return [
        {"trial": number, "start": row.start, "end": row.end}
        for number, result in enumerate(results)
        for row in result.metrics_dataframe.itertuples()
    ]


def run_optuna(folder: Path) -> list[dict[str, float]]:
    """Run the same in Optuna's own loop, in two processes."""
    script = f"""
import optuna, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import overhead
optuna.logging.set_verbosity(optuna.logging.WARNING)
backend = optuna.storages.journal.JournalFileBackend({str(folder / "journal")!r})
study = optuna.create_study(study_name="s", storage=optuna.storages.JournalStorage(backend), load_if_exists=True,
                            direction="maximize")
def objective(trial):
    trial.suggest_float("learning_rate", 1e-4, 1.0, log=True)
    trial.suggest_float("l2", 1e-7, 1e-2, log=True)
    for epoch in range(overhead.EPOCHS):
        done = overhead.work()
        trial.report(done["val_accuracy"], epoch)
        trial.set_user_attr(f"epoch{{epoch}}", done)
    return done["val_accuracy"]
study.optimize(objective, n_trials=overhead.TRIALS // overhead.SLOTS)
"""
    workers = [subprocess.Popen([sys.executable, "-c", script]) for _ in range(SLOTS)]
    for worker in workers:
        worker.wait()
    import optuna

    backend = optuna.storages.journal.JournalFileBackend(str(folder / "journal"))
    study = optuna.load_study(study_name="s", storage=optuna.storages.JournalStorage(backend))
    return [
        {"trial": trial.number, **done}
        for trial in study.trials
        for k, done in trial.user_attrs.items()
        if k.startswith("epoch")
    ]


RUNNERS = {
    "tuner": lambda folder: run_tuner(folder, tracked=True),
    "tuner, no tracking": lambda folder: run_tuner(folder, tracked=False),
    "Ray Tune, MLflow callback": run_ray_tune,
    "Optuna, two processes, no tracking": run_optuna,
}


def summarize(epochs: list[dict[str, float]], began: float, ended: float) -> dict[str, float]:
    """Turn recorded epochs into start-up, overhead a trial, the share of busy slots and the whole wall time."""
    first, last = min(e["start"] for e in epochs), max(e["end"] for e in epochs)
    trials: dict[float, list[dict[str, float]]] = {}
    for epoch in epochs:
        trials.setdefault(epoch["trial"], []).append(epoch)
    work_s = sum(epoch["end"] - epoch["start"] for epoch in epochs)
    held_s = sum(max(e["end"] for e in own) - min(e["start"] for e in own) for own in trials.values())
    return {
        "trials": len(trials),
        "epochs": len(epochs),
        "start_up_s": min(e["end"] for e in epochs) - began,
        "span_s": last - first,
        "overhead_s_a_trial": ((last - first) * SLOTS - work_s) / len(trials),
        "busy": held_s / ((last - first) * SLOTS),
        "wall_s": ended - began,
    }


def main() -> None:
    """Run every runner in turn, several times over, each in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--only", choices=RUNNERS, action="append")
    parser.add_argument("--one", choices=RUNNERS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        with tempfile.TemporaryDirectory() as folder:
            epochs = RUNNERS[arguments.one](Path(folder))
            arguments.output.write_text(json.dumps(epochs))
        return
    measured: dict[str, list[dict[str, float]]] = {name: [] for name in arguments.only or RUNNERS}
    for repeat in range(arguments.repeats):
        names = list(measured)
        for name in names[repeat % len(names) :] + names[: repeat % len(names)]:  # nobody always comes first
            results = measured[name]
            with tempfile.NamedTemporaryFile(suffix=".json") as output, Path(os.devnull).open("w") as nowhere:
                began = time.time()
                command = [sys.executable, __file__, "--one", name, "--output", output.name]
                subprocess.run(command, check=True, stdout=nowhere, stderr=nowhere)
                results.append(summarize(json.loads(Path(output.name).read_text()), began, time.time()))
            print(f"{repeat} {name}: " + ", ".join(f"{k} {v:.3f}" for k, v in results[-1].items()), flush=True)
    print()
    for name, results in measured.items():
        medians = {key: statistics.median(r[key] for r in results) for key in results[0]}
        print(f"{name:36s} " + "  ".join(f"{k} {v:.3f}" for k, v in medians.items() if k not in {"trials", "epochs"}))
    if arguments.output:
        arguments.output.write_text(json.dumps(measured, indent=1) + "\n")


if __name__ == "__main__":
    main()
