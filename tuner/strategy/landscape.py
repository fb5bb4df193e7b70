"""Learning curves that nobody has seen: a random model of what the configurations of a space might show."""

import math

import numpy as np
from numpy.typing import NDArray

from tuner.spec.space import Choice, Config, Space
from tuner.strategy.encoding import Encoding

TOP = (0.5, 1.0)  # skill of the best configuration: what can be reached on unknown images is unknown
SLOPE = (0.5, 3.0)  # how fast skill falls away from the best configuration
PACE = (0.5, 8.0)  # epochs in which a curve comes two thirds of its way
PACE_SPREAD = 0.5  # of its logarithm, from configuration to configuration: what is slow may overtake
NOISE = 0.01  # in skill, from epoch to epoch: some hundred validation images
DIVERGING = (0.75, 1.25)  # from which share of the range of learning rates on training diverges
DIVERGES_WITHIN = 3  # epochs


class Landscape:
    """One guess at what a search will meet.

    *Skill* is accuracy on a scale from a guess, 0, to no error, 1. A configuration's skill comes near its last value as
    an exponential does. That value falls with the square of the distance from a best point, which is drawn evenly, as
    is how good each option is. How much each hyperparameter matters is drawn from an exponential distribution, so that
    a few matter much and most little [1]_; the network's size is one more, of which more is better. Above some learning
    rate, which may lie above all, training diverges.

    Parameters
    ----------
    space : Space
        The first stage's.
    rng : numpy.random.Generator
        Where all is drawn from.

    References
    ----------
    .. [1] Bergstra and Bengio, "Random Search for Hyper-Parameter Optimization", JMLR 13, 2012, section 3.
    """

    def __init__(self, space: Space, rng: np.random.Generator) -> None:
        self._encoding = Encoding(space)
        self._rng = rng
        parameters = self._encoding.parameters
        weights = rng.exponential(size=len(parameters) + 1)
        self._weights = weights / weights.sum()
        self._best = rng.random(len(parameters))
        options = [len(p.distribution.options) if isinstance(p.distribution, Choice) else 0 for p in parameters]
        self._options = [rng.random(count) for count in options]
        self._top, self._slope = rng.uniform(*TOP), rng.uniform(*SLOPE)
        self._pace = math.exp(rng.uniform(*np.log(PACE)))
        self._diverging = rng.uniform(*DIVERGING)
        self._rates = [i for i, parameter in enumerate(parameters) if parameter.key == "learning_rate"]

    def draw_skills(self, config: Config, size: float, num_epochs: int) -> NDArray[np.float64]:
        """Draw what a configuration shows after each epoch.

        Parameters
        ----------
        config : mapping
            A point of the space, or of one that was narrowed or widened from it.
        size : float, in [0, 1]
            Its network's, from the smallest to the largest of the space.
        num_epochs : int
            How many.

        Returns
        -------
        float array, shape (num_epochs,)
            Skill; NaN from where the training diverges.
        """
        (point,) = self._encoding.encode([config])
        far = 4 * (point - self._best) ** 2
        for i, badness in enumerate(self._options):
            if len(badness):
                far[i] = badness[int(point[i] * len(badness))]
        distances = np.append(far, 1 - size)
        last = self._top * math.exp(-self._slope * float(self._weights @ distances))
        pace = self._pace * math.exp(PACE_SPREAD * self._rng.normal())
        epochs = np.arange(1, num_epochs + 1)
        skills = last * (1 - np.exp(-epochs / pace)) + NOISE * self._rng.normal(size=num_epochs)
        if any(point[i] > self._diverging for i in self._rates):
            skills[int(self._rng.integers(DIVERGES_WITHIN)) :] = math.nan
        return np.clip(skills, 0.0, 1.0)
