"""Which trials skip the first rungs: the less a rung's values tell about the end, the fewer it judges."""

import numpy as np

from tuner.strategy.history import History

MIN_SHARED = 6  # trials at a rung and at the last one, before their agreement is measured


def choose_bracket(number: int, history: History, num_brackets: int, seed: int) -> int:
    """Return how many of the first rungs do not judge a trial.

    What is known when a trial begins decides: with so many values at the rungs, brackets are drawn with the weights of
    `weigh_brackets`.

    Parameters
    ----------
    number : int
        The trial, which has begun.
    history : History
        The stage's trials.
    num_brackets : int, at least 1
        No trial skips as many rungs as that, nor all of them.
    seed : int, at least 0
        Another seed, other brackets.
    """
    count = min(num_brackets, len(history.rungs))
    weights = weigh_brackets(history, history.begun[number])[:count]
    return int(np.random.default_rng((seed, number, count)).choice(count, p=weights / weights.sum()))


def weigh_brackets(history: History, num_arrivals: int) -> np.ndarray:
    """Return how often each rung should be the first one that judges.

    A rung is worth as much as pairs of trials that came to it and to the last rung have the same order at both: the
    share of such pairs beyond a half. Looking at it costs its epochs, so the worth is divided by those. While few
    trials have come to both, the worth is taken to be the same at all rungs.

    Parameters
    ----------
    history : History
        The stage's trials.
    num_arrivals : int
        Only so many first arrivals at rungs count.

    Returns
    -------
    array, shape (num_rungs,)
        Weights, above 0.

    References
    ----------
    .. [1] Li et al., "Hyper-Tune: Towards Efficient Hyper-parameter Tuning at Scale", VLDB 2022, arXiv:2201.06834,
       section 4.1; there the worth is the probability that the rung's surrogate has the least ranking loss.
    """
    last = len(history.rungs) - 1
    values: list[dict[int, float]] = [{} for _ in history.rungs]
    for row in history.rows[:num_arrivals]:
        values[row.rung][row.number] = row.value
    worths = np.ones(len(history.rungs))
    for rung in range(last):
        shared = [number for number in values[last] if number in values[rung]]
        if len(shared) >= MIN_SHARED:
            low = np.array([values[rung][number] for number in shared])
            high = np.array([values[last][number] for number in shared])
            above = np.triu_indices(len(shared), 1)
            signs = (np.sign(low[:, None] - low) * np.sign(high[:, None] - high))[above]
            worths[rung] = max(float(np.nanmean(signs)), 0.02)
    return np.asarray(worths / np.array(history.rungs))
