"""What decides at a rung: who goes on, and which of those that wait is gone on with."""

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from tuner.strategy.crossing import MOST_COMPARED, estimate_noise, find_last_rung
from tuner.strategy.forecast import Forecast, Forecaster
from tuner.strategy.gaussian_sampler import GaussianSampler
from tuner.strategy.history import History, RungResults

PATIENCE = 0.6  # how small a share of a new configuration's promise is enough to go on
NO_FORECAST = "too little was seen for a forecast"
NO_ROOM = "too few epochs are left to come to the last one, beside those that others need"


@dataclass(frozen=True)
class Room:
    """What may still be spent.

    Attributes
    ----------
    may_begin : bool
        Whether a new configuration may begin.
    may_go_on : bool
        Whether a trial that waits at a rung may be gone on with.
    horizon : float
        Epochs that a trial can still train before the search's last, besides those that others need until they are
        judged next, or before the end of its time.
    in_stage : float
        The same for one that waits, before the stage has trained what it may; all its trials begin nevertheless.
    is_contended : bool
        Whether others train that can come to the last epoch, so that what cannot would only take epochs from them.
    """

    may_begin: bool = True
    may_go_on: bool = True
    horizon: float = math.inf
    in_stage: float = math.inf
    is_contended: bool = False


class Rule(Protocol):
    """What decides whether a trial goes on from a rung.

    Attributes
    ----------
    waits_for_peers : bool
        Whether the first ones at a rung wait for others, where trials wait at all; otherwise they go on unjudged.
    """

    waits_for_peers: bool

    def judge(self, number: int, rung: int, history: History) -> tuple[bool, str]:
        """Decide about a trial where those that do not go on end.

        Parameters
        ----------
        number : int
            The trial's number in its stage.
        rung : int
            The epoch that it has finished.
        history : History
            The stage's trials so far, this one's value at the rung among them.

        Returns
        -------
        (bool, str)
            Whether it goes on, and why, for people.
        """
        ...

    def choose(self, history: History, room: Room, arrived: int | None = None) -> tuple[int | None, str]:
        """Decide what a worker does next, where trials wait at rungs to be gone on with.

        Parameters
        ----------
        history : History
            The stage's trials so far.
        room : Room
            What may still be spent.
        arrived : int or None
            The trial that has just come to a rung and might as well go on at once.

        Returns
        -------
        (int or None, str)
            The trial to go on with; None for a new one, or for none if no new one may begin. Why, for people: of the
            trial that arrived, if there is one.
        """
        ...


class RankRule:
    """Of ``n`` results at a rung, the best ``n // reduction`` go on.

    Of equals, the one with the lower number is better. Where those that do not go on end, there is never fewer than
    one that does; where they wait, the first ones wait until there are ``reduction`` of them.

    Parameters
    ----------
    reduction : int, at least 2
        One in this many goes on.
    tolerance : float, at least 0, or "auto"
        How far below the cut a trial still goes on; auto: as far as `crossing.estimate_noise` says.
    grows : bool
        Whether the last rung is the one that `crossing.find_last_rung` says: nobody goes on from there.
    sign : float, 1 or -1
        What the objective was multiplied with so that larger is better; texts show it as it was.

    References
    ----------
    .. [1] Li et al., "A System for Massively Parallel Hyperparameter Tuning", MLSys 2020, arXiv:1810.05934,
       Algorithm 2.
    """

    waits_for_peers = True

    def __init__(
        self,
        reduction: int,
        *,
        tolerance: float | Literal["auto"] = 0.0,
        grows: bool = False,
        sign: float = 1.0,
    ) -> None:
        self._reduction = reduction
        self._tolerance = tolerance
        self._grows = grows
        self._sign = sign

    def judge(self, number: int, rung: int, history: History) -> tuple[bool, str]:
        """Compare a trial with those that got to the rung before it; see `Rule.judge`."""
        standing = self._stand(number, rung, history)
        num_kept = max(1, self._count_kept(standing.num_results))
        cut = standing.value_at(num_kept)
        goes_on = standing.place <= num_kept or self._is_near(standing.value, cut, rung, history)
        value, shown = self._sign * standing.value, self._sign * cut
        return goes_on, (
            f"{value:.4g} against a cut of {shown:.4g}, rank {standing.place} of {standing.num_results} at this rung"
        )

    def choose(self, history: History, room: Room, arrived: int | None = None) -> tuple[int | None, str]:
        """Go on with the best that waits among those of the highest rung that may be promoted; see `Rule.choose`."""
        text = "" if arrived is None else self.judge(arrived, len(history.own[arrived].values), history)[1]
        last = find_last_rung(history) if self._grows else history.rungs[-1]
        for rung in reversed([rung for rung in history.rungs if rung < last]):
            promotable = [number for group in history.groups(rung) for number in self._promotable(group, rung, history)]
            waiting = [number for number in promotable if _waits_at(number, rung, history, arrived)]
            if waiting:
                return min(waiting, key=lambda number: history.at(rung).place(number)), text
        if arrived is not None and len(history.own[arrived].values) == last:
            text = f"{text}; the last rung for now"
        return None, text

    def _stand(self, number: int, rung: int, history: History) -> "Standing":
        """Compare a trial with its peers."""
        results = history.peers(number, rung)
        return Standing(results.values[number], results.place(number), len(results), results.value_at)

    def _promotable(self, group: RungResults, rung: int, history: History) -> Iterator[int]:
        """Yield those of a group that may go on from a rung, best first."""
        num_kept = self._count_kept(len(group))
        for place, number in enumerate(group.best(), start=1):
            near = num_kept > 0 and self._is_near(group.values[number], group.value_at(num_kept), rung, history)
            if place > num_kept and not near:
                return
            yield number

    def _is_near(self, value: float, cut: float, rung: int, history: History) -> bool:
        """Tell whether a value that is below the cut may be so by chance."""
        if self._tolerance == 0:
            return False
        tolerance = self._tolerance
        if tolerance == "auto":
            trials = [history.own[number] for number in itertools.islice(history.at(rung).best(), MOST_COMPARED)]
            tolerance = estimate_noise([trial for trial in trials if len(trial.values) >= rung], rung)
        return value >= cut - tolerance

    def _count_kept(self, num_results: int) -> int:
        return num_results // self._reduction


@dataclass(frozen=True)
class Standing:
    """Where a trial stands among those that it is compared with.

    Attributes
    ----------
    value : float
        What it has reached.
    place, num_results : int
        Its place, the best being 1, and how many there are, itself among them.
    value_at : function from int to float
        The value at a place.
    """

    value: float
    place: int
    num_results: int
    value_at: Callable[[int], float]


class MedianRule(RankRule):
    """Of the results at a rung, those go on that are not below the median.

    Parameters as of `RankRule`, but for the reduction.

    References
    ----------
    .. [1] Golovin et al., "Google Vizier: A Service for Black-Box Optimization", KDD 2017, section 3.2.1, which
       compares with the medians of running averages; here with those of the best values so far.
    """

    def __init__(self, *, tolerance: float | Literal["auto"] = 0.0, sign: float = 1.0) -> None:
        super().__init__(2, tolerance=tolerance, sign=sign)

    def _count_kept(self, num_results: int) -> int:
        return (num_results + 1) // 2


class EqualCostRule(RankRule):
    """Ranks at equal cost: what a trial has reached at a rung against what its peers had reached for as much.

    So a network whose epochs are dear is not judged by how much less it had seen of the images, nor a cheap one by how
    little it had cost. Peers that ended before are compared with what they had reached, and those that could not finish
    an epoch for so much are left out.

    Parameters as of `RankRule`.
    """

    def _stand(self, number: int, rung: int, history: History) -> Standing:
        own = history.own[number]
        values = {number: history.at(rung).values[number]}
        for other in history.peers(number, history.rungs[0]).values:
            trial = history.own[other]
            epochs = int(rung * own.cost / trial.cost + 1e-9)
            is_there = len(trial.values) >= epochs or other not in history.running
            if other != number and trial.values and epochs >= 1 and is_there:
                values[other] = trial.values[min(epochs, len(trial.values)) - 1]
        ranked = sorted((math.inf if math.isnan(value) else -value, other) for other, value in values.items())
        place = ranked.index((-values[number], number)) + 1
        return Standing(values[number], place, len(ranked), lambda at: -ranked[at - 1][0])

    def _promotable(self, group: RungResults, rung: int, history: History) -> Iterator[int]:
        for number in group.best():
            if len(history.own[number].values) >= rung:
                standing = self._stand(number, rung, history)
                num_kept = self._count_kept(standing.num_results)
                near = num_kept > 0 and self._is_near(standing.value, standing.value_at(num_kept), rung, history)
                if standing.place <= num_kept or near:
                    yield number


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

    waits_for_peers = False

    def __init__(self, forecaster: Forecaster, reduction: int, *, sign: float = 1.0) -> None:
        self._forecaster = forecaster
        self._reduction = reduction
        self._sign = sign

    def judge(self, number: int, rung: int, history: History) -> tuple[bool, str]:
        """Compare what is expected of a trial with what is of those that got to the rung; see `Rule.judge`."""
        forecast = self._forecaster.forecast(history, judged=number)
        if forecast is None:
            return True, NO_FORECAST
        ranked = self._rank(forecast, rung, history)
        num_kept, place = max(1, len(ranked) // self._reduction), list(ranked).index(number) + 1
        cut = self._sign * list(ranked.values())[num_kept - 1]
        value, expected = self._sign * history.at(rung).values[number], self._sign * ranked[number]
        text = f"{value:.4g} so far and {expected:.4g} expected at the end against a cut of {cut:.4g}"
        return place <= num_kept, f"{text}, rank {place} of {len(ranked)} at this rung"

    def choose(self, history: History, room: Room, arrived: int | None = None) -> tuple[int | None, str]:
        """Go on with the best that waits among those of the highest rung that may be promoted; see `Rule.choose`.

        What is expected changes all the time, so those that went on are counted, whether or not they still would.
        """
        text = "" if arrived is None else self.judge(arrived, len(history.own[arrived].values), history)[1]
        forecast = self._forecaster.forecast(history, judged=arrived)
        if forecast is None:
            return arrived, text
        for rung in reversed(history.rungs[:-1]):
            ranked = self._rank(forecast, rung, history)
            waiting = [n for n in ranked if _waits_at(n, rung, history, arrived)]
            num_kept = len(ranked) // self._reduction
            if waiting and len(ranked) - len(waiting) < num_kept and list(ranked).index(waiting[0]) < num_kept:
                return waiting[0], text
        return None, text

    @staticmethod
    def _rank(forecast: Forecast, rung: int, history: History) -> dict[int, float]:
        """Return what is expected of the trials that got to a rung, best first."""
        numbers = list(history.at(rung).values)
        expected = forecast.expect([history.own[number].config for number in numbers])
        return dict(sorted(zip(numbers, expected, strict=True), key=lambda pair: (-pair[1], pair[0])))


def _waits_at(number: int, rung: int, history: History, arrived: int | None) -> bool:
    return (number == arrived or number in history.paused) and len(history.own[number].values) == rung


class PromiseRule:
    """A trial goes on while nothing else promises a good deal more for an epoch of training.

    What is compared is the improvement over the best trial that an epoch is expected to bring, see
    `Forecast.measure_promise`: of a trial, given its values so far, and of the most promising configuration of the
    space. Looking at a new one is cheap, since it need not be trained past its first rung; so the surer the model is
    that early values tell, the sooner a trial has to prove itself.

    Parameters
    ----------
    model : GaussianSampler
        Knows what to expect, and what the most promising new configuration is.
    seed : int, at least 0
        Where the configurations that are looked at come from.
    sign : float, 1 or -1
        What the objective was multiplied with so that larger is better; texts show it as it was.

    Notes
    -----
    Where trials wait to be gone on with, nothing is given up for good by what few epochs showed: whatever promises
    most is trained next, as in freeze-thaw optimisation [1]_. Towards the end of the search's epochs no trial is begun
    or gone on with that could not come to the last one, while others can: a worker rather stands idle. Promise for an
    epoch does not know that end, and many workers would look at new configurations until too little is left to train
    the best of those that wait; so the room says when none begins any more. Towards the end of its time, where epochs
    are nobody else's, a worker goes on with what can come to the last one, or else with what has come furthest.

    References
    ----------
    .. [1] Swersky, Snoek and Adams, "Freeze-Thaw Bayesian Optimization", arXiv:1406.3896: whether to go on with a
       training or to begin another is one question.
    """

    waits_for_peers = False

    def __init__(self, model: GaussianSampler, *, seed: int, sign: float = 1.0) -> None:
        self._model = model
        self._forecaster = model.forecaster
        self._seed = seed
        self._sign = sign

    def judge(self, number: int, rung: int, history: History) -> tuple[bool, str]:
        """Compare a trial's promise with that of the most promising configuration; see `Rule.judge`."""
        forecast = self._forecaster.forecast(history, judged=number)
        if forecast is None:
            return True, NO_FORECAST
        own = forecast.measure_promise(history.own[number].config, rung)
        rng = np.random.default_rng((self._seed, number, rung))
        other = float(forecast.find_most_promising(rng, is_thorough=False)[1][0])
        return own >= other + math.log(PATIENCE), self._explain(forecast, history, number, own, other)

    def choose(self, history: History, room: Room, arrived: int | None = None) -> tuple[int | None, str]:
        """Go on with what promises most, or begin something new; see `Rule.choose`."""
        number = len(history.own)
        if arrived is None and room.may_begin and self._model.is_start(number, history):
            return None, ""
        waiting = [*([] if arrived is None else [arrived]), *(self._forecaster.find_waiting(history))]
        last = self._forecaster.stage_rungs[-1]
        may_begin = room.may_begin and room.horizon >= last
        horizon = min(room.horizon, room.in_stage)
        can_finish = any(last - len(history.own[number].values) <= horizon for number in waiting)
        if room.is_contended and not (can_finish or may_begin):
            return None, NO_ROOM
        forecast = self._forecaster.forecast(history, judged=arrived)
        if forecast is None:
            return arrived, NO_FORECAST
        if not waiting:
            return None, ""
        trials = [history.own[number] for number in waiting]
        if not can_finish and not may_begin:  # whatever has come furthest in expectation
            best = int(np.argmax(forecast.expect([trial.config for trial in trials])))
            is_for_nobody = room.may_go_on and room.in_stage == math.inf
            return waiting[best] if is_for_nobody else None, "too little is left to begin anything else"
        promises = forecast.measure_promises(trials, horizon)
        new = self._model.promise(forecast, number, history) if may_begin else -math.inf
        if arrived is not None:
            promises[0] -= math.log(PATIENCE)
        best = int(np.argmax(promises))
        goes_on = room.may_go_on and promises[best] > new
        if arrived is None:
            return waiting[best] if goes_on else None, ""
        if promises[0] == -math.inf:
            return waiting[best] if goes_on else None, NO_ROOM
        others = max([new, *promises[1:].tolist()])
        text = self._explain(forecast, history, arrived, promises[0] + math.log(PATIENCE), others)
        if best == 0 and promises[0] > new and not goes_on:
            text += ", but the stage's epochs are spent, or kept for trials that have not begun"
        return waiting[best] if goes_on else None, text

    def _explain(self, forecast: Forecast, history: History, number: int, own: float, other: float) -> str:
        trial = history.own[number]
        value, expected = self._sign * trial.values[-1], self._sign * forecast.expect([trial.config])[0]
        share = f"{math.exp(own - other):.2g}" if own - other < math.log(100) else "over 100"
        return f"{value:.4g} so far and {expected:.4g} expected at the end: {share} times what else promises most"
