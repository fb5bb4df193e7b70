"""Which trial is better, when some were stopped long before others."""

import math
from collections.abc import Iterable

from tuner.strategy.trial_view import TrialView


def rank_trials(trials: Iterable[TrialView]) -> list[TrialView]:
    """Order trials from best to worst, comparing values at equal epochs only.

    All trials are sorted by their value after the fewest epochs that any of them has. Those that have more
    are sorted again by their value after the next number of epochs, among the places that they hold together;
    and so on up to the longest. So a trial that was stopped keeps the place that it had among those of its
    length, a slow starter moves up as far as the trials that it overtook, and a poor trial that came further,
    having met few others, gains nothing by it.

    Parameters
    ----------
    trials : iterable of TrialView
        Of one stage. Their order does not matter: of equals, the one with the lower number is better.

    Returns
    -------
    list of TrialView
        Those with a result. Trials that diverged, failed or have finished no epoch are left out.
    """
    ranked = sorted((trial for trial in trials if has_result(trial)), key=lambda trial: trial.number)
    for num_epochs in sorted({len(trial.values) for trial in ranked}):
        places = [place for place, trial in enumerate(ranked) if len(trial.values) >= num_epochs]
        contenders = sorted(
            (ranked[place] for place in places),
            key=lambda trial: (-trial.values[num_epochs - 1], trial.number),
        )
        for place, trial in zip(places, contenders, strict=True):
            ranked[place] = trial
    return ranked


def has_result(trial: TrialView) -> bool:
    """Tell whether a trial's values can be compared: there are some, and it neither diverged nor failed."""
    return trial.state not in {"diverged", "failed"} and bool(trial.values) and math.isfinite(trial.values[-1])
