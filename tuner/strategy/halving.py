"""Asynchronous successive halving: at each rung, a rule says who goes on."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from tuner.spec.search import Halving
from tuner.strategy.forecast import Forecaster
from tuner.strategy.trial_view import TrialView

PATIENCE = 0.6  # how small a share of a new configuration's promise is enough to go on
NO_FORECAST = "too little was seen for a forecast"


@dataclass(frozen=True)
class Decision:
    """What becomes of a trial after an epoch.

    Attributes
    ----------
    action : str
        continue: train on; stop: end it here; complete: it has reached the last epoch.
    reason : str
        Why, for people.
    state : str or None
        The state that the trial ends in; None where it goes on.
    """

    action: Literal["continue", "stop", "complete"]
    reason: str
    state: Literal["complete", "stopped", "diverged"] | None = None


def rungs(max_epochs: int, min_epochs: int, reduction: int) -> tuple[int, ...]:
    """Return the epochs after which trials are compared.

    The last epoch, a ``reduction``-th of it, a ``reduction``-th of that and so on, each rounded down, while
    at least ``min_epochs`` are left. In integers throughout: with logarithms, 243 epochs at a reduction of 3
    lose a rung.

    Parameters
    ----------
    max_epochs : int, at least 1
        The last rung.
    min_epochs : int, at least 1
        No rung is lower, except that ``max_epochs`` always is one.
    reduction : int, at least 2
        About the ratio of neighbouring rungs; the paper's eta.

    Returns
    -------
    tuple of int
        Strictly increasing, ending at ``max_epochs``.

    Raises
    ------
    ValueError
        If an argument is below its least value.

    Examples
    --------
    >>> rungs(27, 1, 3), rungs(27, 2, 3), rungs(100, 1, 4)
    ((1, 3, 9, 27), (3, 9, 27), (1, 6, 25, 100))
    """
    if max_epochs < 1 or min_epochs < 1 or reduction < 2:
        raise ValueError(
            "need max_epochs >= 1, min_epochs >= 1 and reduction >= 2, "
            f"got max_epochs={max_epochs}, min_epochs={min_epochs}, reduction={reduction}"
        )
    descending = [max_epochs]
    while descending[-1] // reduction >= min_epochs:
        descending.append(descending[-1] // reduction)
    return tuple(reversed(descending))


def find_rungs(halving: Halving | None, max_epochs: int) -> tuple[int, ...]:
    """Return the rungs of a stage; without halving there is only the last epoch."""
    return (max_epochs,) if halving is None else rungs(max_epochs, halving.min_epochs, halving.reduction)


class Rule(Protocol):
    """What decides whether a trial goes on from a rung."""

    def judge(
        self, number: int, rung: int, results: Mapping[int, float], history: Sequence[TrialView]
    ) -> tuple[bool, str]:
        """Decide about a trial.

        Parameters
        ----------
        number : int
            The trial's number in its stage.
        rung : int
            The epoch that it has finished.
        results : mapping from numbers to values
            Of all trials that got to this rung, this one among them, larger is better; minus infinity for one that
            diverged before it could.
        history : sequence of TrialView
            The stage's trials so far.

        Returns
        -------
        (bool, str)
            Whether it goes on, and why, for people.
        """
        ...


class RankRule:
    """Of ``n`` results at a rung, the best ``n // reduction`` go on, and never fewer than one.

    Of equals, the one with the lower number is better.

    Parameters
    ----------
    reduction : int, at least 2
        One in this many goes on.
    sign : float, 1 or -1
        What the objective was multiplied with so that larger is better; texts show it as it was.

    References
    ----------
    .. [1] Li et al., "A System for Massively Parallel Hyperparameter Tuning", MLSys 2020, arXiv:1810.05934,
       Algorithm 2.
    """

    def __init__(self, reduction: int, *, sign: float = 1.0) -> None:
        self._reduction = reduction
        self._sign = sign

    def judge(
        self, number: int, rung: int, results: Mapping[int, float], history: Sequence[TrialView]
    ) -> tuple[bool, str]:
        """Compare a trial with those that got to the rung before it; see `Rule.judge`."""
        goes_on, text = _compare(number, results, self._reduction, self._sign)
        return goes_on, f"{self._sign * results[number]:.4g} {text}"


class ForecastRule:
    """Of ``n`` trials at a rung, the ``n // reduction`` go on that are expected to get furthest by the last epoch.

    So a family that starts slowly is not judged by its start, as far as the model has seen that it catches up; and
    where early values tell little, they decide little.

    Parameters
    ----------
    forecaster : Forecaster
        Knows what to expect.
    reduction : int, at least 2
        One in this many goes on.
    sign : float, 1 or -1
        What the objective was multiplied with so that larger is better; texts show it as it was.
    """

    def __init__(self, forecaster: Forecaster, reduction: int, *, sign: float = 1.0) -> None:
        self._forecaster = forecaster
        self._reduction = reduction
        self._sign = sign

    def judge(
        self, number: int, rung: int, results: Mapping[int, float], history: Sequence[TrialView]
    ) -> tuple[bool, str]:
        """Compare what is expected of a trial with what is of those that got to the rung; see `Rule.judge`."""
        forecast = self._forecaster.forecast(history, judged=number)
        if forecast is None:
            return True, NO_FORECAST
        configs = {trial.number: trial.config for trial in history if trial.number in results and not trial.is_carried}
        means = dict(zip(configs, forecast.expect(list(configs.values())), strict=True))
        goes_on, text = _compare(number, means, self._reduction, self._sign)
        value, expected = self._sign * results[number], self._sign * means[number]
        return goes_on, f"{value:.4g} so far and {expected:.4g} expected at the end {text}"


class PromiseRule:
    """A trial goes on while no new configuration promises a good deal more for an epoch of training.

    What is compared is the improvement over the best trial that an epoch is expected to bring, see
    `Forecast.measure_promise`: of this trial, given its values so far, and of the most promising configuration of the
    space. Looking at a new one is cheap, since it can be stopped at its first rung; so the surer the model is that
    early values tell, the sooner a trial has to prove itself.

    Parameters
    ----------
    forecaster : Forecaster
        Knows what to expect.
    seed : int, at least 0
        Where the configurations that are looked at come from.
    sign : float, 1 or -1
        What the objective was multiplied with so that larger is better; texts show it as it was.

    References
    ----------
    .. [1] Swersky, Snoek and Adams, "Freeze-Thaw Bayesian Optimization", arXiv:1406.3896: whether to go on with a
       training or to begin another is one question.
    """

    def __init__(self, forecaster: Forecaster, *, seed: int, sign: float = 1.0) -> None:
        self._forecaster = forecaster
        self._seed = seed
        self._sign = sign

    def judge(
        self, number: int, rung: int, results: Mapping[int, float], history: Sequence[TrialView]
    ) -> tuple[bool, str]:
        """Compare a trial's promise with that of the most promising configuration; see `Rule.judge`."""
        forecast = self._forecaster.forecast(history, judged=number)
        if forecast is None:
            return True, NO_FORECAST
        config = next(trial.config for trial in history if trial.number == number and not trial.is_carried)
        own = forecast.measure_promise(config, rung)
        rng = np.random.default_rng((self._seed, number, rung))
        other = forecast.find_most_promising(rng, is_thorough=False)[1]
        share = math.exp(min(own - other, 50.0))
        value, expected = self._sign * results[number], self._sign * forecast.expect([config])[0]
        text = f"{value:.4g} so far and {expected:.4g} expected at the end"
        return share >= PATIENCE, f"{text}: {share:.2g} times the promise of a new configuration"


def _compare(number: int, values: Mapping[int, float], reduction: int, sign: float) -> tuple[bool, str]:
    """Say whether a trial is among the best of its peers, and where the cut is."""
    order = sorted(values, key=lambda peer: (-values[peer], peer))
    num_kept = max(1, len(order) // reduction)
    place, cut = order.index(number) + 1, sign * values[order[num_kept - 1]]
    return place <= num_kept, f"against a cut of {cut:.4g}, rank {place} of {len(order)} at this rung"


class SuccessiveHalving:
    """Halving of the stopping type: a trial is judged once at each rung, and ends or goes on.

    Nobody is stopped while fewer than ``min_peers`` results are at a rung, and some trials never are: the audited,
    who tell what the rungs are worth.

    Parameters
    ----------
    halving : Halving or None
        How to stop; None: every trial trains to the last epoch.
    max_epochs : int, at least 1
        The last epoch.
    rule : Rule or None
        What decides at a rung; None for the ranks.
    sign : float, 1 or -1
        What the objective was multiplied with so that larger is better; texts show it as it was.
    seed : int or None
        Which trials are audited depends on it; none are without it.

    Notes
    -----
    The paper's algorithm 2 pauses every trial at a rung and promotes from among the paused, so that a trial
    which was passed over at first can go on later. Here nothing is paused: what is not good enough on arrival
    ends, and the first ``min_peers - 1`` arrivals go on untested, where the paper lets them wait.

    What differs from Ray Tune's ``ASHAScheduler``:

    - A value that is not finite stops the trial at once, at any epoch. (There, NaN compares as not worse, and
      goes on.) A diverged trial stays at the first rung that it did not get past, as the worst result there.
    - The first arrivals are as many as ``min_peers`` says. (There, one earlier result is enough to stop the
      next trial.)
    - Rungs are integers that end exactly at the last epoch. (There, they grow from the first by powers and
      may miss it.)

    The state is a mapping from trial to value at each rung and does not depend on the order of arrival, so it
    is rebuilt from the trials' recorded values by `replay`.

    References
    ----------
    .. [1] Li et al., "A System for Massively Parallel Hyperparameter Tuning", MLSys 2020, arXiv:1810.05934,
       Algorithm 2.
    """

    def __init__(
        self,
        halving: Halving | None,
        max_epochs: int,
        *,
        rule: Rule | None = None,
        sign: float = 1.0,
        seed: int | None = None,
    ) -> None:
        self.rungs = find_rungs(halving, max_epochs)
        self._halving = halving
        self._rule = rule or RankRule(2 if halving is None else halving.reduction, sign=sign)
        self._seed = seed
        self._results: dict[int, dict[int, float]] = {rung: {} for rung in self.rungs[:-1]}
        self._verdicts: dict[tuple[int, int], Decision] = {}

    def is_audited(self, number: int) -> bool:
        """Tell whether a trial is one of those that are never stopped."""
        if self._halving is None or self._seed is None:
            return False
        return bool(np.random.default_rng((self._seed, number)).random() < self._halving.audit)

    def results(self, rung: int) -> dict[int, float]:
        """Return number to value at a rung below the last; minus infinity for a trial that diverged."""
        return dict(self._results[rung])

    def report(self, number: int, epoch: int, value: float, history: Sequence[TrialView] = ()) -> Decision:
        """Take a trial's value after an epoch and say what becomes of it.

        The same report again, from a trial that was restored after a crash, is answered as it was the first
        time.

        Parameters
        ----------
        number : int
            The trial's number in its stage.
        epoch : int, 1 to max_epochs
            How many epochs it has finished.
        value : float, larger is better
            Its objective so far: the best epoch's. Not finite if the trial diverged.
        history : sequence of TrialView
            The stage's trials so far, for rules that look at more than the rung.

        Raises
        ------
        ValueError
            If ``epoch`` is outside its range.
        """
        if not 1 <= epoch <= self.rungs[-1]:
            raise ValueError(f"epoch must be in 1..{self.rungs[-1]}, got {epoch}")
        if not math.isfinite(value):
            self._record_divergence(number, epoch)
            return Decision("stop", f"diverged at epoch {epoch}: the loss is not finite", "diverged")
        if epoch == self.rungs[-1]:
            return Decision("complete", f"reached the last epoch, {epoch}", "complete")
        if epoch not in self._results:
            return Decision("continue", f"no rung at epoch {epoch}")
        if (number, epoch) not in self._verdicts:
            self._results[epoch][number] = value
            self._verdicts[number, epoch] = self._judge(number, epoch, history)
        return self._verdicts[number, epoch]

    def replay(self, trials: Iterable[TrialView]) -> None:
        """Rebuild the state from what was recorded before an interruption.

        A trial that trained past a rung was let past it then, whatever arrived since. One whose record ends
        at a rung is judged when it reports there again.

        Parameters
        ----------
        trials : iterable of TrialView
            The stage's trials in any order; those carried over from another stage are skipped.
        """
        for trial in trials:
            if trial.is_carried:
                continue
            num_finite = sum(math.isfinite(value) for value in trial.values)
            for rung, results in self._results.items():
                if rung <= num_finite:
                    results[trial.number] = trial.values[rung - 1]
                if rung < len(trial.values):
                    self._verdicts[trial.number, rung] = Decision("continue", f"went on at epoch {rung}")
            if trial.state == "diverged":
                self._record_divergence(trial.number, num_finite + 1)

    def _record_divergence(self, number: int, epoch: int) -> None:
        for rung, results in self._results.items():
            if rung >= epoch:
                results[number] = -math.inf
                return

    def _judge(self, number: int, rung: int, history: Sequence[TrialView]) -> Decision:
        assert self._halving is not None
        results = self._results[rung]
        if self.is_audited(number):
            return Decision("continue", f"went on at epoch {rung}: audited, so it is never stopped")
        if len(results) < self._halving.min_peers:
            return Decision(
                "continue",
                f"result {len(results)} at epoch {rung}, too few to judge (min_peers: {self._halving.min_peers})",
            )
        goes_on, text = self._rule.judge(number, rung, dict(results), history)
        if goes_on:
            return Decision("continue", f"went on at epoch {rung}: {text}")
        return Decision("stop", f"stopped at epoch {rung}: {text}", "stopped")
