"""Optuna's samplers and pruners, by ask and tell."""

import math

import optuna

from search_quality.peers.driving import StoppingPeer
from search_quality.problems import MAX_EPOCHS, Problem
from tuner.spec.space import Choice, Config, Int, LogInt, LogUniform, Parameter, Scalar, Space
from tuner.strategy.simulate import Policy

REDUCTION = 3


class StudyPeer(StoppingPeer):
    """A study: a pruned trial is told as such, with what it had reached, as ``Study.optimize`` does."""

    def __init__(
        self, space: Space, sampler: optuna.samplers.BaseSampler, pruner: optuna.pruners.BasePruner, *, seed: int
    ) -> None:
        super().__init__(space)
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        # Hyperband's pruner assigns brackets by the study's name.
        self._study = optuna.create_study(
            direction="maximize", sampler=sampler, pruner=pruner, study_name=f"study-{seed}"
        )
        self._trials: dict[int, optuna.Trial] = {}
        self._pruned: set[int] = set()
        self._learns_from_pruned = isinstance(sampler, optuna.samplers.TPESampler)

    def suggest(self, number: int) -> Config:
        """Ask."""
        self._trials[number] = self._study.ask()
        return suggest_config(self._trials[number], self._space)

    def judge(self, number: int, epoch: int, value: float) -> bool:
        """Report the epoch, and ask the pruner; after the last one there is nothing to prune."""
        self._trials[number].report(value, epoch)
        if epoch < MAX_EPOCHS and self._trials[number].should_prune():
            self._pruned.add(number)
        return number not in self._pruned

    def end(self, number: int, epoch: int, value: float) -> None:
        """Tell the value, or that the trial was pruned."""
        if number in self._pruned:
            self._study.tell(self._trials[number], state=optuna.trial.TrialState.PRUNED)
        else:
            self._study.tell(self._trials[number], value)

    def fail(self, number: int, epoch: int, worst: float) -> None:
        """Report that there is no number, which every pruner prunes; or the worst value to who ignores the pruned."""
        self._trials[number].report(math.nan, epoch)
        if self._learns_from_pruned:
            self._pruned.add(number)
        self.end(number, epoch, worst)


def suggest_config(trial: optuna.Trial, space: Space) -> dict[str, Scalar]:
    """Let a trial choose a point of a space, define-by-run: what does not exist is not asked for."""

    def choose(parameter: Parameter) -> Scalar:
        name, distribution = parameter.name, parameter.distribution
        if isinstance(distribution, Choice):
            return trial.suggest_categorical(name=name, choices=distribution.options)
        low, high = distribution.low, distribution.high
        if isinstance(distribution, Int):
            return trial.suggest_int(name=name, low=low, high=high, step=distribution.step)
        if isinstance(distribution, LogInt):
            return trial.suggest_int(name=name, low=low, high=high, log=True)
        if isinstance(distribution, LogUniform):
            return trial.suggest_float(name=name, low=low, high=high, log=True)
        return trial.suggest_float(name=name, low=low, high=high, step=distribution.step)

    return space.walk(choose)


def _hyperband() -> optuna.pruners.BasePruner:
    return optuna.pruners.HyperbandPruner(min_resource=1, max_resource=MAX_EPOCHS, reduction_factor=REDUCTION)


def _halving() -> optuna.pruners.BasePruner:
    return optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=REDUCTION)


def tpe(problem: Problem, workers: int, budget_epochs: int, seed: int) -> Policy:
    """Build TPE without stopping."""
    sampler = optuna.samplers.TPESampler(seed=seed)
    return StudyPeer(problem.space, sampler, optuna.pruners.NopPruner(), seed=seed)


def tpe_hyperband(problem: Problem, workers: int, budget_epochs: int, seed: int) -> Policy:
    """Build TPE with Hyperband's pruner."""
    return StudyPeer(problem.space, optuna.samplers.TPESampler(seed=seed), _hyperband(), seed=seed)


def tpe_halving(problem: Problem, workers: int, budget_epochs: int, seed: int) -> Policy:
    """Build TPE with asynchronous successive halving."""
    return StudyPeer(problem.space, optuna.samplers.TPESampler(seed=seed), _halving(), seed=seed)


def gp(problem: Problem, workers: int, budget_epochs: int, seed: int) -> Policy:
    """Build a Gaussian process without stopping; of a conditional space it models what every trial has."""
    return StudyPeer(problem.space, _gp_sampler(seed), optuna.pruners.NopPruner(), seed=seed)


def gp_hyperband(problem: Problem, workers: int, budget_epochs: int, seed: int) -> Policy:
    """Build a Gaussian process with Hyperband's pruner; it learns from trials that were not pruned."""
    return StudyPeer(problem.space, _gp_sampler(seed), _hyperband(), seed=seed)


def gp_halving(problem: Problem, workers: int, budget_epochs: int, seed: int) -> Policy:
    """Build a Gaussian process with asynchronous successive halving; it learns from trials that were not pruned."""
    return StudyPeer(problem.space, _gp_sampler(seed), _halving(), seed=seed)


def _gp_sampler(seed: int) -> optuna.samplers.BaseSampler:
    return optuna.samplers.GPSampler(seed=seed, warn_independent_sampling=False)
