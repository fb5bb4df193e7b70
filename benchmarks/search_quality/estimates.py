"""What the regrets of several seeds say: means with intervals, ranks, ratios and paired tests.

Methods are compared in pairs, on the seeds that both have, so that one with few seeds takes nothing from the others.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata, wilcoxon

Regrets: TypeAlias = Mapping[int, float]
"""Of one method on one problem, by seed."""

Table: TypeAlias = Mapping[str, Mapping[str, Regrets]]
"""By problem, then by method."""

Floats: TypeAlias = NDArray[np.float64]

NUM_RESAMPLES = 2000
COVERED = (0.025, 0.975)
SMALLEST_RATIO = 0.01
"""A problem's ratio counts as no smaller, and no larger than one over it, lest one problem decide for all."""
ALPHA = 0.05


@dataclass(frozen=True)
class Estimate:
    """A number with its bootstrap interval of 95%.

    Attributes
    ----------
    value, low, high : float
        The number and the ends of the interval.
    num_problems : int
        How many problems it is made of.
    """

    value: float
    low: float
    high: float
    num_problems: int = 1


def estimate(values: Sequence[float], statistic: Callable[..., Floats] = np.mean) -> Estimate:
    """Return a statistic of values and the percentile bootstrap's interval.

    Parameters
    ----------
    values : sequence of float, not empty
        One for each seed.
    statistic : function of an array and an axis
        The mean, or the median.
    """
    known = np.asarray(values, dtype=float)
    drawn = known[np.random.default_rng(0).integers(len(known), size=(NUM_RESAMPLES, len(known)))]
    low, high = np.quantile(statistic(drawn, axis=1), COVERED)
    return Estimate(float(statistic(known, axis=0)), float(low), float(high))


def share_seeds(one: Regrets, other: Regrets) -> tuple[Floats, Floats]:
    """Return the regrets of two methods on the seeds that both have, in the order of the seeds."""
    seeds = sorted(one.keys() & other.keys())
    return np.array([one[seed] for seed in seeds]), np.array([other[seed] for seed in seeds])


def estimate_ratio(table: Table, method: str, reference: str) -> Estimate | None:
    """Return the geometric mean over problems of a method's mean regret over another's; None if they share nothing.

    The interval is that of seeds drawn anew on each problem, problems being what they are.
    """
    rng = np.random.default_rng(0)
    logs, drawn = [], []
    for methods in table.values():
        own, others = share_seeds(methods.get(method, {}), methods.get(reference, {}))
        if len(own):
            chosen = rng.integers(len(own), size=(NUM_RESAMPLES, len(own)))
            logs.append(_log_ratio(own.mean(), others.mean()))
            drawn.append(_log_ratio(own[chosen].mean(axis=1), others[chosen].mean(axis=1)))
    if not logs:
        return None
    low, high = np.quantile(np.mean(drawn, axis=0), COVERED)
    return Estimate(math.exp(float(np.mean(logs))), math.exp(low), math.exp(high), len(logs))


def _log_ratio(own: Floats, others: Floats) -> Floats:
    tiny = np.finfo(float).tiny  # where an optimum is rounded, a regret may come out as 0 or below
    logs: Floats = np.log(np.maximum(own, tiny)) - np.log(np.maximum(others, tiny))
    return np.clip(logs, math.log(SMALLEST_RATIO), -math.log(SMALLEST_RATIO))


def mean_ranks(table: Table) -> dict[str, float]:
    """Return the mean rank of each method over problems and seeds, 1 being the best; of equals, the middle.

    A rank is one more than the number of methods that are better, a chance for each of the others: the share of seeds
    on which it is better, averaged over the problems that both have. Where all have all seeds this is the mean of
    the ranks within each problem and seed; of two that share no seed, each counts as half better.
    """
    names = sorted({name for methods in table.values() for name in methods})
    return {name: 1 + sum(_lose(table, name, other) for other in names if other != name) for name in names}


def _lose(table: Table, name: str, other: str) -> float:
    shares = []
    for methods in table.values():
        own, others = share_seeds(methods.get(name, {}), methods.get(other, {}))
        if len(own):
            shares.append(np.mean((others < own) + 0.5 * (others == own)))
    return float(np.mean(shares)) if shares else 0.5


@dataclass(frozen=True)
class Difference:
    """A method and another on one problem.

    Attributes
    ----------
    problem, other : str
        Which.
    own_mean, other_mean : float
        Mean regrets on the shared seeds.
    num_seeds : int
        How many those are.
    sign : int
        1 where the signed ranks say that the method's regrets are larger, -1 where smaller, 0 where neither.
    p_value : float
        Corrected for the problems on which the two are compared.
    """

    problem: str
    other: str
    own_mean: float
    other_mean: float
    num_seeds: int
    sign: int
    p_value: float

    @property
    def is_significant(self) -> bool:
        """Whether chance would hardly bring it about."""
        return self.p_value <= ALPHA and self.sign != 0


def compare(table: Table, method: str, other: str) -> list[Difference]:
    """Compare a method with another on each problem: Wilcoxon's signed ranks over seeds, Holm-corrected."""
    pairs = {
        problem: share_seeds(methods.get(method, {}), methods.get(other, {})) for problem, methods in table.items()
    }
    pairs = {problem: pair for problem, pair in pairs.items() if len(pair[0])}
    tests = [signed_ranks(own - others) for own, others in pairs.values()]
    corrected = holm([p_value for p_value, _ in tests])
    return [
        Difference(problem, other, float(own.mean()), float(others.mean()), len(own), sign, p_value)
        for (problem, (own, others)), (_, sign), p_value in zip(pairs.items(), tests, corrected, strict=True)
    ]


def signed_ranks(differences: Floats) -> tuple[float, int]:
    """Return the p-value of Wilcoxon's two-sided test, and the sign of the sum of ranks; zeros are left out."""
    kept = differences[differences != 0]
    if not len(kept):
        return 1.0, 0
    ranks = rankdata(np.abs(kept))
    return float(wilcoxon(kept).pvalue), int(np.sign((np.sign(kept) * ranks).sum()))


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p-values for their number.

    References
    ----------
    .. [1] Holm, "A Simple Sequentially Rejective Multiple Test Procedure", Scandinavian Journal of Statistics 6(2),
       1979.
    """
    order = np.argsort(p_values, kind="stable")
    scaled = np.asarray(p_values)[order] * (len(p_values) - np.arange(len(p_values)))
    corrected = np.empty(len(p_values))
    corrected[order] = np.minimum(np.maximum.accumulate(scaled), 1.0)
    return corrected.tolist()


def find_best(table: Table, method: str, peers: Sequence[str]) -> str | None:
    """Return the peer beside which a method's ratio is highest, of those with results on as many problems as any."""
    ratios = {peer: ratio for peer in peers if (ratio := estimate_ratio(table, method, peer)) is not None}
    most = max((ratio.num_problems for ratio in ratios.values()), default=0)
    complete = [peer for peer, ratio in ratios.items() if ratio.num_problems == most]
    return max(complete, key=lambda peer: ratios[peer].value, default=None)
