"""BOHB as its authors wrote it: their density estimates and successive halving brackets, without their servers."""

import logging
import types
import warnings

import numpy as np
from hpbandster.optimizers import bohb as brackets_of_bohb
from hpbandster.optimizers.config_generators import bohb as densities_of_bohb
from hpbandster.optimizers.iterations import SuccessiveHalving

from search_quality.peers.configuration_space import config_of, configuration_space
from search_quality.peers.driving import OwnRandomness, Run, RungPeer
from search_quality.problems import MAX_EPOCHS, Problem
from tuner.spec.space import Space
from tuner.strategy.simulate import Policy

ETA = 3
NUM_RUNGS = 4  # 1, 3, 9, 27


class DensityPeer(RungPeer):
    """The loop of the library's master: run what an open bracket has, or else open the next bracket."""

    def __init__(self, space: Space, *, seed: int) -> None:
        super().__init__(space)
        logging.getLogger("hpbandster").setLevel(logging.CRITICAL)
        self._randomness = OwnRandomness(seed)
        self._generator = densities_of_bohb.BOHB(configuration_space(space, seed))
        budgets = MAX_EPOCHS * np.power(float(ETA), -np.linspace(NUM_RUNGS - 1, 0, NUM_RUNGS))
        # What the optimizer's own method reads of the optimizer, which cannot be made without its name server.
        self._optimizer = types.SimpleNamespace(
            max_SH_iter=NUM_RUNGS, eta=ETA, budgets=budgets, config_generator=self._generator
        )
        self._brackets: list[SuccessiveHalving] = []

    def ask(self) -> Run | None:
        """Take the next run of the first bracket that has one."""
        with self._randomness(), warnings.catch_warnings(action="ignore"):
            while True:
                for bracket in self._brackets:
                    if not bracket.is_finished and (run := bracket.get_next_run()) is not None:
                        trial, values, budget = run
                        return Run(trial, config_of(self._space, values), round(budget), (values, budget))
                self._brackets.append(brackets_of_bohb.BOHB.get_next_iteration(self._optimizer, len(self._brackets)))

    def tell(self, run: Run, value: float, *, has_diverged: bool) -> None:
        """Register a result, or that there is none; losses are minimized."""
        values, budget = run.token
        job = types.SimpleNamespace(
            id=run.trial,
            kwargs={"config": values, "budget": budget},
            timestamps={},
            result=None if has_diverged else {"loss": -value, "info": {}},
            exception=None,
        )
        with self._randomness(), warnings.catch_warnings(action="ignore"):
            self._brackets[run.trial[0]].register_result(job)
            self._generator.new_result(job)


def bohb(problem: Problem, workers: int, budget_epochs: int, seed: int) -> Policy:
    """Build BOHB."""
    with warnings.catch_warnings(action="ignore"):
        return DensityPeer(problem.space, seed=seed)
