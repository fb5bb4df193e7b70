"""How many epochs and trials can one search record, when training takes no time?

Everything but the training runs as in a real search: Ray, the strategy, the ledger and MLflow (sqlite).

- *reports*: 40 trials of 400 epochs on 2 slots; how many epochs a second are judged and recorded, over the middle 80%
  of them. The same of Ray Tune as its documentation shows it, with its loggers, OptunaSearch and ASHA, 8 trials of 200.
- *trials*: 5,200 trials of one epoch on 2 slots; the median time from one trial's start to the next around trial 100
  and around trial 5,000, with random sampling and with the default sampler.

    python benchmarks/controller.py --output benchmarks/results/controller.json
"""

import argparse
import itertools
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

SLOTS = 2
NUM_TRIALS, AROUND, HALF_WIDTH = 5_200, (100, 5_000), 60
MIDDLE = (0.1, 0.9)  # of the search

SPEC = """
name: controller
data: digits
space:
  architecture: {{choice: {{lenet: {{}}, simple_cnn: {{depth: {{int: [1, 4]}}, width: {{logint: [8, 64]}}}}}}}}
  learning_rate: {{loguniform: [1e-4, 1.0]}}
  l2: {{loguniform: [1e-7, 1e-2]}}
  dropout: {{uniform: [0.0, 0.6]}}
stages:
  only: {{trials: {trials}, max_epochs: {epochs}, sampler: {sampler}, halving: {{min_epochs: {epochs}}}}}
resources: {{gpus: 0, trials_at_once: {slots}}}
"""


def measure(number: int, epoch: int) -> dict[str, float]:
    """Stand where an epoch stands: some value, and when it was."""
    value = (number * 37 % 101) / 101 + 0.001 * epoch
    return {"start": time.time(), "val_accuracy": value, "train_loss": 1.0, "val_loss": 1.0}


def train_nothing(task: Any) -> Iterator[dict[str, float]]:
    """Stand where training stands."""
    if task is not None:
        for epoch in range(1, task.max_epochs + 1):
            yield {"epoch": epoch, **measure(task.number, epoch)}


def run_tuner(folder: Path, trials: int, epochs: int, sampler: str) -> list[list[float]]:
    """Run a search without training; return when each trial's epochs were."""
    from tuner.cli.watch import PlainLines
    from tuner.execute.experiment import Surroundings, run_search
    from tuner.spec import load_text
    from tuner.track.ledger import Ledger
    from tuner.track.provenance import read_provenance

    around = Surroundings(folder, folder / "cache", f"sqlite:///{folder / 'mlflow.db'}", None, read_provenance(folder))
    spec = load_text(SPEC.format(trials=trials, epochs=epochs, sampler=sampler, slots=SLOTS))
    run_search(spec, around, PlainLines(), train=train_nothing)
    recorded = Ledger.open(folder / "controller").stages()[0].trials()
    return [[epoch["start"] for epoch in trial.epochs] for trial in recorded]


def run_ray_tune(folder: Path, trials: int, epochs: int) -> list[list[float]]:
    """Run the same as Ray Tune's documentation shows it."""
    import ray
    from ray import tune
    from ray.tune.schedulers import ASHAScheduler
    from ray.tune.search.optuna import OptunaSearch

    def objective(config: dict[str, float]) -> None:
        for epoch in range(1, epochs + 1):
            tune.report(measure(0, epoch))

    ray.init(num_cpus=SLOTS)
    results = tune.Tuner(
        objective,
        param_space={"learning_rate": tune.loguniform(1e-4, 1.0), "l2": tune.loguniform(1e-7, 1e-2)},
        tune_config=tune.TuneConfig(
            metric="val_accuracy",
            mode="max",
            num_samples=trials,
            max_concurrent_trials=SLOTS,
            search_alg=OptunaSearch(),
            scheduler=ASHAScheduler(max_t=epochs, grace_period=epochs),
        ),
        run_config=tune.RunConfig(storage_path=str(folder)),
    ).fit()
    return [result.metrics_dataframe["start"].tolist() for result in results]


def count_reports_a_second(trials: list[list[float]]) -> float:
    """Return how many epochs a second there were, over the middle of the search."""
    times = sorted(at for trial in trials for at in trial)
    first, last = (int(share * (len(times) - 1)) for share in MIDDLE)
    return (last - first) / (times[last] - times[first])


def find_trial_cost(trials: list[list[float]], around: int) -> float:
    """Return the median seconds from one trial's start to the next one's, near a trial."""
    starts = sorted(trial[0] for trial in trials if trial)[around - HALF_WIDTH : around + HALF_WIDTH + 1]
    return statistics.median(after - before for before, after in itertools.pairwise(starts))


def tell_trials(trials: list[list[float]]) -> dict[str, float]:
    """Return the cost of a trial early and late."""
    costs = {f"s_a_trial_at_{around}": find_trial_cost(trials, around) for around in AROUND}
    early, late = costs.values()
    return {**costs, "growth": late / early}


QUESTIONS = {
    "reports": lambda folder: {"reports_a_second": count_reports_a_second(run_tuner(folder, 40, 400, "random"))},
    "reports, Ray Tune": lambda folder: {"reports_a_second": count_reports_a_second(run_ray_tune(folder, 8, 200))},
    "trials, random": lambda folder: tell_trials(run_tuner(folder, NUM_TRIALS, 1, "random")),
    "trials, default": lambda folder: tell_trials(run_tuner(folder, NUM_TRIALS, 1, "auto")),
}


def main() -> None:
    """Answer every question, each in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--only", choices=QUESTIONS, action="append")
    parser.add_argument("--one", choices=QUESTIONS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        with tempfile.TemporaryDirectory() as folder:
            given.output.write_text(json.dumps(QUESTIONS[given.one](Path(folder))))
        return
    measured = {}
    for question in given.only or QUESTIONS:
        with tempfile.NamedTemporaryFile(suffix=".json") as output, Path(os.devnull).open("w") as nowhere:
            command = [sys.executable, __file__, "--one", question, "--output", output.name]
            subprocess.run(command, check=True, stdout=nowhere, stderr=nowhere)
            measured[question] = json.loads(Path(output.name).read_text())
        print(f"{question:20s} " + "  ".join(f"{k} {v:.4g}" for k, v in measured[question].items()), flush=True)
    if given.output:
        given.output.write_text(json.dumps(measured, indent=1) + "\n")


if __name__ == "__main__":
    main()
