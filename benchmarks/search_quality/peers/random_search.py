"""Search without a model, and without anything that is clever."""

import math

import numpy as np

from search_quality.peers.driving import StoppingPeer
from search_quality.problems import MAX_EPOCHS, Problem
from tuner.spec.space import Config, Space
from tuner.strategy.draws import draw
from tuner.strategy.simulate import Job, Policy


class RandomSearch(StoppingPeer):
    """Every trial is drawn at random and trained to the end."""

    def __init__(self, space: Space, seed: int) -> None:
        super().__init__(space)
        self._rng = np.random.default_rng(seed)

    def suggest(self, number: int) -> Config:
        """Draw a config."""
        return draw(self._space, self._rng)


class OneEpochTopK:
    """Train many random configs for one epoch, then the best of them to the end.

    Parameters
    ----------
    space : Space
        What is searched.
    seed : int
        What configs are drawn from.
    num_first, num_best : int
        How many of them train for one epoch, and how many go on.
    """

    def __init__(self, space: Space, seed: int, *, num_first: int, num_best: int) -> None:
        self._space = space
        self._rng = np.random.default_rng(seed)
        self._num_first = num_first
        self._num_best = num_best
        self._started: list[Config] = []
        self._after_one: dict[int, float] = {}
        self._best: list[int] | None = None

    def next(self) -> Job | None:
        """Start the next config, or the next of the best; see `Policy.next`."""
        if len(self._started) < self._num_first:
            self._started.append(draw(self._space, self._rng))
            return Job(("", len(self._started) - 1), self._started[-1])
        if len(self._after_one) < self._num_first:
            return None
        if self._best is None:
            finite = [number for number, value in self._after_one.items() if math.isfinite(value)]
            self._best = sorted(finite, key=lambda number: -self._after_one[number])[: self._num_best]
        if not self._best:
            return None
        number = self._best.pop(0)
        return Job(("", number), self._started[number], epochs_done=1)

    def report(self, job: Job, epoch: int, value: float) -> bool:
        """Note the first epoch, then go on until the last; see `Policy.report`."""
        if job.epochs_done == 0:
            self._after_one[job.key[1]] = value
            return False
        return math.isfinite(value) and epoch < MAX_EPOCHS


def random(problem: Problem, workers: int, budget_epochs: int, seed: int) -> Policy:
    """Build random search without stopping."""
    return RandomSearch(problem.space, seed)


def one_epoch_top_k(problem: Problem, workers: int, budget_epochs: int, seed: int) -> Policy:
    """Build one epoch for many and the rest for the best, which get a third of the budget's full trainings."""
    num_best = max(round(budget_epochs / MAX_EPOCHS / 3), 1)
    num_first = max(budget_epochs - num_best * (MAX_EPOCHS - 1), num_best)
    return OneEpochTopK(problem.space, seed, num_first=num_first, num_best=num_best)
