"""What learning curves that cross each other say: how far apart chance puts them, and whether more epochs matter."""

import itertools
from collections.abc import Sequence

import numpy as np

from tuner.strategy.history import History
from tuner.strategy.trial_view import TrialView

MOST_COMPARED = 30  # trials of a rung, the best: the pairs are as many as their square
QUANTILE = 0.9


def estimate_noise(trials: Sequence[TrialView], epochs: int) -> float:
    """Estimate how far the values of two trials may be apart by chance.

    Curves that cross and cross back are taken to differ by chance alone. The estimate is a high quantile of the
    distances of such pairs after so many epochs.

    Parameters
    ----------
    trials : sequence of TrialView
        All with at least so many epochs.
    epochs : int, at least 1
        Where the distances are measured, and up to where crossings are looked for.

    Returns
    -------
    float, at least 0
        In units of the objective; 0 where no curves cross so.

    References
    ----------
    .. [1] Bohdal et al., "PASHA: Efficient HPO and NAS with Progressive Resource Allocation", ICLR 2023,
       arXiv:2207.06940, section 4.3.
    """
    distances = []
    for one, other in itertools.combinations(trials[:MOST_COMPARED], 2):
        apart = np.subtract(one.values[:epochs], other.values[:epochs])
        signs = np.sign(apart[apart != 0])
        if np.count_nonzero(np.diff(signs)) >= 2:
            distances.append(abs(apart[-1]))
    return float(np.quantile(distances, QUANTILE)) if distances else 0.0


def find_last_rung(history: History) -> int:
    """Return the rung that is the last one for now: up to there the order of the trials still changes.

    It is the second one at first. While two trials that came to the last rung change places between the one below and
    it, by more than chance may do at either, it is the next one.

    References
    ----------
    .. [1] Bohdal et al., "PASHA: Efficient HPO and NAS with Progressive Resource Allocation", ICLR 2023,
       arXiv:2207.06940, Algorithm 1; there the places in two lists are compared, here pairs of trials.
    """
    for low, high in itertools.pairwise(history.rungs):
        trials = [history.own[number] for number in itertools.islice(history.at(high).best(), MOST_COMPARED)]
        trials = [trial for trial in trials if len(trial.values) >= high]
        noise = estimate_noise(trials, high)
        values = np.array([(trial.values[low - 1], trial.values[high - 1]) for trial in trials]).reshape(-1, 2)
        apart = values[:, None] - values[None]
        if not (np.minimum(apart[..., 1], -apart[..., 0]) > noise).any():
            return high
    return history.rungs[-1]
