"""SMAC's multi-fidelity facade, a random forest under Hyperband, by ask and tell.

The same seed gives the same result only with the same PYTHONHASHSEED: something in the library follows hashes.
"""

import math
import tempfile
import warnings
from pathlib import Path

from smac import MultiFidelityFacade, Scenario
from smac.runhistory.dataclasses import TrialValue

from search_quality.peers.configuration_space import config_of, configuration_space
from search_quality.peers.driving import OwnRandomness, Run, RungPeer
from search_quality.problems import MAX_EPOCHS, Problem
from tuner.strategy.simulate import Policy

# What the four brackets of its Hyperband pay for when promoted trials go on: 40 + 17 + 8 + 4 trials.
TRIALS_A_ROUND = 69
EPOCHS_A_ROUND = (27 + 9 * 2 + 3 * 6 + 18) + (12 * 3 + 4 * 6 + 18) + (6 * 9 + 2 * 18) + 4 * 27


class ForestPeer(RungPeer):
    """SMAC: it opens another bracket whenever the open ones wait, so that there is always something to train."""

    def __init__(self, problem: Problem, *, budget_epochs: int, seed: int) -> None:
        super().__init__(problem.space)
        self._randomness = OwnRandomness(seed)
        self._folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        # Costs go through a logarithm, so they must be above 0; an error counts from 1, the others likewise from the
        # next whole number above the optimum.
        self._ceiling = math.ceil(problem.optimum)
        scenario = Scenario(
            configuration_space(problem.space, seed),
            output_directory=Path(self._folder.name),
            deterministic=True,
            n_trials=max(round(budget_epochs / EPOCHS_A_ROUND * TRIALS_A_ROUND), 1),
            min_budget=1,
            max_budget=MAX_EPOCHS,
            seed=seed,
        )
        self._facade = MultiFidelityFacade(scenario, logging_level=False, overwrite=True)

    def ask(self) -> Run | None:
        """Ask."""
        with self._randomness(), warnings.catch_warnings(action="ignore"):
            info = self._facade.ask()
        return Run(info.config, config_of(self._space, dict(info.config)), round(info.budget), info)

    def tell(self, run: Run, value: float, *, has_diverged: bool) -> None:
        """Tell; SMAC minimizes."""
        with self._randomness(), warnings.catch_warnings(action="ignore"):
            answer = TrialValue(cost=self._ceiling - value, time=run.until_epoch)
            self._facade.tell(run.token, answer, save=False)


def smac_mf(problem: Problem, workers: int, budget_epochs: int, seed: int) -> Policy:
    """Build SMAC."""
    with warnings.catch_warnings(action="ignore"):
        return ForestPeer(problem, budget_epochs=budget_epochs, seed=seed)
