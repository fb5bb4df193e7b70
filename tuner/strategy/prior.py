"""What the user believes to be best: as a density over the unit cube, and as a way to draw from it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from tuner.spec.space import Choice, Config, Parameter, Prior, Scalar, Space
from tuner.strategy.encoding import Encoding, Points

DEVIATIONS = {"low": 0.25, "medium": 0.125, "high": 0.05}
"""Of a guess in a range, in shares of the range."""
WEIGHTS = {"low": 2.0, "medium": 4.0, "high": 8.0}
"""Of a guessed option, where another one has 1."""
DOUBT = 0.1
"""How likely it is, of each parameter by itself, that the guess tells nothing."""
SHARE = 0.5
"""Of what is drawn before anything is known, and of what is drawn without a model, that comes from the prior."""
PATIENCE = 2.0
"""The beta of piBO: after as many trials have ended, the prior counts once, after ten times as many a tenth."""

Floats = NDArray[np.float64]


class Belief:
    """The prior over a space: independent in its parameters, a truncated normal or weights where there is a guess.

    Parameters
    ----------
    space : Space
        With a prior at some of its parameters.

    Attributes
    ----------
    is_empty : bool
        Whether nothing is believed.
    guesses : mapping from parameter names to values
        What is believed to be best, under whatever choices.

    References
    ----------
    .. [1] Hvarfner et al., "piBO: Augmenting Acquisition Functions with User Beliefs for Bayesian Optimization", ICLR
       2022, arXiv:2204.11051.
    .. [2] Mallik et al., "PriorBand: Practical Hyperparameter Optimization in the Age of Deep Learning", NeurIPS 2023,
       arXiv:2306.12370.

    Notes
    -----
    The deviations and weights that go with a confidence are ours.
    """

    def __init__(self, space: Space) -> None:
        self._space = space
        self._encoding = Encoding(space)
        self._given = [(i, p, p.prior) for i, p in enumerate(self._encoding.parameters) if p.prior is not None]
        self.guesses: Config = {parameter.name: prior.guess for _, parameter, prior in self._given}
        self._centres = self._encoding.encode([self.guesses])[0]

    @property
    def is_empty(self) -> bool:
        """Whether nothing is believed."""
        return not self._given

    def draw(self, rng: np.random.Generator) -> dict[str, Scalar]:
        """Draw a config from the prior."""
        return self._encoding.decode(self.warp(rng.random((1, len(self._encoding.parameters))))[0])

    def warp(self, points: Points) -> Points:
        """Move points that are uniform in the unit cube to where they are distributed as the prior is.

        Parameters
        ----------
        points : array, shape (n, num_parameters)
            Of coordinates in [0, 1).
        """
        warped = points.copy()
        for i, parameter, prior in self._given:
            if isinstance(parameter.distribution, Choice):
                ends = np.cumsum(self._weigh(i, parameter, prior))
                option = np.minimum(np.searchsorted(ends, points[:, i], side="right"), len(ends) - 1)
                warped[:, i] = (option + 0.5) / len(ends)
            else:
                deviation, centre = DEVIATIONS[prior.confidence], self._centres[i]
                low, high = ndtr(-centre / deviation), ndtr((1 - centre) / deviation)
                moved = centre + deviation * ndtri(low + points[:, i] * (high - low))
                warped[:, i] = np.clip(moved, 0.0, np.nextafter(1.0, 0.0))
        return warped

    def measure(self, points: Points) -> Floats:
        """Return the logarithm of the prior's density at points of configs, by that of a uniform one.

        In each parameter the prior is mixed with a uniform one, so that no guess rules anything out.
        """
        total = np.zeros(len(points))
        for i, parameter, prior in self._given:
            column = points[:, i]
            if isinstance(parameter.distribution, Choice):
                weights = self._weigh(i, parameter, prior)
                density = len(weights) * weights[np.minimum((column * len(weights)).astype(int), len(weights) - 1)]
            else:
                deviation, centre = DEVIATIONS[prior.confidence], self._centres[i]
                mass = ndtr((1 - centre) / deviation) - ndtr(-centre / deviation)
                density = np.exp(-0.5 * ((column - centre) / deviation) ** 2)
                density /= np.sqrt(2 * np.pi) * deviation * mass
            exists = self._encoding.exists(parameter, points)
            total += np.where(exists, np.log(DOUBT + (1 - DOUBT) * density), 0.0)
        return total

    def _weigh(self, i: int, parameter: Parameter, prior: Prior) -> Floats:
        """Return the probabilities of a choice's options."""
        assert isinstance(parameter.distribution, Choice)
        weights = np.ones(len(parameter.distribution.options))
        weights[int(self._centres[i] * len(weights))] = WEIGHTS[prior.confidence]
        return np.asarray(weights / weights.sum())


@dataclass(frozen=True)
class FadingBelief:
    """A belief, and what is left of it."""

    belief: Belief
    weight: float

    def measure(self, points: Points) -> Floats:
        """Return what is to be added to the logarithm of an acquisition function at points of configs."""
        return self.weight * self.belief.measure(points)


def fade(num_ended: int) -> float:
    """Return how much of the prior is left after some trials ended: the exponent of piBO, beta / n."""
    return PATIENCE / max(1, num_ended)
