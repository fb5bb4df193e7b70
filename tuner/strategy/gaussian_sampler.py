"""Suggestions of a Gaussian process: what is expected to get furthest above a target."""

import itertools
from collections.abc import Iterable, Iterator

import numpy as np

from tuner.spec.space import Scalar, Space
from tuner.strategy.draws import draw, first_new, generators
from tuner.strategy.forecast import Forecast, Forecaster
from tuner.strategy.history import History
from tuner.strategy.model_free import QuasiRandomSampler
from tuner.strategy.prior import Belief, FadingBelief, fade
from tuner.strategy.trial_view import TrialView

NUM_START = 10  # quasi-random points before a model is asked
NUM_MODEL_ATTEMPTS = 4


class GaussianSampler:
    """Suggests what a Gaussian process over configs and rungs expects to improve most.

    The first points are quasi-random. After them each suggestion has the greatest expected improvement over a target at
    the stage's last epoch: the best trial, or a little above it, see `forecast.Forecast`. Trials that still run are
    taken to get where they are expected to. Where there are priors, the improvement is weighed with their density, the
    less the more trials have ended [3]_.

    Parameters
    ----------
    space : Space
        What to suggest from.
    forecaster : Forecaster
        Knows what to expect.
    seed : int, at least 0
        Another seed, other suggestions.

    References
    ----------
    .. [1] Jones, Schonlau and Welch, "Efficient Global Optimization of Expensive Black-Box Functions", Journal of
       Global Optimization 13, 1998.
    .. [2] Ginsbourger, Le Riche and Carraro, "Kriging is well-suited to parallelize optimization", 2010: the believer.
    .. [3] Hvarfner et al., "piBO: Augmenting Acquisition Functions with User Beliefs for Bayesian Optimization", ICLR
       2022, arXiv:2204.11051, equation 6.
    """

    def __init__(self, space: Space, forecaster: Forecaster, *, seed: int) -> None:
        self._sequence = QuasiRandomSampler(space, seed=seed)
        self._belief = Belief(space)
        self._space = space
        self.forecaster = forecaster
        self._seed = seed
        self._found: tuple[Forecast, int, tuple[dict[str, Scalar], float]] | None = None

    def ask(self, number: int, history: Iterable[TrialView]) -> dict[str, Scalar]:
        """Suggest what promises most, or a quasi-random point; see `Sampler.ask`."""
        history = History.of(history, self.forecaster.stage_rungs)
        return first_new(history, self._propose(number, history))

    def is_start(self, number: int, history: History) -> bool:
        """Tell whether a trial is one of the first, for which no model is asked."""
        return number < NUM_START and not history.carried

    def _propose(self, number: int, history: History) -> Iterator[dict[str, Scalar]]:
        rngs = generators(self._seed, number)
        forecast = None if self.is_start(number, history) else self.forecaster.forecast(history)
        if forecast is None:
            yield self._sequence.at(number)
        else:
            yield self._find(forecast, number, history)[0]
            for rng in itertools.islice(rngs, 1, NUM_MODEL_ATTEMPTS):
                yield self._search(forecast, history, rng)[0]
        yield from (draw(self._space, rng) for rng in rngs)

    def promise(self, forecast: Forecast, number: int, history: History) -> float:
        """Return the logarithm of the promise of what would be suggested after a forecast."""
        return self._find(forecast, number, history)[1]

    def _find(self, forecast: Forecast, number: int, history: History) -> tuple[dict[str, Scalar], float]:
        """Find the most promising config and its promise, once for the same trial and forecast."""
        if self._found is None or self._found[0] is not forecast or self._found[1] != number:
            found = self._search(forecast, history, next(generators(self._seed, number)))
            self._found = forecast, number, found
        return self._found[2]

    def _search(
        self, forecast: Forecast, history: History, rng: np.random.Generator
    ) -> tuple[dict[str, Scalar], float]:
        belief = None if self._belief.is_empty else FadingBelief(self._belief, fade(history.num_ended))
        points, promises = forecast.find_most_promising(rng, belief=belief)
        decode = self.forecaster.encoding.decode
        best = next((i for i, point in enumerate(points) if not history.has(decode(point))), 0)
        promise = float(promises[best])
        if belief is not None:  # it chose the point, but says nothing of what the point promises
            promise -= float(belief.measure(points[best][None])[0])
        return decode(points[best]), promise
