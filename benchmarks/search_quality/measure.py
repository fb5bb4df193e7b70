"""How good a search is: the regret of what it would recommend, at shares of its budget."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from search_quality.problems import MAX_EPOCHS, Problem
from tuner.spec.search import Limits, Narrow, Stage
from tuner.spec.space import Config
from tuner.strategy.halving import plan_epochs
from tuner.strategy.simulate import Curve, Job, Policy, Search, simulate

SHARES = (0.25, 0.5, 1.0)
"""Of the budget, after which the regret is measured."""
COARSE_EPOCHS = 9


@dataclass(frozen=True)
class Measurement:
    """One search.

    Attributes
    ----------
    regrets : tuple of float
        After each share of the budget.
    epochs, trials : int
        What was trained; fewer epochs than the budget where the method had nothing more to train.
    seconds : float
        Of deciding, all in all.
    """

    regrets: tuple[float, ...]
    epochs: int
    trials: int
    seconds: float


def measure(problem: Problem, policy: Policy, *, workers: int, budget: int) -> Measurement:
    """Let a method search, and look at what it would recommend, by the same rule for all.

    Parameters
    ----------
    problem : Problem
        What is searched.
    policy : Policy
        The method.
    workers : int
        Trials at once.
    budget : int
        Epochs, over all trials.
    """
    seen: dict[tuple[str, int], tuple[Config, int, float]] = {}
    regrets: list[float] = []
    epochs, began = 0, time.process_time()

    def train(job: Job) -> Curve:
        # epochs last as long in all trials but for a little, which keeps workers out of step
        return Curve(problem.curve(job.config).tolist(), seconds=1 + 0.01 * (job.key[1] % 7))

    for event in simulate(policy, train, workers=workers, max_epochs=budget):
        epochs += 1
        seen[event.job.key] = (event.job.config, event.epoch, event.value)
        while len(regrets) < len(SHARES) and epochs >= SHARES[len(regrets)] * budget:
            regrets.append(recommend(problem, list(seen.values())))
    regrets += [recommend(problem, list(seen.values()))] * (len(SHARES) - len(regrets))
    return Measurement(tuple(regrets), epochs, len(seen), time.process_time() - began)


def recommend(problem: Problem, seen: list[tuple[Config, int, float]]) -> float:
    """Return the regret of the best value among the trials that trained longest.

    Parameters
    ----------
    problem : Problem
        What is searched.
    seen : list of (config, int, float)
        The trials: what was trained, for how many epochs, and the value there.
    """
    sound = [(epoch, value, config) for config, epoch, value in seen if math.isfinite(value)]
    if not sound:
        return problem.optimum
    longest = max(epoch for epoch, _, _ in sound)
    return problem.regret(max((one for one in sound if one[0] == longest), key=lambda one: one[1])[2])


def _ours(**settings: object) -> Callable[[Problem, int, int, int], Policy]:
    def build(problem: Problem, workers: int, budget: int, seed: int) -> Policy:
        stage = {"name": "only", "trials": budget, "max_epochs": MAX_EPOCHS, **settings}
        return Search([Stage.model_validate(stage)], problem.space, seed=seed, limits=Limits(epochs=budget))

    return build


def _ours_coarse_then_fine(share: float) -> Callable[[Problem, int, int, int], Policy]:
    """Build a coarse stage that plans to train a share of the budget, and a fine one in the narrowed space."""

    def build(problem: Problem, workers: int, budget: int, seed: int) -> Policy:
        a_trial = plan_epochs(Stage(name="coarse", trials=1000, max_epochs=COARSE_EPOCHS)) / 1000
        coarse = Stage(name="coarse", trials=max(9, round(share * budget / a_trial)), max_epochs=COARSE_EPOCHS)
        fine = Stage(name="fine", trials=budget, max_epochs=MAX_EPOCHS, narrow=Narrow())
        return Search([coarse, fine], problem.space, seed=seed, limits=Limits(epochs=budget))

    return build


OURS: dict[str, Callable[[Problem, int, int, int], Policy]] = {
    "tuner": _ours(),
    "tuner_coarse_fine": _ours_coarse_then_fine(1 / 3),
    "tuner_coarse_fine_sixth": _ours_coarse_then_fine(1 / 6),
    "tuner_stopping": _ours(halving={"type": "stopping"}),
    "tuner_gp_rank": _ours(sampler="gp", halving={"rule": "rank"}),
    "tuner_gp_none": _ours(sampler="gp", halving=None),
    "tuner_tpe": _ours(sampler="tpe"),
    "tuner_tpe_promotion": _ours(sampler="tpe", halving={"type": "promotion"}),
    "tuner_random": _ours(sampler="random"),
    "tuner_qmc": _ours(sampler="qmc"),
}
"""The service's own methods, by name."""
