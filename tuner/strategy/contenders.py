"""Who contends at the end of a search: its best configurations, and what there would be without a search."""

from collections.abc import Sequence

import numpy as np

from tuner.spec.space import Choice, Config, Parameter, Scalar, Space
from tuner.strategy.draws import draw, find_middle

RANDOM, MIDDLE = "random", "middle"


def draw_baselines(space: Space, seed: int) -> dict[str, dict[str, Scalar]]:
    """Return what one would have trained without a search.

    Parameters
    ----------
    space : Space
        The whole space, as it was before anything was narrowed.
    seed : int, at least 0
        The search's.

    Returns
    -------
    dict from names to configs
        ``random``: the first configuration that a random search of this seed draws; ``middle``: see `find_middle`.
    """
    return {
        RANDOM: draw(space, np.random.default_rng(seed)),
        MIDDLE: find_middle(space),
    }


def enclose(space: Space, configs: Sequence[Config]) -> Space:
    """Return the space of nothing but some configurations' values: of every parameter, a choice of those.

    Parameters
    ----------
    space : Space
        Has the parameters of all of them; their values need not lie in it, for narrowing may widen a range.
    configs : sequence of configs
        At least one.
    """
    parameters = []
    for parameter in space.parameters:
        values = [config[parameter.name] for config in configs if parameter.name in config]
        if values:
            options = tuple({(type(value), value): value for value in values}.values())
            parameters.append(Parameter(parameter.name, Choice(options=options), parameter.condition))
    return Space(tuple(parameters))
