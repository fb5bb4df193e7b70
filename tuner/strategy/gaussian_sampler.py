"""Suggestions of a Gaussian process: what is expected to improve most on the best."""

import itertools
from collections.abc import Iterator, Sequence

from tuner.spec.space import Scalar, Space
from tuner.strategy.draws import draw, first_new, generators
from tuner.strategy.forecast import Forecaster
from tuner.strategy.model_free import QuasiRandomSampler
from tuner.strategy.prior import Belief, FadingBelief, fade
from tuner.strategy.trial_view import TrialView

NUM_START = 10  # quasi-random points before a model is asked
NUM_MODEL_ATTEMPTS = 4


class GaussianSampler:
    """Suggests what a Gaussian process over configs and rungs expects to improve most.

    The first points are quasi-random. After them each suggestion has the greatest expected improvement over the best
    trial at the stage's last epoch, where trials that still run are taken to get where they are expected to. Where
    there are priors, the improvement is weighed with their density, the less the more trials have ended [3]_.

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
        self._forecaster = forecaster
        self._seed = seed

    def ask(self, number: int, history: Sequence[TrialView]) -> dict[str, Scalar]:
        """Suggest what promises most, or a quasi-random point; see `Sampler.ask`."""
        return first_new(history, self._propose(number, history))

    def _propose(self, number: int, history: Sequence[TrialView]) -> Iterator[dict[str, Scalar]]:
        rngs = generators(self._seed, number)
        is_start = number < NUM_START and not any(trial.is_carried for trial in history)
        forecast = None if is_start else self._forecaster.forecast(history)
        if forecast is None:
            yield self._sequence.at(number)
        else:
            num_ended = sum(trial.state != "running" and not trial.is_foreign for trial in history)
            belief = None if self._belief.is_empty else FadingBelief(self._belief, fade(num_ended))
            for rng in itertools.islice(rngs, NUM_MODEL_ATTEMPTS):
                yield self._forecaster.encoding.decode(forecast.find_most_promising(rng, belief=belief)[0])
        yield from (draw(self._space, rng) for rng in rngs)
