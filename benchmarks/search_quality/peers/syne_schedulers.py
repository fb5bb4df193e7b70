"""Syne Tune's stopping schedulers, called as its tuner does.

The spaces have no conditions: every parameter is always drawn, and what does not exist is left out of the config.
MOBSTER and Hyper-Tune left the library after 0.14; they need that version, the other two the newest.
"""

import datetime
import logging
import warnings

from syne_tune import config_space as domains
from syne_tune.backend.trial_status import Trial
from syne_tune.optimizer.scheduler import SchedulerDecision, TrialScheduler

from search_quality.peers.driving import OwnRandomness, StoppingPeer, choosing, num_steps
from search_quality.problems import MAX_EPOCHS, Problem
from tuner.spec.space import Choice, Config, Int, LogInt, LogUniform, Parameter, Space
from tuner.strategy.simulate import Policy

OPTIONS = {"metric": "value", "do_minimize": False, "time_attr": "epoch", "max_t": MAX_EPOCHS}
LEGACY_OPTIONS = {"metric": "value", "mode": "max", "resource_attr": "epoch", "max_t": MAX_EPOCHS}
NUM_RUNGS = 4  # 1, 3, 9, 27

logging.getLogger("syne_tune").setLevel(logging.ERROR)


class SchedulerPeer(StoppingPeer):
    """A scheduler that stops running trials; the older ones want to know the number of a trial in advance."""

    def __init__(self, space: Space, scheduler: TrialScheduler, *, seed: int, is_legacy: bool = False) -> None:
        super().__init__(space)
        self._scheduler = scheduler
        self._is_legacy = is_legacy
        self._randomness = OwnRandomness(seed)
        self._trials: dict[int, Trial] = {}

    def suggest(self, number: int) -> Config:
        """Ask, and announce the trial."""
        with self._randomness(), warnings.catch_warnings(action="ignore"):
            suggestion = self._scheduler.suggest(number) if self._is_legacy else self._scheduler.suggest()
            assert suggestion is not None
            assert suggestion.spawn_new_trial_id
            self._trials[number] = Trial(number, suggestion.config, datetime.datetime(2000, 1, 1))
            self._scheduler.on_trial_add(self._trials[number])
        return self._space.walk(lambda parameter: choosing(suggestion.config, parameter))

    def judge(self, number: int, epoch: int, value: float) -> bool:
        """Tell the epoch."""
        decision = self._scheduler.on_trial_result(self._trials[number], {"value": value, "epoch": epoch})
        return decision == SchedulerDecision.CONTINUE

    def end(self, number: int, epoch: int, value: float) -> None:
        """Take the trial away, as is done with stopped ones."""
        self._scheduler.on_trial_remove(self._trials[number])


def domain(parameter: Parameter) -> object:
    """Return what one parameter is drawn from: options and steps by their indices."""
    distribution, steps = parameter.distribution, num_steps(parameter)
    if isinstance(distribution, Choice):
        return domains.choice(list(range(len(distribution.options))))
    if steps is not None:
        return domains.randint(0, steps)
    low, high = distribution.low, distribution.high
    if isinstance(distribution, Int):
        return domains.randint(low, high)
    if isinstance(distribution, LogInt):
        return domains.lograndint(low, high)
    return domains.loguniform(low, high) if isinstance(distribution, LogUniform) else domains.uniform(low, high)


def flat(space: Space) -> dict[str, object]:
    """Return the domains of all parameters that are not constant."""
    return {parameter.name: domain(parameter) for parameter in space.parameters if not parameter.is_constant}


def asha(problem: Problem, workers: int, budget_epochs: int, seed: int) -> Policy:
    """Build random search with asynchronous halving."""
    from syne_tune.optimizer.baselines import ASHA

    return SchedulerPeer(problem.space, ASHA(flat(problem.space), random_seed=seed, **OPTIONS), seed=seed)


def bohb(problem: Problem, workers: int, budget_epochs: int, seed: int) -> Policy:
    """Build kernel density estimates of each trial's last value, with asynchronous halving."""
    from syne_tune.optimizer.baselines import BOHB

    return SchedulerPeer(problem.space, BOHB(flat(problem.space), random_seed=seed, **OPTIONS), seed=seed)


def mobster(problem: Problem, workers: int, budget_epochs: int, seed: int) -> Policy:
    """Build a Gaussian process over configs and rungs, with asynchronous halving."""
    from syne_tune.optimizer.legacy_baselines import MOBSTER

    scheduler = MOBSTER(flat(problem.space), random_seed=seed, **LEGACY_OPTIONS)
    return SchedulerPeer(problem.space, scheduler, seed=seed, is_legacy=True)


def hypertune(problem: Problem, workers: int, budget_epochs: int, seed: int) -> Policy:
    """Build Hyper-Tune with all brackets: between them is what it chooses, and the scheduler's default is one."""
    from syne_tune.optimizer.legacy_baselines import HyperTune

    scheduler = HyperTune(flat(problem.space), random_seed=seed, brackets=NUM_RUNGS, **LEGACY_OPTIONS)
    return SchedulerPeer(problem.space, scheduler, seed=seed, is_legacy=True)
