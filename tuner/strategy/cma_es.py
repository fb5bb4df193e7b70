"""CMA-ES, on the ranks of trials of any length."""

import itertools
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from cmaes import CMA

from tuner.spec.space import Scalar, Space
from tuner.strategy.draws import at, draw, first_new, generators
from tuner.strategy.encoding import MIDDLE, Encoding
from tuner.strategy.history import History
from tuner.strategy.ranking import rank_trials
from tuner.strategy.trial_view import TrialView

NUM_ATTEMPTS = 4
FIRST_SIGMA = 0.3  # of each range, as the paper has it where the optimum may lie anywhere in it


class RankedCmaEs:
    """The covariance matrix adaptation evolution strategy, over the ranges that exist whatever is chosen.

    Choices, and what depends on them, are drawn independently.

    Parameters
    ----------
    space : Space
        What to suggest from. With fewer than two such ranges everything is drawn.
    seed : int, at least 0
        Another seed, other suggestions.

    Notes
    -----
    The distribution is made anew from the trials at every suggestion, so that it is a function of them alone. A
    generation is as many trials, by their numbers, as the paper [1]_ says, with a value each or ended without one. The
    strategy looks at ranks only, and a generation's trials are ranked as everywhere here, by values at equal epochs: a
    trial that was stopped is below those that it was compared with, and none has to wait for the last rung. What
    diverged or failed is last. Where several trials run at once some were drawn from the distribution before; they are
    told like the others, for they are a step behind at most, and no trial is wasted.

    References
    ----------
    .. [1] Hansen, "The CMA Evolution Strategy: A Tutorial", arXiv:1604.00772, appendix A.
    """

    def __init__(self, space: Space, *, seed: int) -> None:
        self._space = space
        self._seed = seed
        self._encoding = Encoding(space)
        ranges = [parameter.name for parameter in space.flat_ranges]
        self._columns = [i for i, p in enumerate(self._encoding.parameters) if p.name in ranges]
        self._index = {name: i for i, name in enumerate(ranges)}

    def ask(self, number: int, history: Iterable[TrialView]) -> dict[str, Scalar]:
        """Draw from the distribution that the trials so far make; see `sampler.Sampler.ask`."""
        history = History.of(history)
        return first_new(history, self._propose(number, list(history.own.values())))

    def _propose(self, number: int, trials: Sequence[TrialView]) -> Iterator[dict[str, Scalar]]:
        rngs = generators(self._seed, number)
        if len(self._index) > 1:
            strategy = self._replay(trials)
            for rng in itertools.islice(rngs, NUM_ATTEMPTS):
                yield self._ask(strategy, rng)
        yield from (draw(self._space, rng) for rng in rngs)

    def _ask(self, strategy: CMA, rng: np.random.Generator) -> dict[str, Scalar]:
        strategy.reseed_rng(int(rng.integers(2**32)))
        point = strategy.ask()
        return self._space.walk(
            lambda parameter: at(
                parameter.distribution,
                min(point[self._index[parameter.name]], 1 - 1e-12) if parameter.name in self._index else rng.random(),
            )
        )

    def _replay(self, trials: Sequence[TrialView]) -> CMA:
        """Tell a new strategy one generation of trials after the other."""
        size = len(self._index)
        bounds = np.tile([0.0, 1.0], (size, 1))
        strategy = CMA(np.full(size, MIDDLE), FIRST_SIGMA, bounds=bounds, n_max_resampling=10 * size)
        told = sorted((t for t in trials if t.values or t.state != "running"), key=lambda trial: trial.number)
        points = self._encoding.encode([trial.config for trial in told])[:, self._columns]
        count = strategy.population_size
        for start in range(0, len(told) - count + 1, count):
            generation = told[start : start + count]
            places = {trial.number: place for place, trial in enumerate(rank_trials(generation))}
            strategy.tell(
                [
                    (point, places.get(trial.number, count))
                    for point, trial in zip(points[start : start + count], generation, strict=True)
                ]
            )
        return strategy
