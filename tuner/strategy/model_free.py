"""Samplers that learn nothing: independent draws, and a sequence that fills the space evenly."""

import itertools
from collections.abc import Iterable

import numpy as np
from scipy.stats import qmc

from tuner.spec.space import Config, Parameter, Scalar, Space
from tuner.strategy.draws import at, draw, first_new, generators
from tuner.strategy.history import History
from tuner.strategy.prior import SHARE, Belief
from tuner.strategy.trial_view import TrialView


class RandomSampler:
    """Independent draws, uniform over every choice and every range; where there are priors, half of them from those.

    Parameters
    ----------
    space : Space
        What to draw from.
    seed : int, at least 0
        Another seed, other draws.
    """

    def __init__(self, space: Space, *, seed: int) -> None:
        self._space = space
        self._seed = seed
        self._belief = Belief(space)

    def ask(self, number: int, history: Iterable[TrialView]) -> dict[str, Scalar]:
        """Draw a point at random; see `Sampler.ask`."""
        return first_new(History.of(history), (self._draw(rng) for rng in generators(self._seed, number)))

    def _draw(self, rng: np.random.Generator) -> dict[str, Scalar]:
        if not self._belief.is_empty and rng.random() < SHARE:
            return self._belief.draw(rng)
        return draw(self._space, rng)


class QuasiRandomSampler:
    """A scrambled Sobol sequence: points that leave smaller gaps than independent draws do.

    Where there are priors, every other point of the sequence is moved to where it is distributed as they say.

    Parameters
    ----------
    space : Space
        What to suggest from.
    seed : int, at least 0
        Another seed, another scrambling.
    heeds_priors : bool
        Whether the space's priors count.

    References
    ----------
    .. [1] Owen, "Scrambling Sobol' and Niederreiter-Xing points", Journal of Complexity 14, 1998.
    """

    def __init__(self, space: Space, *, seed: int, heeds_priors: bool = True) -> None:
        self._space = space
        self._seed = seed
        belief = Belief(space)
        self._belief = None if belief.is_empty or not heeds_priors else belief
        free = [parameter.name for parameter in space.parameters if not parameter.is_constant]
        self._coordinates = {name: i for i, name in enumerate(free)}

    def ask(self, number: int, history: Iterable[TrialView]) -> dict[str, Scalar]:
        """Return the sequence's point of that number, or a random one if a trial has it; see `Sampler.ask`."""
        drawn = (draw(self._space, rng) for rng in generators(self._seed, number))
        return first_new(History.of(history), itertools.chain([self.at(number)], drawn))

    def at(self, number: int, given: Config | None = None) -> dict[str, Scalar]:
        """Return one point of the sequence, with given values in the place of its own where they exist."""
        given = given or {}
        # the very same points twice: those of even numbers alone would leave half of the cube empty
        index = number if self._belief is None else number // 2
        engine = qmc.Sobol(max(1, len(self._coordinates)), rng=np.random.default_rng(self._seed))
        if index:
            engine.fast_forward(index)
        point = engine.random(1)[0]
        if self._belief is not None and number % 2 == 0:
            point = self._belief.warp(point[None])[0]

        def choose(parameter: Parameter) -> Scalar:
            if parameter.name in given:
                return given[parameter.name]
            return at(parameter.distribution, point[self._coordinates[parameter.name]])

        return self._space.walk(choose)
