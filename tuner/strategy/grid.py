"""Every combination once, in a random order."""

import bisect
import itertools
import random
from collections.abc import Iterable

from tuner.spec.space import Choice, LogInt, LogUniform, Scalar, Space, count_values
from tuner.strategy.draws import on_grid
from tuner.strategy.encoding import Encoding
from tuner.strategy.trial_view import TrialView


class GridSampler:
    """Goes through all configs of a space in an order that the seed shuffles, so that a part of it is a fair sample.

    Parameters
    ----------
    space : Space
        What to go through. Under each option of a choice stands a grid of its own.
    seed : int, at least 0
        Another seed, another order.

    Raises
    ------
    ValueError
        If a range of the space is continuous.
    """

    def __init__(self, space: Space, *, seed: int) -> None:
        size = space.count_points()
        if size is None:
            raise ValueError("a continuous range has no grid")
        self._space = space
        self._size = size
        self._encoding = Encoding(space)
        self._random = random.Random(seed)  # noqa: S311 - of any size, which numpy's are not
        self._order: list[int] = []
        self._moved: dict[int, int] = {}

    def ask(self, number: int, history: Iterable[TrialView]) -> dict[str, Scalar]:
        """Return the next point that no trial of the stage has; see `sampler.Sampler.ask`.

        Points are told apart by their places on the grid, not by floats. Those of an earlier stage come again, at this
        one's length.
        """
        own = [trial.config for trial in history if not trial.is_carried]
        seen = {point.tobytes() for point in self._encoding.encode(own)}
        for place in range(number, number + self._size):
            config = self._at(place % self._size)
            if self._encoding.encode([config])[0].tobytes() not in seen:
                return config
        return self._at(number % self._size)

    def _at(self, place: int) -> dict[str, Scalar]:
        """Return the config at a place of the order, which is shuffled as far as it is wanted (Fisher and Yates)."""
        while len(self._order) <= place:
            here = len(self._order)
            other = self._random.randrange(here, self._size)
            self._order.append(self._moved.get(other, other))
            self._moved[other] = self._moved.pop(here, here)
        chosen: dict[str, Scalar] = {}
        self._decode(self._order[place], None, chosen)
        return self._space.walk(lambda parameter: chosen[parameter.name])

    def _decode(self, index: int, condition: tuple[str, str] | None, chosen: dict[str, Scalar]) -> None:
        """Choose the values that a number below the count of configs under a condition stands for."""
        for parameter in self._space.parameters:
            distribution = parameter.distribution
            if parameter.condition != condition:
                continue
            if not isinstance(distribution, Choice):
                index, step = divmod(index, count_values(distribution) or 1)
                assert not isinstance(distribution, LogUniform), "refused when the grid was made"
                chosen[parameter.name] = (
                    distribution.low + step if isinstance(distribution, LogInt) else on_grid(distribution, step)
                )
                continue
            below = [(parameter.name, option) if isinstance(option, str) else None for option in distribution.options]
            sizes = [1 if under is None else self._space.count_points(under) or 1 for under in below]
            index, rest = divmod(index, sum(sizes))
            ends = list(itertools.accumulate(sizes))
            place = bisect.bisect(ends, rest)
            chosen[parameter.name] = distribution.options[place]
            if (under := below[place]) is not None:
                self._decode(rest - ends[place] + sizes[place], under, chosen)
