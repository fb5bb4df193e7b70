"""What stopping trials early saved, and what it may have cost: an estimate from the trials that were never stopped."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from tuner.strategy.trial_view import TrialView

TOP = 0.1  # of the trials: what counts as the best
LEVEL = 0.9  # of the interval
MIN_CORRELATED = 5
MIN_TRUSTED = 8  # trials that came to the end, to give advice by how a rung's order agrees with the last one
DOUBTFUL, USEFUL, GOOD = 0.3, 0.6, 0.8  # rank correlations of a rung with the end
MANY_LOST, FEW_LOST = 0.25, 0.25  # of the best trials: surely more, surely fewer
VAGUE = 0.5  # width of an interval that says little


@dataclass(frozen=True)
class RungWorth:
    """How well the order at a rung agrees with that at the end.

    Attributes
    ----------
    rung : int
        The epoch.
    correlation : float in [-1, 1]
        Spearman's, between the values there and at the last epoch.
    num_trials : int
        How many trials it rests on.
    """

    rung: int
    correlation: float
    num_trials: int


@dataclass(frozen=True)
class Audit:
    """What halving did to one stage.

    Attributes
    ----------
    num_trials, num_audited : int
        Trials that ended by themselves or by halving, and those of them that were never stopped.
    num_top : int
        The best trials that halving let come to the end, which define what is as good as the best.
    num_top_audited : int
        Audited trials that are as good as these.
    num_better : int
        Audited trials that got further than the best one that halving let come to the end.
    false_stops, low, high : float, fraction in [0, 1]
        Of all trials as good as the best, audited ones left out: the share that halving stopped. The estimate and the
        ends of its interval. NaN where no trial was audited or none came to the end.
    rungs : tuple of RungWorth
        What each rung but the last is worth, where enough trials tell.
    is_sample : bool
        Whether these rest on audited trials alone; otherwise on all that came to the end, which halving chose.
    epochs, epochs_unstopped : int
        Epochs that were trained, and that would have been if nobody had been stopped.
    """

    num_trials: int
    num_audited: int
    num_top: int
    num_top_audited: int
    num_better: int
    false_stops: float
    low: float
    high: float
    rungs: tuple[RungWorth, ...]
    is_sample: bool
    epochs: int
    epochs_unstopped: int

    @property
    def saved(self) -> float:
        """The share of the epochs that was not trained."""
        return 1 - self.epochs / max(1, self.epochs_unstopped)

    @classmethod
    def read(cls, record: Mapping[str, Any]) -> Self:
        """Make it again from its fields, as JSON has them."""
        return cls(**{**record, "rungs": tuple(RungWorth(**worth) for worth in record["rungs"])})

    def advise(self) -> str:
        """Say in a sentence what follows for ``min_epochs``, if anything does."""
        first = self.rungs[0] if self.rungs else None
        is_trusted = first is not None and first.num_trials >= MIN_TRUSTED
        if self.num_audited == 0 and self.epochs == self.epochs_unstopped:
            return ""  # nobody was stopped
        if self.num_audited == 0:
            return "no trial was audited, so nothing tells what stopping cost; set halving: {audit: 0.1}"
        misleads = self.low > MANY_LOST or (first is not None and is_trusted and first.correlation < DOUBTFUL)
        if misleads and self.num_better:  # to stop what is as good as what goes on loses nothing
            useful = [worth.rung for worth in self.rungs[1:] if worth.correlation >= USEFUL]
            return f"raise min_epochs{f' to {useful[0]}' if useful else ''}: the first rung misleads"
        if first is not None and is_trusted and self.high < FEW_LOST and first.correlation >= GOOD and first.rung > 1:
            return f"lower min_epochs below {first.rung}: the first rung tells the best ones well"
        if not self.high - self.low <= VAGUE:
            return f"{self.num_audited} audited trials tell little; more trials, or halving: {{audit: 0.2}}, tell more"
        return ""


def audit_stage(trials: Sequence[TrialView], audited: Collection[int], rungs: Sequence[int]) -> Audit:
    """Estimate what stopping cost a stage, from its audited trials.

    Parameters
    ----------
    trials : sequence of TrialView
        The stage's own, after its end: those that waited then count as stopped.
    audited : collection of int
        The numbers of those that were never to be stopped, drawn at random and without regard to how they did.
    rungs : sequence of int, increasing
        The epochs at which trials were compared, the last epoch among them.

    Notes
    -----
    The trials that halving let come to the end tell what is good: the best of them, as many as a tenth of all trials
    but the audited, and no more than a third of those that came to the end; the last of these is the bar. The audited
    trials are a random sample of all, so the share of them that gets over the bar says how many of all do. What halving
    let through is known; the rest it stopped. So nothing has to be assumed of the rule that stopped, nor of trials that
    waited and were gone on with. The interval is of the exact test of a hypergeometric number, two-sided [1]_.

    A trial that diverged or failed is not good. One that a limit of the search ended is left out where that can be
    seen: an audited one that was stopped, and one that ended between two rungs.

    References
    ----------
    .. [1] Clopper and Pearson, "The use of confidence or fiducial limits illustrated in the case of the binomial",
       Biometrika 26, 1934; here for samples without replacement.
    """
    last = rungs[-1]
    sample = [t for t in trials if t.number in audited and t.state in {"complete", "diverged", "failed"}]
    others = [t for t in trials if t.number not in audited and (t.state != "stopped" or len(t.values) in rungs)]
    others = [t for t in others if t.state not in {"running", "paused"}]
    through = sorted((_final(t) for t in others if t.state == "complete"), reverse=True)
    bar = through[max(1, min(round(TOP * len(others)), len(through) // 3)) - 1] if through else math.inf
    num_top = sum(value >= bar for value in through)
    num_top_audited = sum(_final(trial) >= bar for trial in sample)
    num_better = sum(_final(trial) > max(through, default=-math.inf) for trial in sample)
    false_stops, low, high = _estimate(len(others), num_top, len(sample), num_top_audited)
    complete = [trial for trial in sample if trial.state == "complete"]
    is_sample = len(complete) >= MIN_CORRELATED
    if not is_sample:
        complete = [trial for trial in (*sample, *others) if trial.state == "complete"]
    ended = [*sample, *others]
    return Audit(
        num_trials=len(ended),
        num_audited=len(sample),
        num_top=num_top,
        num_top_audited=num_top_audited,
        num_better=num_better,
        false_stops=false_stops,
        low=low,
        high=high,
        rungs=tuple(_correlate(complete, rungs)),
        is_sample=is_sample,
        epochs=sum(len(trial.values) for trial in ended),
        epochs_unstopped=sum(len(trial.values) if trial.state in {"diverged", "failed"} else last for trial in ended),
    )


def _final(trial: TrialView) -> float:
    return trial.values[-1] if trial.state == "complete" else -math.inf


def _estimate(num_others: int, num_top: int, num_sample: int, num_found: int) -> tuple[float, float, float]:
    """Return the share of the best trials that was stopped, and its interval."""
    if not num_sample or not num_top:
        return math.nan, math.nan, math.nan
    from scipy.stats import hypergeom  # noqa: PLC0415, a second that whoever only shows an audit does without

    top_everywhere = np.arange(num_top + num_found, num_others + num_found + 1)
    drawn = hypergeom(num_others + num_sample, top_everywhere, num_sample)
    tail = (1 - LEVEL) / 2
    possible = top_everywhere[(drawn.cdf(num_found) >= tail) & (drawn.sf(num_found - 1) >= tail)]
    least, most = (possible[0], possible[-1]) if len(possible) else (top_everywhere[0], top_everywhere[0])
    guess = max(num_top, num_others * num_found / num_sample)
    return 1 - num_top / guess, float(1 - num_top / (least - num_found)), float(1 - num_top / (most - num_found))


def _correlate(complete: Sequence[TrialView], rungs: Sequence[int]) -> list[RungWorth]:
    """Compare the order at each rung but the last with that at the end."""
    found = []
    if len(complete) >= MIN_CORRELATED:
        from scipy.stats import spearmanr  # noqa: PLC0415, as above

        values = np.array([trial.values for trial in complete])
        for rung in rungs[:-1]:
            if np.ptp(values[:, rung - 1]) > 0 and np.ptp(values[:, -1]) > 0:
                correlation = float(spearmanr(values[:, rung - 1], values[:, -1]).statistic)
                found.append(RungWorth(rung, correlation, len(complete)))
    return found
