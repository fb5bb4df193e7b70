"""How soon does a whole search, really trained, get as far as others end?

Three ways to search the same space on two processes, with the same training loop and the same number of epochs:

- ``tuner run`` with its defaults;
- Ray Tune as its documentation shows it: a function, OptunaSearch, ASHAScheduler;
- Optuna's own loop in two processes on a journal file, with its default sampler and Hyperband's pruner.

They run in turn, several times over. Said is the best validation accuracy at the end; and at which share of the other's
epochs, and of its seconds from the command on, ``tuner`` had reached the other's last one (above 1, or inf, if never).
Several seeds may run at once where there are two cores for each; then their trials share the GPU, if they use one.

    cd benchmarks
    python -m search_quality.real digits --epochs 810 --seeds 5 --output results/real_digits.json
    python -m search_quality.real cifar100 --set data.path=PATH --epochs 324 --seeds 10 \
        --output results/real_cifar100.json
    python -m search_quality.real cifar100 --set data.path=PATH --set data.label_column=fine_label --set data.size=32 \
        --set data.validation=0.1 --set data.fraction=0.2 --set resources.gpus=0.5 --epochs 324 --jobs 5 \
        --output results/real_cifar100_gpu.json
"""

import argparse
import functools
import json
import math
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from search_quality.curve_surrogate import find_spec
from tuner.spec import load_spec
from tuner.spec.search import SearchSpec
from tuner.spec.space import Space

WORKERS, REDUCTION = 2, 3
OURS = "tuner"
Epochs = list[tuple[float, float]]
"""When each epoch of a search ended, and its validation accuracy."""


class Log:
    """Epochs of all processes, a line each in one file."""

    def __init__(self, file: Path, most: int) -> None:
        self._file = file
        self._most = most

    def add(self, accuracy: float) -> bool:
        """Add an epoch; tell whether another may be trained."""
        with self._file.open("a") as log:
            log.write(f"{time.time()} {accuracy}\n")
        return not self.is_full()

    def is_full(self) -> bool:
        """Tell whether all epochs were trained."""
        return self._file.exists() and len(self.read()) >= self._most

    def read(self) -> Epochs:
        """Return what was added."""
        rows = (line.split() for line in self._file.read_text().splitlines())
        return [(float(at), float(accuracy)) for at, accuracy in rows][: self._most]


def run_tuner(spec: SearchSpec, overrides: Sequence[str], folder: Path, most: int, seed: int) -> Epochs:
    """Run a search of one stage with every default, but for how long it may train."""
    from tuner.cli.watch import PlainLines
    from tuner.execute.experiment import Surroundings, run_search
    from tuner.spec import load_text
    from tuner.track.ledger import Ledger
    from tuner.track.provenance import read_provenance

    only = [
        *overrides,
        f"stages={{all: {{trials: {most}, max_epochs: {spec.stages[0].max_epochs}}}}}",
        f"limits.epochs={most}",
        f"resources.trials_at_once={WORKERS}",
        f"seed={seed}",
    ]
    run_search(
        load_text(find_spec(spec.name).read_text(), "the search", only),
        Surroundings(folder, folder.parent / "cache", None, None, read_provenance(folder)),
        PlainLines(),
    )
    trials = Ledger.open(folder / spec.name).stages()[0].trials()
    return [(epoch["timestamp"], epoch["val_accuracy"]) for trial in trials for epoch in trial.epochs]


def train(spec: SearchSpec, config: Mapping[str, Any], cache: Path, seed: int) -> Any:
    """Train one configuration on one core, and a share of the GPU if so asked; yield its validation accuracies."""
    from tuner.train.run import run_training, use_threads

    use_threads(1)
    for epoch, *_ in run_training(
        config,
        spec.data,
        spec.objective,
        max_epochs=spec.stages[0].max_epochs,
        seed=seed,
        cache=cache,
        device="cuda" if spec.resources.gpus else "cpu",
    ):
        yield epoch.val_accuracy
        if not math.isfinite(epoch.train_loss):
            return


def run_ray_tune(spec: SearchSpec, overrides: Sequence[str], folder: Path, most: int, seed: int) -> Epochs:
    """Run Ray Tune."""
    import ray
    from ray import tune
    from ray.tune.schedulers import ASHAScheduler
    from ray.tune.search.optuna import OptunaSearch

    from search_quality.peers.optuna_study import suggest_config

    log, cache = Log(folder / "log", most), folder.parent / "cache"

    def objective(config: dict[str, Any]) -> None:
        for accuracy in train(spec, config, cache, seed):
            log.add(accuracy)
            tune.report({"val_accuracy": accuracy})

    class Full(tune.Stopper):
        def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
            return False

        def stop_all(self) -> bool:
            return log.is_full()

    space = spec.space
    assert isinstance(space, Space)
    ray.init("local", num_cpus=WORKERS)
    max_epochs = spec.stages[0].max_epochs
    tune.Tuner(
        tune.with_resources(objective, {"cpu": 1, "gpu": spec.resources.gpus}),
        tune_config=tune.TuneConfig(
            metric="val_accuracy",
            mode="max",
            num_samples=-1,
            max_concurrent_trials=WORKERS,
            search_alg=OptunaSearch(
                functools.partial(suggest_config, space=space), metric="val_accuracy", mode="max", seed=seed
            ),
            scheduler=ASHAScheduler(max_t=max_epochs, grace_period=1, reduction_factor=REDUCTION),
        ),
        run_config=tune.RunConfig(storage_path=str(folder), stop=Full()),
    ).fit()
    return log.read()


def run_optuna(spec: SearchSpec, overrides: Sequence[str], folder: Path, most: int, seed: int) -> Epochs:
    """Run Optuna's loop in as many processes."""
    command = [sys.executable, "-c", "import sys; from search_quality.real import optimize; optimize(*sys.argv[1:])"]
    workers = [
        subprocess.Popen([*command, spec.name, json.dumps(overrides), str(folder), str(most), str(seed + i)])
        for i in range(WORKERS)
    ]
    for worker in workers:
        worker.wait()
    return Log(folder / "log", most).read()


def optimize(name: str, overrides: str, folder: str, most: str, seed: str) -> None:
    """Be one of the processes of Optuna's loop."""
    import optuna

    from search_quality.peers.optuna_study import suggest_config

    spec = load_spec(find_spec(name), json.loads(overrides))
    log, cache = Log(Path(folder) / "log", int(most)), Path(folder).parent / "cache"
    space = spec.space
    assert isinstance(space, Space)
    backend = optuna.storages.journal.JournalFileBackend(str(Path(folder) / "journal"))
    max_epochs = spec.stages[0].max_epochs
    study = optuna.create_study(
        study_name="s",
        storage=optuna.storages.JournalStorage(backend),
        load_if_exists=True,
        direction="maximize",
        sampler=optuna.samplers.TPESampler(seed=int(seed)),
        pruner=optuna.pruners.HyperbandPruner(max_resource=max_epochs, reduction_factor=REDUCTION),
    )

    def objective(trial: optuna.Trial) -> float:
        best = 0.0
        for epoch, accuracy in enumerate(train(spec, suggest_config(trial, space), cache, int(seed)), start=1):
            best = max(best, accuracy)
            if not log.add(accuracy):
                study.stop()
                break
            trial.report(accuracy, epoch)
            if trial.should_prune():
                raise optuna.TrialPruned
        return best

    while not log.is_full():
        study.optimize(objective, n_trials=1)


METHODS = {OURS: run_tuner, "Ray Tune: OptunaSearch, ASHA": run_ray_tune, "Optuna: TPE, Hyperband": run_optuna}


def measure(method: str, name: str, overrides: Sequence[str], most: int, seed: int, cache: Path) -> Epochs:
    """Run one search in a process of its own; its seconds are counted from the command on."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "cache").symlink_to(cache)
        (Path(folder) / "search").mkdir()
        output = Path(folder) / "epochs.json"
        began = time.time()
        command = [sys.executable, "-m", "search_quality.real", name, "--one", method]
        command += [part for override in overrides for part in ("--set", override)]
        command += ["--epochs", str(most), "--first-seed", str(seed), "--output", str(output)]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        if ended.returncode:
            raise RuntimeError(f"{method}, seed {seed}:\n{ended.stdout[-2000:]}\n{ended.stderr[-4000:]}")
        epochs = [(round(at - began, 1), round(accuracy, 5)) for at, accuracy in sorted(json.loads(output.read_text()))]
        if len(epochs) < most:
            raise RuntimeError(f"{method}, seed {seed}: ended after {len(epochs)} of {most} epochs; it does not count")
        return epochs


def compare(own: Epochs, other: Epochs) -> tuple[float, float]:
    """Return at which share of the other's epochs, and of its seconds, the own search reached the other's last best."""
    goal = max(accuracy for _, accuracy in other)
    for count, (at, accuracy) in enumerate(own, start=1):
        if accuracy >= goal:
            return count / len(other), at / other[-1][0]
    return math.inf, math.inf


def main() -> None:
    """Run every method in turn with every seed, and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=("digits", "cifar100"))
    parser.add_argument("--set", action="append", default=[], metavar="PATH=VALUE", help="another value in the search")
    parser.add_argument("--epochs", type=int, required=True, help="over all trials of a search")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1, help="seeds at once")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--one", choices=METHODS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    spec = load_spec(find_spec(given.name), given.set)
    if given.one:
        run, folder = METHODS[given.one], given.output.parent / "search"
        given.output.write_text(json.dumps(run(spec, given.set, folder, given.epochs, given.first_seed)))
        return
    results: dict[str, dict[str, Epochs]] = json.loads(given.output.read_text()) if given.output.exists() else {}
    writing = threading.Lock()

    def measure_seed(seed: int) -> None:
        names = list(METHODS)
        for method in names[seed % len(names) :] + names[: seed % len(names)]:  # nobody always comes first
            if str(seed) in results.get(method, {}):
                continue
            found = measure(method, given.name, given.set, given.epochs, seed, Path(cache))
            with writing:
                results.setdefault(method, {})[str(seed)] = found
                given.output.write_text(json.dumps(results) + "\n")

    with tempfile.TemporaryDirectory() as cache, ThreadPoolExecutor(given.jobs) as pool:
        from tuner.train.data import prepare

        prepare(spec.data, Path(cache))
        list(pool.map(measure_seed, range(given.first_seed, given.first_seed + given.seeds)))
    tell(results)


def tell(results: dict[str, dict[str, Epochs]]) -> None:
    """Print what each method reached, and how soon ours did."""
    for method, searches in results.items():
        best = [max(accuracy for _, accuracy in epochs) for epochs in searches.values()]
        seconds = statistics.median(epochs[-1][0] for epochs in searches.values())
        print(f"{method:30s} {len(best)} seeds, best accuracy {statistics.mean(best):.4f} in the mean, {seconds:.0f} s")
        if method != OURS:
            pairs = [compare(results[OURS][seed], epochs) for seed, epochs in searches.items()]
            for share, kind in zip(zip(*pairs, strict=True), ("epochs", "seconds"), strict=True):
                every = ", ".join(f"{one:.2f}" for one in share)
                print(f"    reached by {OURS} after {statistics.median(share):.2f} of its {kind} ({every})")


if __name__ == "__main__":
    main()
