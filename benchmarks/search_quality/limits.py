"""Does it matter by what a search is limited, where epochs last unequally long?

The default search, limited by epochs, by time or by GPU hours, each as much as so many full trainings take in the mean,
or by trials: so many as halving by ranks plans to give as many epochs. Another method does not know its limit and is
cut off there, or begins no further trial. An epoch's seconds depend on the configuration alone: their logarithm
deviates by 0.5. Printed are the mean regret, and how many epochs were trained, trials began, and trials came to the
last epoch.

    cd benchmarks
    python -m search_quality.limits --methods tuner random_asha --budgets 12 50 --workers 4 --seeds 10 --first-seed 5000
"""

import argparse
import itertools
import math
import os
import zlib
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import NamedTuple

import numpy as np

os.environ.setdefault("OMP_NUM_THREADS", "1")

from search_quality.measure import recommend
from search_quality.peers import PEERS
from search_quality.problems import HELD_OUT, MAX_EPOCHS, PROBLEMS
from tuner.spec.search import Limits, Stage
from tuner.spec.space import Config
from tuner.strategy.halving import plan_epochs
from tuner.strategy.simulate import Curve, Job, Policy, Search, simulate

KINDS = ("epochs", "time_s", "gpu_hours", "trials")
SPREAD = 0.5


class Key(NamedTuple):
    """One search."""

    problem: str
    method: str
    kind: str
    budget: int
    workers: int
    seed: int


class Capped:
    """A method that begins so many trials."""

    def __init__(self, policy: Policy, most: float) -> None:
        self._policy = policy
        self._most = most
        self._begun: set[tuple[str, int]] = set()

    def next(self) -> Job | None:
        """Ask the method, until it has begun enough; see `Policy.next`."""
        job = self._policy.next() if len(self._begun) < self._most else None
        self._begun |= set() if job is None else {job.key}
        return job

    def report(self, job: Job, epoch: int, value: float) -> bool:
        """Tell the method; see `Policy.report`."""
        return self._policy.report(job, epoch, value)


def run(key: Key) -> tuple[float, int, int, int]:
    """Run a search; return its regret, how many epochs, and how many trials began and came to the last epoch."""
    problem, num_epochs, now = PROBLEMS[key.problem](), key.budget * MAX_EPOCHS, 0.0
    stage = Stage.model_validate({"name": "only", "trials": num_epochs, "max_epochs": MAX_EPOCHS})
    most = {
        "epochs": num_epochs,
        "time_s": num_epochs / key.workers,
        "gpu_hours": num_epochs / 3600,
        "trials": round(num_epochs * stage.trials / plan_epochs(stage)),
    }[key.kind]
    search: Search | None = None
    policy: Policy
    if key.method == "tuner":
        if key.kind == "trials":
            stage = stage.model_copy(update={"trials": most})
        limits = Limits.model_validate({} if key.kind == "trials" else {key.kind: most})
        policy = search = Search([stage], problem.space, seed=key.seed, limits=limits, clock=lambda: now)
    else:
        policy = PEERS[key.method](problem, key.workers, num_epochs, key.seed)
        policy = Capped(policy, most) if key.kind == "trials" else policy

    def train(job: Job) -> Curve:
        return Curve(problem.curve(job.config).tolist(), seconds=find_seconds(job.config))

    seen: dict[tuple[str, int], tuple[Config, int, float]] = {}
    used = {"epochs": 0.0, "time_s": 0.0, "gpu_hours": 0.0}
    for event in simulate(policy, train, workers=key.workers, max_epochs=10**9):
        now = event.time_s
        seconds = find_seconds(event.job.config)
        used = {"epochs": used["epochs"] + 1, "time_s": now, "gpu_hours": used["gpu_hours"] + seconds / 3600}
        if search is not None:
            if search.stop_reason:  # what was under way when it ended
                break
            search.spend(seconds)
        if key.kind == "time_s" and now > most:
            break
        seen[event.job.key] = (event.job.config, event.epoch, event.value)
        if key.kind != "trials" and used[key.kind] >= most:
            break
    trained = [epoch for _, epoch, _ in seen.values()]
    return recommend(problem, list(seen.values())), sum(trained), len(trained), trained.count(MAX_EPOCHS)


def find_seconds(config: Config) -> float:
    """Return how long an epoch of a configuration lasts."""
    rng = np.random.default_rng(zlib.crc32(repr(sorted(config.items())).encode()))
    return math.exp(SPREAD * rng.normal())


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", default=["tuner", "random_asha"], metavar="METHOD")
    parser.add_argument("--problems", nargs="+", default=[p for p in PROBLEMS if p not in HELD_OUT], metavar="PROBLEM")
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=KINDS)
    parser.add_argument("--budgets", nargs="+", type=int, default=[12], help="in full trainings")
    parser.add_argument("--workers", nargs="+", type=int, default=[4])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    given = parser.parse_args()
    cells = list(itertools.product(given.problems, given.budgets, given.workers, given.kinds, given.methods))
    seeds = range(given.first_seed, given.first_seed + given.seeds)
    keys = [Key(p, method, kind, budget, workers, seed) for p, budget, workers, kind, method in cells for seed in seeds]
    with ProcessPoolExecutor(given.jobs, mp_context=get_context("spawn")) as pool:
        found = dict(zip(keys, pool.map(run, keys), strict=True))
    for problem, budget, workers, kind, method in cells:
        own = [found[Key(problem, method, kind, budget, workers, seed)] for seed in seeds]
        regret, num_epochs, num_begun, num_complete = np.mean(own, axis=0)
        name = f"{problem}  {budget}  {workers}  {kind}  {method}"
        told = f"{num_epochs:5.0f} epochs  {num_begun:5.0f} began  {num_complete:5.1f} came to the end"
        print(f"{name:60} {regret:8.4f}  {told}", flush=True)


if __name__ == "__main__":
    main()
