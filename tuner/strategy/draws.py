"""Drawing points of a space, and never the same one twice."""

import itertools
import math
from collections.abc import Iterator

import numpy as np

from tuner.spec.space import Choice, Distribution, Int, LogInt, LogUniform, Scalar, Space, Uniform
from tuner.strategy.history import History

NUM_ATTEMPTS = 64


def generators(seed: int, number: int) -> Iterator[np.random.Generator]:
    """Yield independent generators that depend on the seed and the trial's number alone."""
    return (np.random.default_rng([seed, number, attempt]) for attempt in itertools.count())


def first_new(history: History, candidates: Iterator[dict[str, Scalar]]) -> dict[str, Scalar]:
    """Return the first candidate that no trial has; the very first if that takes too long."""
    tried = list(itertools.islice(candidates, 1))
    for candidate in itertools.chain(tried, itertools.islice(candidates, NUM_ATTEMPTS)):
        if not history.has(candidate):
            return candidate
    return tried[0]


def draw(space: Space, rng: np.random.Generator) -> dict[str, Scalar]:
    """Draw a point at random."""
    return space.walk(lambda parameter: at(parameter.distribution, rng.random()))


def find_middle(space: Space) -> dict[str, Scalar]:
    """Return the middle of every range on its own scale, and of every choice the middle option as it is written."""
    return space.walk(lambda parameter: at(parameter.distribution, 0.5))


def at(distribution: Distribution, share: float) -> Scalar:
    """Return the value below which a share, in [0, 1], of the distribution lies; 0 and 1 are its very ends."""
    if isinstance(distribution, Choice):
        return distribution.options[min(int(share * len(distribution.options)), len(distribution.options) - 1)]
    low, high = distribution.low, distribution.high
    if isinstance(distribution, Int | Uniform) and distribution.step is not None:
        num_steps = round((high - low) / distribution.step)
        return on_grid(distribution, min(int(share * (num_steps + 1)), num_steps))
    if isinstance(distribution, LogInt):
        # Each integer gets what lies within a half of it, as in Optuna, so that the ends are as likely as
        # their neighbours.
        log_low, log_high = math.log(low - 0.5), math.log(high + 0.5)
        return min(max(round(math.exp(log_low + share * (log_high - log_low))), int(low)), int(high))
    if isinstance(distribution, LogUniform):
        value = math.exp(math.log(low) + share * (math.log(high) - math.log(low)))
    else:
        value = low + share * (high - low)
    return float(high) if share >= 1 else min(max(value, low), high)


def on_grid(distribution: Int | Uniform, num_steps: int) -> int | float:
    """Return the value that many steps above the lower end, always the same float for the same place."""
    assert distribution.step is not None
    return min(distribution.low + num_steps * distribution.step, distribution.high)


def index_of(choice: Choice, value: Scalar) -> int:
    """Return an option's place; 1, 1.0 and True are different options."""
    return next(i for i, option in enumerate(choice.options) if option == value and type(option) is type(value))
