"""What do a prior and a warm start gain where they are right, and cost where they are wrong?

Each is compared with the same search without it, on the same seeds. The good prior guesses the best configuration, each
range's guess off by a twentieth of the range; the wrong one guesses the corner farthest from it, and other options.
The warm starts come from a search of another seed on the same problem, and from one whose final values are negated.

    cd benchmarks
    python -m search_quality.knowledge --budgets 12 30 --seeds 10
"""

import argparse
import dataclasses
import math
import os
from collections.abc import Sequence

import numpy as np

os.environ.setdefault("OMP_NUM_THREADS", "1")

from search_quality.measure import measure
from search_quality.problems import BEST, MAX_EPOCHS, PROBLEMS, Problem
from tuner.spec.search import Stage
from tuner.spec.space import Choice, Config, Parameter, Prior, Scalar, Space
from tuner.strategy.draws import at
from tuner.strategy.encoding import Encoding
from tuner.strategy.simulate import Curve, Job, Search, simulate
from tuner.strategy.trial_view import State, TrialView
from tuner.strategy.warm_start import choose_trials

WORKERS = 4
SOURCE_BUDGET = 12  # of the search that is learnt from, in full trainings
ARMS = ("none", "good prior", "wrong prior", "good warm start", "bad warm start")
BEST_OF_HARTMANN6 = (0.20169, 0.150011, 0.476874, 0.275332, 0.311652, 0.6573)


def find_best(problem: Problem) -> Config:
    """Return the best configuration of a problem."""
    if problem.space.contains(BEST):
        return BEST
    return {f"x{i}": value for i, value in enumerate(BEST_OF_HARTMANN6)}


def guess(parameter: Parameter, best: Scalar, *, is_good: bool) -> Scalar:
    """Return a guess near the best value of a parameter, or far from it."""
    distribution = parameter.distribution
    share = Encoding(Space((dataclasses.replace(parameter, condition=None),))).encode([{parameter.name: best}])[0, 0]
    if isinstance(distribution, Choice):
        return best if is_good else next(option for option in distribution.options if option != best)
    far = 0.02 if share > 0.5 else 0.98
    return at(distribution, share + (0.05 if share < 0.5 else -0.05) if is_good else far)


def believe(problem: Problem, *, is_good: bool) -> Problem:
    """Give the parameters of a problem's best configuration priors."""
    best = find_best(problem)
    parameters = tuple(
        dataclasses.replace(p, prior=Prior(guess=guess(p, best[p.name], is_good=is_good))) if p.name in best else p
        for p in problem.space.parameters
    )
    return dataclasses.replace(problem, space=Space(parameters))


def build(problem: Problem, sampler: str, budget: int, seed: int, **more: object) -> Search:
    """Build a search of one stage."""
    stage = {"name": "only", "trials": budget * MAX_EPOCHS, "max_epochs": MAX_EPOCHS, "sampler": sampler}
    return Search([Stage.model_validate(stage)], problem.space, seed=seed, **more)  # type: ignore[arg-type]


def search(problem: Problem, seed: int, *, is_negated: bool) -> list[TrialView]:
    """Run a search to learn from; negated, what is best at the end is worst."""

    def train(job: Job) -> Curve:
        values = problem.curve(job.config)
        return Curve((values - 2 * values[-1] if is_negated else values).tolist())

    values: dict[int, list[float]] = {}
    configs: dict[int, Config] = {}
    policy = build(problem, "gp", SOURCE_BUDGET, seed)
    for event in simulate(policy, train, workers=WORKERS, max_epochs=SOURCE_BUDGET * MAX_EPOCHS):
        configs[event.job.key[1]] = event.job.config
        values.setdefault(event.job.key[1], []).append(event.value)
    return [
        TrialView(number, configs[number], tuple(of_trial), find_state(of_trial)) for number, of_trial in values.items()
    ]


def find_state(values: Sequence[float]) -> State:
    """Tell how a simulated trial ended."""
    if not math.isfinite(values[-1]):
        return "diverged"
    return "complete" if len(values) == MAX_EPOCHS else "stopped"


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", nargs="+", default=["conditional", "hartmann6-good"])
    parser.add_argument("--samplers", nargs="+", default=["gp", "tpe"])
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=ARMS)
    parser.add_argument("--budgets", nargs="+", type=int, default=[12, 30], help="in full trainings")
    parser.add_argument("--seeds", type=int, default=10)
    given = parser.parse_args()
    for name in given.problems:
        for sampler in given.samplers:
            for budget in given.budgets:
                for arm in given.arms:
                    regrets = [run(PROBLEMS[name](), sampler, arm, budget, seed) for seed in range(given.seeds)]
                    shown = " ".join(f"{regret:8.4f}" for regret in np.mean(regrets, axis=0))
                    print(f"{name:15} {sampler:4} budget {budget:3} {arm:18} {shown}", flush=True)


def run(problem: Problem, sampler: str, arm: str, budget: int, seed: int) -> tuple[float, ...]:
    """Run one search and return its regrets after a quarter, a half and all of the budget."""
    warm_start = []
    if arm.endswith("prior"):
        problem = believe(problem, is_good=arm == "good prior")
    elif arm.endswith("warm start"):
        warm_start = [choose_trials("source", search(problem, seed + 1000, is_negated=arm[:3] == "bad"), problem.space)]
    policy = build(problem, sampler, budget, seed, warm_start=warm_start)
    return measure(problem, policy, workers=WORKERS, budget=budget * MAX_EPOCHS).regrets


if __name__ == "__main__":
    main()
