"""What a stage's trials say about the values that configs would reach at its last epoch."""

import functools
import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import erfcx, ndtr
from threadpoolctl import ThreadpoolController

from tuner.spec.space import Config, Space
from tuner.strategy.encoding import Encoding, Points
from tuner.strategy.gaussian_process import LAST_NOISE, NOISE, Hyperparameters, MultiRungProcess, fit, prior_means
from tuner.strategy.history import History, Row
from tuner.strategy.prior import SHARE, FadingBelief
from tuner.strategy.ranking import has_result
from tuner.strategy.trial_view import TrialView

MIN_ROWS = 4  # values at rungs, before anything is forecast
MIN_FITTED = 12  # values at rungs, before the hyperparameters are learnt from them
MOST_LENGTHS = 2  # of an earlier stage's trials: each is another rung, below the stage's own
MAX_ROWS_FITTED = 200
MANY_RUNNING = 64  # trials at once; each suggestion counts for less then, and is wanted sooner
REFIT_GROWTH = 1.15  # its hyperparameters are found again when there are that many times as many values
NUM_BEST = 20  # trials of the highest values, and
NUM_WAITING = 24  # paused trials at each rung, that are told to the process however long ago they were trained
NUM_NEAR, NUM_TOP = 60, 5
NUM_SCREENED = 60  # candidates whose promise is measured
NUM_DIGITS = 10  # after the point, of values in the model's units
COARSE_STEPS = (0.15, 0.05, 0.015)
"""How far candidates lie from the best trials, in shares of each coordinate's range."""
MARGINS = (0.0, 0.03, 0.03)
"""By how much the best has to be surpassed, in the model's units, for that to count: at one decision after another."""

Floats = NDArray[np.float64]
NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(15)
WEIGHTS /= WEIGHTS.sum()
"""Of Gauss and Hermite's quadrature: the mean of a function of a standard normal number."""


@dataclass(frozen=True)
class Effort:
    """How much is made of a forecast.

    Attributes
    ----------
    max_rows : int
        Of the process; its cost grows with the cube.
    max_pending : int
        Running trials that are taken to get where they are expected to.
    num_drawn : int
        Candidates for a suggestion that are drawn from the whole space.
    fine_steps : tuple of float
        How far candidates lie from the best candidates before them, in shares of each coordinate's range.
    """

    max_rows: int
    max_pending: int
    num_drawn: int
    fine_steps: tuple[float, ...]

    @classmethod
    def find(cls, num_running: int) -> "Effort":
        """Return what goes with so many trials at once."""
        return QUICK if num_running >= MANY_RUNNING else THOROUGH


THOROUGH = Effort(max_rows=360, max_pending=64, num_drawn=400, fine_steps=(0.08, 0.04, 0.02, 0.01, 0.005))
QUICK = Effort(max_rows=200, max_pending=32, num_drawn=200, fine_steps=(0.06, 0.02, 0.007))


@functools.cache
def _libraries() -> ThreadpoolController:
    """Find the libraries that multiply matrices in threads of their own, which would take the trials' cores."""
    return ThreadpoolController()


@dataclass(frozen=True)
class Scale:
    """The map from values to the units of the model: the best is 1, the median 0, and what is far below is drawn near.

    Attributes
    ----------
    best, unit : float
        The best value, and its distance from the median.
    """

    best: float
    unit: float

    @classmethod
    def of(cls, values: Floats) -> "Scale":
        """Fit the scale to values."""
        best = float(values.max())
        return cls(best, max(best - float(np.median(values)), 1e-9 * max(1.0, abs(best))))

    def apply(self, values: Floats) -> Floats:
        """Turn values into the model's units; above the best one it goes on in a straight line.

        What is left off are rounding errors, which a fit to values without noise would blow up.
        """
        below = np.maximum(self.best - values, 0.0) / self.unit
        above = np.maximum(values - self.best, 0.0) / self.unit
        return np.round(1 - np.log2(1 + below) + above / math.log(2), NUM_DIGITS)

    def invert(self, scaled: float) -> float:
        """Turn a number in the model's units into a value."""
        above = scaled - 1
        return self.best + self.unit * (above * math.log(2) if above > 0 else 1 - 2**-above)


@dataclass(frozen=True)
class Rows:
    """What was seen: a config's point, a rung and the value there, a row each."""

    numbers: NDArray[np.int64]
    points: Points
    rungs: NDArray[np.int64]
    values: Floats

    def __len__(self) -> int:
        return len(self.values)


class Forecaster:
    """Makes forecasts from what a stage's trials have shown.

    Parameters
    ----------
    space : Space
        The stage's.
    stage_rungs : sequence of int, increasing
        The epochs at which values are looked at, the last one included.
    is_cautious : bool
        Whether to expect as much noise at the last rung as elsewhere, and to aim no higher than the best: right where
        trials end for good, since what is tried for its uncertainty alone would end at its first rung beside the best.

    Notes
    -----
    Whatever is done depends on the trials alone. Hyperparameters are found from the first values at rungs, as many as a
    growing sequence of counts says, and kept until the next count is reached. Before there are enough, what was likely
    beforehand is taken, so that the first trials can be stopped too.

    Trials carried over from an earlier stage trained on another schedule, where as many epochs mean something else:
    their values are rungs of their own below the stage's, and what they tell about it is learnt like anything else.
    Those of another search too have rungs of their own; their best value is taken for the best one here, and distances
    from it are in the units of either search, for the data may differ.
    """

    def __init__(self, space: Space, stage_rungs: Sequence[int], *, is_cautious: bool = False) -> None:
        self.encoding = Encoding(space)
        self.stage_rungs = tuple(stage_rungs)
        self._margins = (0.0,) if is_cautious else MARGINS
        self._last_noise = NOISE if is_cautious else LAST_NOISE
        self._latest: tuple[History, tuple[int, tuple[int, ...]], Forecast | None] | None = None
        self._fitted: tuple[tuple[object, ...], Scale, Hyperparameters] | None = None

    def forecast(self, history: Iterable[TrialView], *, judged: int | None = None) -> "Forecast | None":
        """Forecast what configs would reach.

        Parameters
        ----------
        history : iterable of TrialView
            The stage's trials so far. A `History` with the stage's rungs saves going through them.
        judged : int or None
            The trial whose fate hangs on the answer: of the other running ones it is taken that they get where they are
            expected to.

        Returns
        -------
        Forecast or None
            None while too little was seen.
        """
        history = History.of(history, self.stage_rungs)
        effort = Effort.find(len(history.running))
        pending = tuple(number for number in history.running if number != judged)[-effort.max_pending :]
        seen = len(history.rows), pending
        if self._latest is None or self._latest[0] is not history or self._latest[1] != seen:
            with _libraries().limit(limits=1):
                self._latest = history, seen, self._forecast(history, pending, judged, effort)
        return self._latest[2]

    def _forecast(
        self, history: History, pending: Sequence[int], judged: int | None, effort: Effort
    ) -> "Forecast | None":
        found = self._fit(history)
        if found is None:
            return None
        scale, fitted = found
        arrivals = history.select(effort.max_rows, always=self._find_needed(history, judged, effort))
        rows = self._read(history, arrivals, effort.max_rows)
        process = MultiRungProcess(rows.points, rows.rungs, scale.apply(rows.values), self.encoding.is_choice, fitted)
        seen, first = np.unique(rows.numbers, return_index=True)
        means = process.expected[first]
        complete = np.array([number >= 0 and history.own[number].state == "complete" for number in seen.tolist()])
        best = float(means[complete].max() if complete.any() else means.max())
        if pending:
            process = process.assume(self.encoding.encode([history.own[number].config for number in pending]))
            # or the next suggestion would lie beside the one before
            best = max(best, float(process.expected[len(rows) :].max()))
        top = rows.points[first][np.argsort(-means, kind="stable")[:NUM_TOP]]
        costs = np.log([history.own[number].cost if number >= 0 else 1.0 for number in seen.tolist()])
        known = (rows.points[first][seen >= 0], costs[seen >= 0]) if costs.any() else None
        margin = self._margins[len(history.rows) % len(self._margins)]
        return Forecast(self.encoding, process, self.stage_rungs, scale, best + margin, top, known, effort)

    def find_waiting(self, history: History) -> list[int]:
        """Return the paused trials that come into question: the best ones of each rung."""
        waiting: list[int] = []
        for rung in self.stage_rungs[:-1]:
            there = (n for n in history.at(rung).best() if n in history.paused and len(history.own[n].values) == rung)
            waiting += itertools.islice(there, NUM_WAITING)
        return waiting

    def _find_needed(self, history: History, judged: int | None, effort: Effort) -> list[int]:
        """Return the trials that a forecast needs, however many others there are."""
        if len(history.rows) <= effort.max_rows:
            return []
        best = itertools.islice(history.at(self.stage_rungs[-1]).best(), NUM_BEST)
        running = list(history.running)[-effort.max_pending :]
        return [*([] if judged is None else [judged]), *running, *best, *self.find_waiting(history)]

    def _fit(self, history: History) -> tuple[Scale, Hyperparameters] | None:
        if len(self.encoding.parameters) == 0:
            return None
        first = history.select(MAX_ROWS_FITTED, until=_floor_count(len(history.rows)))
        num_rungs = len(_find_lengths(history.carried)) + len(self.stage_rungs)
        expected = prior_means(len(self.encoding.parameters), num_rungs, last_noise=self._last_noise)
        known = (*first, *(trial.number for trial in history.carried))
        if self._fitted is None or self._fitted[0] != known:
            rows = self._read(history, first, MAX_ROWS_FITTED)
            if len(rows) < MIN_FITTED:
                rows = self._read(history, history.rows, MAX_ROWS_FITTED)
                return (Scale.of(rows.values), expected) if len(rows) >= MIN_ROWS else None
            scale = Scale.of(rows.values)
            fitted = fit(rows.points, rows.rungs, scale.apply(rows.values), self.encoding.is_choice, expected)
            self._fitted = known, scale, fitted
        return self._fitted[1:]

    def _read(self, history: History, arrivals: Sequence[Row], limit: int) -> Rows:
        """Collect the values of arrivals at rungs, and of carried trials as long as there is room.

        What diverged or failed has, at each rung that it did not come to, the worst value that was seen there.
        """
        lengths = _find_lengths(history.carried)
        told = [
            (-1 - i, trial, rung, trial.values[length - 1])
            for i, trial in enumerate(history.carried)
            for rung, (origin, length) in enumerate(lengths)
            if trial.origin == origin and len(trial.values) >= length and has_result(trial)
        ]
        told = told[: max(0, limit - len(arrivals))]
        told += [
            (row.number, history.own[row.number], len(lengths) + row.rung, row.value)
            for row in arrivals
            if math.isfinite(row.value)
        ]
        told = _translate(told)
        worst: dict[int, float] = {}
        for *_, rung, value in told:
            worst[rung] = min(value, worst.get(rung, math.inf))
        for row in arrivals:
            if not math.isfinite(row.value):
                trial = history.own[row.number]
                told += [(row.number, trial, rung, worst[rung]) for rung in worst if rung >= len(lengths) + row.rung]
        numbers, trials, rungs, values = zip(*told, strict=True) if told else ((), (), (), ())
        return Rows(
            np.array(numbers, dtype=np.int64),
            self.encoding.encode([trial.config for trial in trials]),
            np.array(rungs, dtype=np.int64),
            np.array(values, dtype=np.float64),
        )


def _find_lengths(carried: Sequence[TrialView]) -> list[tuple[str, int]]:
    """Return after how many epochs trials from elsewhere are compared: the two greatest at which any there ended."""
    return [
        (origin, length)
        for origin in dict.fromkeys(trial.origin for trial in carried)
        for length in sorted({len(t.values) for t in carried if t.origin == origin and has_result(t)})[-MOST_LENGTHS:]
    ]


def _translate(told: list[tuple[int, TrialView, int, float]]) -> list[tuple[int, TrialView, int, float]]:
    """Put the values of other searches on this one's scale; each is a number, a trial, a rung and a value."""
    here = np.array([value for _, trial, _, value in told if not trial.is_foreign])
    if len(here) in {0, len(told)}:
        return told
    scales = {}
    for origin in {trial.origin for _, trial, _, _ in told if trial.is_foreign}:
        there = Scale.of(np.array([value for _, trial, _, value in told if trial.origin == origin]))
        # while little is known here, the distances there are the better guess
        scales[origin] = there, replace(Scale.of(here), **({} if len(here) >= MIN_ROWS else {"unit": there.unit}))
    return [
        (number, trial, rung, scales[trial.origin][1].invert(float(scales[trial.origin][0].apply(np.array(value)))))
        if trial.is_foreign
        else (number, trial, rung, value)
        for number, trial, rung, value in told
    ]


class Forecast:
    """What is to be expected at the last rung.

    Where epochs differ in cost, what an epoch of a config costs is taken to be what it costs of the nearest one seen.

    Attributes
    ----------
    scale : Scale
        Between values and the model's units.
    target : float
        In the model's units: what has to be surpassed. That is what the best trial is believed to have reached, or to
        reach, and at most decisions a margin on top.

    Notes
    -----
    Beside a sharp peak tiny improvements stay likely for ever, so without a margin a search whose model is too sure of
    itself ends there, however much is left to train. With one alone nothing would be refined. Hence several targets in
    turn [1]_.

    References
    ----------
    .. [1] Jones, "A Taxonomy of Global Optimization Methods Based on Response Surfaces", Journal of Global Optimization
       21, 2001: a target far beyond the best searches globally, one close to it locally, so use several.
    """

    def __init__(
        self,
        encoding: Encoding,
        process: MultiRungProcess,
        epochs: Sequence[int],
        scale: Scale,
        target: float,
        top: Points,
        costs: tuple[Points, Floats] | None = None,
        effort: Effort = THOROUGH,
    ) -> None:
        self.scale = scale
        self.target = target
        self._encoding = encoding
        self._process = process
        self._epochs = tuple(epochs)
        self._rung = len(process.hyperparameters.noise) - 1
        self._top = top
        self._costs = costs
        self._effort = effort

    def expect(self, configs: Sequence[Config]) -> list[float]:
        """Return the values that configs are expected to reach."""
        means = self._process.expect(self._encoding.encode(configs), self._rung)
        return [self.scale.invert(float(mean)) for mean in means]

    def measure_promise(self, config: Config, epochs_done: int = 0) -> float:
        """Return the logarithm of what training a config promises for an epoch, in the model's units.

        That is the expected improvement over the target for each epoch that is expected to be trained, or for what
        those cost, under the best of these plans: train to the end; or train to one of the rungs in between, look, and
        train on only if what is expected then is worth as much for an epoch as the whole plan.

        Parameters
        ----------
        config : Config
            A new one, or that of a trial that was seen.
        epochs_done : int
            How many epochs it has behind it: one of the stage's rungs, or 0.

        References
        ----------
        .. [1] Weitzman, "Optimal Search for the Best Alternative", Econometrica 47, 1979: the price at which looking
           is worth its cost.
        .. [2] Xie et al., "Cost-aware Bayesian Optimization via the Pandora's Box Gittins Index", NeurIPS 2024,
           arXiv:2406.20062.
        """
        return float(self._measure(self._encoding.encode([config]), epochs_done)[0])

    def measure_promises(self, trials: Sequence[TrialView], horizon: float) -> Floats:
        """Return what going on with each of some trials promises, see `measure_promise`.

        Parameters
        ----------
        trials : sequence of TrialView
            Each at one of the stage's rungs.
        horizon : float
            How many epochs each can still be trained: of what cannot come to the last rung, minus infinity.
        """
        points = self._encoding.encode([trial.config for trial in trials])
        done = np.array([len(trial.values) for trial in trials])
        promises = np.full(len(trials), -math.inf)
        with _libraries().limit(limits=1):
            for epochs in np.unique(done[self._epochs[-1] - done <= horizon]).tolist():
                promises[done == epochs] = self._measure(points[done == epochs], epochs)
        return promises

    def find_most_promising(
        self, rng: np.random.Generator, *, is_thorough: bool = True, belief: FadingBelief | None = None
    ) -> tuple[Points, Floats]:
        """Search for the new points of the greatest promise, see `measure_promise`.

        Parameters
        ----------
        rng : Generator
            Where the candidates come from.
        is_thorough : bool
            Whether to look closer around the best candidates too.
        belief : FadingBelief or None
            What the promise is weighed with.

        Returns
        -------
        (array, array), shapes (n, num_parameters) and (n,)
            Candidates, and the logarithms of their promises, weighed: the greatest first.
        """
        with _libraries().limit(limits=1):
            return self._search(rng, is_thorough=is_thorough, belief=belief)

    def _search(
        self, rng: np.random.Generator, *, is_thorough: bool, belief: FadingBelief | None
    ) -> tuple[Points, Floats]:
        drawn = rng.random((self._effort.num_drawn, len(self._encoding.parameters)))
        if belief is not None:
            num_believed = int(len(drawn) * min(SHARE, belief.weight))
            drawn[:num_believed] = belief.belief.warp(drawn[:num_believed])
        near = [self._move(self._top, NUM_NEAR, step, rng) for step in COARSE_STEPS]
        points = self._screen(np.vstack([drawn, *near]), NUM_SCREENED, belief)
        promises = self._measure(points, belief=belief)
        for step in self._effort.fine_steps if is_thorough else ():
            best = points[np.argsort(-promises, kind="stable")[:NUM_TOP]]
            moved = self._screen(self._move(best, NUM_NEAR, step, rng), NUM_SCREENED // 3, belief)
            points = np.vstack([points, moved])
            promises = np.concatenate([promises, self._measure(moved, belief=belief)])
        order = np.argsort(-promises, kind="stable")
        return points[order], promises[order]

    def _screen(self, points: Points, count: int, belief: FadingBelief | None) -> Points:
        """Keep the candidates of the greatest expected improvement, which is quicker to find than the promise."""
        points = self._encoding.snap(points)
        means, deviations = self._process.predict(points, self._rung)
        improvement = self._expect_improvement(means, deviations**2) - self._expect_log_cost(points)
        if belief is not None:
            improvement += belief.measure(points)
        kept: Points = points[np.argsort(-improvement, kind="stable")[:count]]
        return kept

    def _measure(self, points: Points, epochs_done: int = 0, *, belief: FadingBelief | None = None) -> Floats:
        """Measure the promise of points; what to expect at the rungs ahead is asked of the process at once."""
        ahead = [epochs for epochs in self._epochs if epochs > epochs_done]
        costs = np.array(ahead, dtype=float) - epochs_done
        rungs = np.arange(self._rung + 1 - len(ahead), self._rung + 1)
        means, covariances = self._process.predict_jointly(points, rungs)
        noise = self._process.hyperparameters.noise[rungs]
        end, variance = means[:, -1], covariances[:, -1, -1]
        improvement = self._expect_improvement(end, variance)
        rates = np.full(len(points), 1 / costs[-1])  # for an epoch, as shares of the improvement
        for i, cost in enumerate(costs[:-1]):
            # what the look at rung i will show moves the mean of the end by this much for each deviation
            shift = covariances[:, i, -1] / np.sqrt(np.maximum(covariances[:, i, i] + noise[i] ** 2, 1e-12))
            ends = end[:, None] + shift[:, None] * NODES
            later = self._expect_improvement(ends, (variance - shift**2)[:, None]) - improvement[:, None]
            rates = np.maximum(rates, _find_rate(np.exp(np.minimum(later, 600)), cost, costs[-1] - cost))
        promises: Floats = improvement + np.log(rates) - self._expect_log_cost(points)
        return promises if belief is None else promises + belief.measure(points)

    def _expect_log_cost(self, points: Points) -> Floats:
        """Return the logarithm of what an epoch is expected to cost."""
        if self._costs is None:
            return np.zeros(len(points))
        seen, log_costs = self._costs
        return np.asarray(log_costs[self._process.find_nearest(points, seen)])

    def _expect_improvement(self, mean: Floats, variance: Floats) -> Floats:
        """Return the logarithm of the expected improvement over the target."""
        deviation = np.sqrt(np.maximum(variance, 1e-12))
        return log_expected_improvement((mean - self.target) / deviation) + np.log(deviation)

    def _move(self, around: Points, count: int, step: float, rng: np.random.Generator) -> Points:
        """Draw points near given ones: some coordinates moved, some options drawn anew."""
        moved: Points = around[rng.integers(len(around), size=count)]
        size = moved.shape[1]
        is_moved = rng.random(moved.shape) < max(0.3, 2 / size)
        is_moved[np.arange(count), rng.integers(size, size=count)] = True
        is_choice = self._encoding.is_choice
        shifted = np.where(is_moved & ~is_choice, moved + step * rng.normal(size=moved.shape), moved)
        is_drawn = is_choice & (rng.random(moved.shape) < 0.15)
        return np.where(is_drawn, rng.random(moved.shape), shifted)


def _find_rate(gains: Floats, cost: float, cost_after: float) -> Floats:
    """Find the gain for a unit of cost of looking and then going on only where that is worth it.

    Parameters
    ----------
    gains : array, shape (m, nodes)
        What going on will be expected to gain, for each of what the look may show; 1 in the mean.
    cost, cost_after : float, above 0
        Of the look, and of going on.

    Returns
    -------
    array, shape (m,)
        The rate r at which the mean of ``max(gain - r cost_after, 0)`` is ``r cost``.
    """
    order = np.argsort(-gains, axis=1)
    weights = WEIGHTS[order]
    gained = np.cumsum(weights * np.take_along_axis(gains, order, axis=1), axis=1)
    # going on for the best few outcomes gains so much for so much; the rate is that of the best few there are
    rates: Floats = (gained / (cost + cost_after * np.cumsum(weights, axis=1))).max(axis=1)
    return rates


def log_expected_improvement(z: Floats) -> Floats:
    """Return the logarithm of ``E[max(0, z + e)]`` for a standard normal ``e``, exact far below zero too.

    References
    ----------
    .. [1] Ament et al., "Unexpected Improvements to Expected Improvement for Bayesian Optimization", NeurIPS 2023,
       arXiv:2310.20708, equation 9.
    """
    log_density = -0.5 * z**2 - 0.5 * math.log(2 * math.pi)
    far = np.minimum(z, -1.0)
    # density + z cdf = density (1 - |z| R) with Mills' ratio R; for very low z that difference is 1 / z^2
    shortfall = 1 + far * math.sqrt(math.pi / 2) * erfcx(-far / math.sqrt(2))
    below = np.where(far > -1e4, np.log(np.maximum(shortfall, 1e-300)), -2 * np.log(-far))
    near = np.maximum(z, -1.0)
    above = np.log(np.exp(-0.5 * near**2) / math.sqrt(2 * math.pi) + near * ndtr(near))
    return np.where(z < -1.0, log_density + below, above)


def _floor_count(count: int) -> int:
    """Return the largest member of a growing sequence that is at most a count."""
    member = 1
    while (following := max(member + 1, int(member * REFIT_GROWTH))) <= count:
        member = following
    return min(member, count)
