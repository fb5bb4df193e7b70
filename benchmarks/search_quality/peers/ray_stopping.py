"""Ray Tune's asynchronous halving under random search and under its Optuna searcher, called as its controller does."""

from dataclasses import dataclass

import numpy as np
import optuna
from ray.tune.schedulers import ASHAScheduler, TrialScheduler
from ray.tune.search.optuna import OptunaSearch

from search_quality.peers.driving import OwnRandomness, StoppingPeer
from search_quality.peers.optuna_study import suggest_config
from search_quality.problems import MAX_EPOCHS, Problem
from tuner.spec.space import Config, Space
from tuner.strategy.draws import draw
from tuner.strategy.simulate import Policy


@dataclass(frozen=True)
class FakeTrial:
    """The only thing that the scheduler reads of a trial."""

    trial_id: str


class AshaPeer(StoppingPeer):
    """The scheduler, and a searcher or random draws."""

    def __init__(self, space: Space, searcher: OptunaSearch | None, *, seed: int) -> None:
        super().__init__(space)
        self._rng = np.random.default_rng(seed)
        self._randomness = OwnRandomness(seed)
        self._searcher = searcher
        self._scheduler = ASHAScheduler(
            metric="value", mode="max", max_t=MAX_EPOCHS, grace_period=1, reduction_factor=3
        )

    def suggest(self, number: int) -> Config:
        """Ask the searcher, and announce the trial to the scheduler."""
        trial = FakeTrial(str(number))
        config = draw(self._space, self._rng) if self._searcher is None else self._searcher.suggest(trial.trial_id)
        with self._randomness():
            self._scheduler.on_trial_add(None, trial)
        return config

    def judge(self, number: int, epoch: int, value: float) -> bool:
        """Tell the scheduler; the searcher hears of epochs that are not a trial's last."""
        result = {"training_iteration": epoch, "value": value}
        decision = self._scheduler.on_trial_result(None, FakeTrial(str(number)), result)
        if decision != TrialScheduler.STOP and self._searcher is not None:
            self._searcher.on_trial_result(str(number), result)
        return decision != TrialScheduler.STOP

    def end(self, number: int, epoch: int, value: float) -> None:
        """Tell both, as complete also what was stopped."""
        result = {"training_iteration": epoch, "value": value}
        self._scheduler.on_trial_complete(None, FakeTrial(str(number)), result)
        if self._searcher is not None:
            self._searcher.on_trial_complete(str(number), result)


def random_asha(problem: Problem, workers: int, budget_epochs: int, seed: int) -> Policy:
    """Build random search with asynchronous halving."""
    return AshaPeer(problem.space, None, seed=seed)


def optuna_search_asha(problem: Problem, workers: int, budget_epochs: int, seed: int) -> Policy:
    """Build the Optuna searcher with its default sampler, and asynchronous halving."""
    return _searching(problem, sampler=None, seed=seed)


def optuna_search_asha_univariate(problem: Problem, workers: int, budget_epochs: int, seed: int) -> Policy:
    """Build the Optuna searcher with one model a parameter, and asynchronous halving."""
    return _searching(problem, sampler=optuna.samplers.TPESampler(seed=seed, multivariate=False), seed=None)


def _searching(problem: Problem, *, sampler: optuna.samplers.BaseSampler | None, seed: int | None) -> Policy:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    searcher = OptunaSearch(
        lambda trial: suggest_config(trial, problem.space), metric="value", mode="max", sampler=sampler, seed=seed
    )
    return AshaPeer(problem.space, searcher, seed=seed or 0)
