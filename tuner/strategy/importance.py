"""How much each parameter explains of which trials are better than others."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import betainc

from tuner.spec.space import Choice, Space
from tuner.strategy.encoding import Encoding
from tuner.strategy.trial_view import TrialView

MIN_TRIALS = 8
"""Fewer tell nothing."""
NUM_PARTS = 4
"""Into how many parts of equal length a range is cut."""
LEVEL = 0.05
"""How rarely chance alone may look like an effect."""

Places = NDArray[np.float64]


@dataclass(frozen=True)
class Importance:
    """What one parameter explains of the places of the trials that have it.

    Attributes
    ----------
    share : float, at most 1
        How much of the variance of the places its parts or options explain, less what chance would on average.
    is_clear : bool
        Whether that is more than chance gives, with what more important parameters explain taken off.
    is_clear_alone : bool
        The same with nothing taken off.
    besides : tuple of str
        The more important parameters, whose effects were taken off.
    left : dict from int to float
        By the trials' numbers, their places among each other with the same taken off; 1 is the best.
    """

    share: float
    is_clear: bool
    is_clear_alone: bool
    besides: tuple[str, ...]
    left: dict[int, float]


def find_importances(space: Space, ranked: Sequence[TrialView], losers: Sequence[TrialView]) -> dict[str, Importance]:
    """Find what each parameter explains of the trials' ranks, the most important one first.

    A range is cut into four parts and a choice into its options, and an analysis of variance of the ranks [1]_ tells
    whether some of them hold better trials than others. The parameter with the clearest answer comes first; what it
    explains is taken off the ranks, and the others are asked again, until no answer is clear any more [2]_.

    Parameters
    ----------
    space : Space
        The space that the trials were drawn from.
    ranked : sequence of TrialView
        Those with a result, best first.
    losers : sequence of TrialView
        Those without, all equally bad.

    Returns
    -------
    dict from parameter names to Importance
        Without the constants.

    Notes
    -----
    Taking off is needed because trials are not drawn independently: a sampler that has found a good learning rate
    tries it again and again together with whatever else the best trial had. Without it, of the ranges that do
    nothing a quarter to two thirds look important after 24 or 48 trials that a model suggested; with it, a tenth
    (``benchmarks/narrowing.py``).

    References
    ----------
    .. [1] Conover and Iman, "Rank Transformations as a Bridge Between Parametric and Nonparametric Statistics", The
       American Statistician 35, 1981: the Kruskal-Wallis test, by the F distribution, which also holds for few trials.
    .. [2] Efroymson, "Multiple Regression Analysis", in Mathematical Methods for Digital Computers, 1960: forward
       selection.
    """
    trials = [*ranked, *sorted(losers, key=lambda trial: trial.number)]  # sums of floats depend on their order
    places = np.arange(len(trials), dtype=float)
    places[len(ranked) :] = (len(ranked) + len(trials) - 1) / 2
    waiting = _split(space, trials)
    alone = {name: parts.test(places) for name, parts in waiting.items()}
    found: dict[str, Importance] = {}
    tests, taken = alone, list[str]()
    while waiting:
        name = min(waiting, key=lambda name: tests[name].chance)
        parts = waiting.pop(name)
        found[name] = Importance(
            tests[name].share,
            tests[name].chance <= LEVEL,
            alone[name].chance <= LEVEL,
            tuple(taken),
            {trials[row].number: float(place) for row, place in zip(parts.rows, tests[name].places, strict=True)},
        )
        if found[name].is_clear:
            taken.append(name)
            places = parts.take_off(places)
            tests = {name: parts.test(places) for name, parts in waiting.items()}
    return found


@dataclass(frozen=True)
class _Test:
    """An outcome: how likely chance gives so much or more, what is explained, and the ranks that were compared."""

    chance: float
    share: float
    places: Places


@dataclass(frozen=True)
class _Parts:
    """One parameter: which trials have it, and in which part each lies.

    Attributes
    ----------
    rows : int array, shape (num_trials_with_it,)
        The trials' rows.
    members : tuple of bool arrays, shape (num_trials_with_it,)
        Of each part that has any, its trials.
    """

    rows: NDArray[np.intp]
    members: tuple[NDArray[np.bool_], ...]

    def test(self, places: Places) -> _Test:
        """Compare the parts' mean ranks."""
        ranks = _rank(places[self.rows])
        deviation = ranks - (len(ranks) + 1) / 2
        total = float((deviation**2).sum())
        between = sum(float(deviation[own].sum()) ** 2 / int(own.sum()) for own in self.members)
        num_free, num_left = len(self.members) - 1, len(ranks) - len(self.members)
        if len(ranks) < MIN_TRIALS or num_free < 1 or num_left < 1 or total == 0:
            return _Test(1.0, 0.0, ranks)
        explained, by_chance = between / total, num_free / (len(ranks) - 1)
        chance = float(betainc(num_left / 2, num_free / 2, max(0.0, 1 - explained)))  # of the F distribution
        return _Test(chance, (explained - by_chance) / (1 - by_chance), ranks)

    def take_off(self, places: Places) -> Places:
        """Return the places with all parts moved to the same mean."""
        left, own = places.copy(), places[self.rows]
        for members in self.members:
            left[self.rows[members]] -= own[members].mean() - own.mean()
        return left


def _split(space: Space, trials: Sequence[TrialView]) -> dict[str, _Parts]:
    encoding = Encoding(space)
    points = encoding.encode([trial.config for trial in trials])
    split = {}
    for parameter, shares in zip(encoding.parameters, points.T, strict=True):
        rows = np.flatnonzero([parameter.name in trial.config for trial in trials])
        count = len(old.options) if isinstance(old := parameter.distribution, Choice) else NUM_PARTS
        parts = np.minimum((shares[rows] * count).astype(int), count - 1)
        split[parameter.name] = _Parts(rows, tuple(parts == part for part in np.unique(parts)))
    return split


def _rank(values: Places) -> Places:
    """Return each value's rank from 1; equal ones share the mean of theirs."""
    _, where, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: Places = (np.cumsum(counts) - (counts - 1) / 2)[where]
    return ranks
