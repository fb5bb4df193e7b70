"""Configs as points of a unit cube, many at a time: for models that measure distances."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tuner.spec.space import Choice, Config, Distribution, Int, LogInt, LogUniform, Parameter, Scalar, Space, Uniform
from tuner.strategy.draws import at, index_of

Points = NDArray[np.float64]
MIDDLE = 0.5
"""Where a parameter lies that does not exist under a point's choices: all such points are alike in it."""


class Encoding:
    """The map between a space's configs and points of a cube with a side for each parameter that is free.

    A coordinate is the share of the distribution that lies below a value: of an option or a step of a grid, the middle
    of its own share. Where a parameter does not exist, the coordinate is a half.

    Parameters
    ----------
    space : Space
        What to encode.

    Attributes
    ----------
    parameters : tuple of Parameter
        Those that are free, in the order of the coordinates.
    is_choice : bool array, shape (num_parameters,)
        Which of them have options without an order.
    """

    def __init__(self, space: Space) -> None:
        self._space = space
        self.parameters = tuple(parameter for parameter in space.parameters if not parameter.is_constant)
        self._index = {parameter.name: i for i, parameter in enumerate(self.parameters)}
        self.is_choice = np.array([isinstance(p.distribution, Choice) for p in self.parameters], dtype=bool)
        self._num_steps = [_count_steps(parameter.distribution) for parameter in self.parameters]
        self._encoded: dict[int, tuple[Config, Points]] = {}

    def encode(self, configs: Sequence[Config]) -> Points:
        """Turn configs into points, shape (num_configs, num_parameters); exact inverses of `decode`.

        The same object is encoded once, since a search asks for its trials' configs again and again.
        """
        if not configs:
            return np.empty((0, len(self.parameters)))
        return np.array([self._encode(config) for config in configs])

    def _encode(self, config: Config) -> Points:
        known = self._encoded.get(id(config))
        if known is None:  # with the config, so that its id stays its own
            shares = [
                _share_below(p.distribution, config[p.name]) if p.name in config else MIDDLE for p in self.parameters
            ]
            known = self._encoded[id(config)] = config, np.array(shares)
        return known[1]

    def decode(self, point: Points) -> dict[str, Scalar]:
        """Turn one point into the config that it lies in."""
        return self._space.walk(lambda parameter: at(parameter.distribution, point[self._index[parameter.name]]))

    def snap(self, points: Points) -> Points:
        """Move each point to that of the config that it lies in; any real numbers may be given."""
        snapped = np.clip(points, 0.0, 1.0)
        for i, (parameter, steps) in enumerate(zip(self.parameters, self._num_steps, strict=True)):
            column = snapped[:, i]
            if isinstance(parameter.distribution, LogInt):
                column[:] = _snap_whole(parameter.distribution, column)
            elif steps:
                column[:] = (np.minimum(np.floor(column * steps), steps - 1) + 0.5) / steps
            if parameter.condition is not None:
                column[~self.exists(parameter, snapped)] = MIDDLE
        return snapped

    def exists(self, parameter: Parameter, points: Points) -> NDArray[np.bool_]:
        """Say for which points, whose earlier coordinates are snapped, a parameter exists."""
        if parameter.condition is None:
            return np.ones(len(points), dtype=bool)
        name, option = parameter.condition
        parent = self._space[name]
        assert isinstance(parent.distribution, Choice)
        if parent.is_constant:
            exists = np.ones(len(points), dtype=bool)
        else:
            exists = points[:, self._index[name]] == _share_below(parent.distribution, option)
        return exists & self.exists(parent, points)


def _snap_whole(distribution: LogInt, shares: Points) -> Points:
    """Move shares of a logarithmic range to those of the whole numbers that `draws.at` makes of them."""
    low, length = math.log(distribution.low - 0.5), math.log((distribution.high + 0.5) / (distribution.low - 0.5))
    whole = np.clip(np.rint(np.exp(low + shares * length)), distribution.low, distribution.high)
    snapped: Points = (np.log(whole) - low) / length
    return snapped


def _count_steps(distribution: Distribution) -> int:
    """Count the values of a grid or a choice; 0 where there is none, or where they are not evenly spaced."""
    if isinstance(distribution, Choice):
        return len(distribution.options)
    if isinstance(distribution, Int | Uniform) and distribution.step is not None:
        return round((distribution.high - distribution.low) / distribution.step) + 1
    return 0


def _share_below(distribution: Distribution, value: Scalar) -> float:
    """Invert `draws.at`."""
    steps = _count_steps(distribution)
    if isinstance(distribution, Choice):
        return (index_of(distribution, value) + 0.5) / steps
    number, low, high = float(value), distribution.low, distribution.high
    if low == high:
        return MIDDLE
    if steps:
        return (round((number - low) / (high - low) * (steps - 1)) + 0.5) / steps
    if isinstance(distribution, LogInt):
        low, high = low - 0.5, high + 0.5
    if isinstance(distribution, LogInt | LogUniform):
        number, low, high = math.log(number), math.log(low), math.log(high)
    return (number - low) / (high - low)
