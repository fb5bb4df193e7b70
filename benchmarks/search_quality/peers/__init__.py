"""Other optimisers, driven by hand on a made-up clock with their documented default settings.

Every peer sees the values epoch by epoch, or rung by rung where it asks for so many epochs. A library is imported when
its peer is built, so that a missing one only takes its own peers away; see ``requirements.txt``. A diverged trial ends
and is told as the worst value seen so far, or as failed where a library learns from failures.
"""

import functools
import importlib
from collections.abc import Callable, Mapping
from typing import TypeAlias

from search_quality.problems import Problem
from tuner.strategy.simulate import Policy

Factory: TypeAlias = Callable[[Problem, int, int, int], Policy]


def _build(module: str, name: str, problem: Problem, workers: int, budget_epochs: int, seed: int) -> Policy:
    factory: Factory = getattr(importlib.import_module(f"{__name__}.{module}"), name)
    return factory(problem, workers, budget_epochs, seed)


_WHERE = {
    "random": ("random_search", "random"),
    "one_epoch_top_k": ("random_search", "one_epoch_top_k"),
    "random_asha": ("ray_stopping", "random_asha"),
    "optuna_search_asha": ("ray_stopping", "optuna_search_asha"),
    "optuna_search_asha_univariate": ("ray_stopping", "optuna_search_asha_univariate"),
    "tpe": ("optuna_study", "tpe"),
    "tpe_hyperband": ("optuna_study", "tpe_hyperband"),
    "tpe_halving": ("optuna_study", "tpe_halving"),
    "gp": ("optuna_study", "gp"),
    "gp_hyperband": ("optuna_study", "gp_hyperband"),
    "gp_halving": ("optuna_study", "gp_halving"),
    "syne_asha": ("syne_schedulers", "asha"),
    "syne_bohb": ("syne_schedulers", "bohb"),
    "syne_mobster": ("syne_schedulers", "mobster"),
    "syne_hypertune": ("syne_schedulers", "hypertune"),
    "dehb": ("evolution", "dehb"),
    "smac_mf": ("forest", "smac_mf"),
    "bohb": ("density", "bohb"),
    "neps_priorband": ("priors", "priorband"),
}

PEERS: Mapping[str, Factory] = {name: functools.partial(_build, *where) for name, where in _WHERE.items()}
