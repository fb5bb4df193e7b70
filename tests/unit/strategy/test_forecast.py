import math
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from driver import Judge
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.integrate import quad
from scipy.stats import norm

from tuner.spec.search import Halving, Stage
from tuner.spec.space import Choice, Config, Parameter, Space, Uniform
from tuner.strategy.encoding import Encoding
from tuner.strategy.forecast import (
    MIN_ROWS,
    NODES,
    WEIGHTS,
    Floats,
    Forecast,
    Forecaster,
    Scale,
    _find_rate,
    log_expected_improvement,
)
from tuner.strategy.gaussian_process import Hyperparameters, MultiRungProcess
from tuner.strategy.gaussian_sampler import GaussianSampler
from tuner.strategy.history import History
from tuner.strategy.rules import ForecastRule, PromiseRule, Room, Rule
from tuner.strategy.simulate import Curve, Job, Search, simulate
from tuner.strategy.trial_view import STAGE_BEFORE, State, TrialView

FLAT = Space((Parameter("x", Uniform(low=0, high=1)), Parameter("y", Uniform(low=0, high=1))))
RUNGS = (1, 3, 9)


def score(config: Config) -> float:
    return 0.9 - (float(config["x"]) - 0.7) ** 2 - 0.3 * (float(config["y"]) - 0.2) ** 2


def jagged(config: Config) -> float:
    """A score that no neighbour tells: only a trial itself shows what it is worth."""
    x, y = float(config["x"]), float(config["y"])
    return score(config) + 0.4 * math.sin(90 * x + 3) * math.sin(70 * y)


def make_trial(number: int, state: State, length: int, value: Callable[[Config], float] = score) -> TrialView:
    x, y = np.random.default_rng(number).random(2)
    config = {"x": float(x), "y": float(y)}
    values = tuple(value(config) * (1 - 0.3 / epoch) for epoch in range(1, length + 1))
    return TrialView(number, config, values, state)


def make_past(num_complete: int, num_stopped: int = 0) -> list[TrialView]:
    complete = [make_trial(number, "complete", 9) for number in range(num_complete)]
    return complete + [make_trial(num_complete + n, "stopped", 1) for n in range(num_stopped)]


def build_model() -> GaussianSampler:
    return GaussianSampler(FLAT, Forecaster(FLAT, RUNGS), seed=0)


def forecast(history: list[TrialView], judged: int | None = None) -> Forecast:
    found = Forecaster(FLAT, RUNGS).forecast(history, judged=judged)
    assert found is not None
    return found


def test_the_scale_keeps_order_and_draws_in_what_is_far_below() -> None:
    values = np.array([0.9, 0.88, 0.5, 0.1, -1e6])
    scale = Scale.of(values)
    scaled = scale.apply(values)
    assert scaled[0] == 1 and scaled[2] == pytest.approx(0)
    assert (np.diff(scaled) < 0).all() and scaled[-1] > -30
    assert [scale.invert(one) for one in [*scaled, 1.5]] == pytest.approx([*values, 0.9 + 0.2 * math.log(2)])
    assert np.isfinite(Scale.of(np.array([0.3, 0.3])).apply(np.array([0.3, 0.4, 0.2]))).all()


@pytest.mark.parametrize("z", [3.0, 0.0, -0.99, -1.01, -4.0, -9.0])
def test_the_expected_improvement_is_the_integral(z: float) -> None:
    exact, _ = quad(lambda gain: gain * norm.pdf(gain - z), 0, max(z, 0) + 12, epsabs=0, epsrel=1e-10)
    assert log_expected_improvement(np.array([z]))[0] == pytest.approx(math.log(exact), rel=1e-6)


def test_the_expected_improvement_falls_without_end_and_without_a_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        promises = log_expected_improvement(-np.logspace(-1, 8, 200))
    assert (np.diff(promises) < 0).all() and np.isfinite(promises).all()


def test_nothing_is_forecast_from_next_to_nothing() -> None:
    forecaster = Forecaster(FLAT, RUNGS)
    assert forecaster.forecast([]) is None
    assert forecaster.forecast([make_trial(i, "running", 1) for i in range(3)]) is None, "three values are too few"
    assert forecaster.forecast([make_trial(i, "running", 1) for i in range(4)]) is not None
    assert forecaster.forecast([make_trial(i, "stopped", 1) for i in range(MIN_ROWS - 1)]) is None
    assert forecaster.forecast([make_trial(i, "diverged", 0) for i in range(9)]) is None


def test_the_suggestion_lies_near_the_optimum() -> None:
    sampler = GaussianSampler(FLAT, Forecaster(FLAT, RUNGS), seed=0)
    config = sampler.ask(20, make_past(20))
    assert abs(float(config["x"]) - 0.7) < 0.08 and abs(float(config["y"]) - 0.2) < 0.25


def test_workers_that_ask_at_the_same_time_are_sent_to_different_places() -> None:
    sampler = GaussianSampler(FLAT, Forecaster(FLAT, RUNGS), seed=0)
    history = [make_trial(number, "complete", 9, jagged) for number in range(6)]
    for number in range(6, 10):
        history.append(TrialView(number, sampler.ask(number, history), (), "running"))
    asked = [np.array([float(t.config["x"]), float(t.config["y"])]) for t in history[6:]]
    assert min(np.linalg.norm(a - b) for i, a in enumerate(asked) for b in asked[:i]) > 0.03


def test_a_good_start_raises_what_is_expected_and_a_poor_one_lowers_it() -> None:
    past = make_past(12, 10)
    trial = make_trial(99, "running", 1)

    def expect(*values: float) -> float:
        return forecast([*past, TrialView(99, trial.config, values, "running")], judged=99).expect([trial.config])[0]

    assert expect(trial.values[0] * 0.6) < expect() < expect(trial.values[0] * 1.1)


def test_of_what_promises_most_the_first_that_no_trial_has_is_suggested(monkeypatch: pytest.MonkeyPatch) -> None:
    past = make_past(20)
    asked = []

    def find(self: Forecast, rng: np.random.Generator, **options: Any) -> tuple[Floats, Floats]:
        asked.append(rng)
        known = Encoding(FLAT).encode([past[3].config])
        return np.vstack([known, [[0.25, 0.5], [0.75, 0.5]]]), np.array([-1.0, -2.0, -3.0])

    monkeypatch.setattr(Forecast, "find_most_promising", find)
    sampler = build_model()
    history = History.of(past, RUNGS)
    found = sampler.forecaster.forecast(history)
    assert found is not None
    assert sampler.promise(found, 20, history) == -2.0
    assert sampler.ask(20, history) == {"x": 0.25, "y": 0.5}
    assert len(asked) == 1


@pytest.mark.parametrize("is_thorough", [True, False])
def test_candidates_come_with_their_promises_the_greatest_first(is_thorough: bool) -> None:
    found = forecast(make_past(15, 15))
    points, promises = found.find_most_promising(np.random.default_rng(0), is_thorough=is_thorough)
    assert len(points) > 10 and (np.diff(promises) <= 0).all() and promises[0] > promises[-1]
    configs = [Encoding(FLAT).decode(point) for point in points]
    np.testing.assert_allclose(promises, [found.measure_promise(config) for config in configs], rtol=1e-6)


def test_what_a_running_trial_is_expected_to_reach_has_to_be_surpassed() -> None:
    """Or the next suggestion would lie beside it."""
    past = make_past(8, 8)
    grid = [{"x": x / 20, "y": y / 20} for x in range(21) for y in range(21)]
    alone = forecast(past)
    config = grid[int(np.argmax(alone.expect(grid)))]
    expected = float(alone.scale.apply(np.array(alone.expect([config])))[0])
    assert expected > alone.target  # or there would be nothing to see
    assert forecast([*past, TrialView(99, config, (), "running")]).target >= expected - 1e-9


def test_whatever_was_measured_on_the_way_is_a_candidate() -> None:
    """Where the best ones are all trials' already, as in a corner, one of the others is suggested."""
    found = forecast(make_past(15, 15))
    first, last = (found.find_most_promising(np.random.default_rng(0), is_thorough=t)[0] for t in (False, True))
    assert {tuple(point) for point in first} < {tuple(point) for point in last}


def test_a_trial_that_ends_for_good_is_compared_with_what_promises_most(monkeypatch: pytest.MonkeyPatch) -> None:
    history = History.of([*make_past(12), make_trial(12, "running", 1)], RUNGS)
    promises = np.array([0.0, -math.inf])

    def find(self: Forecast, rng: np.random.Generator, **options: Any) -> tuple[Floats, Floats]:
        return np.array([[0.25, 0.5], [0.75, 0.5]]), promises

    monkeypatch.setattr(Forecast, "find_most_promising", find)
    rule = PromiseRule(build_model(), seed=0)
    assert not rule.judge(12, 1, history)[0]
    promises[0] = -math.inf
    assert rule.judge(12, 1, history)[0]


def test_where_trainings_diverge_none_is_sent() -> None:
    past = [TrialView(t.number, t.config, (), "diverged") if float(t.config["x"]) > 0.6 else t for t in make_past(30)]
    sampler = GaussianSampler(FLAT, Forecaster(FLAT, RUNGS), seed=0)
    asked = [float(sampler.ask(number, past)["x"]) for number in range(30, 40)]
    assert np.mean(np.array(asked) < 0.65) >= 0.9


def test_the_same_trials_give_the_same_forecast_whatever_was_asked_before() -> None:
    past = make_past(15, 15)
    used = Forecaster(FLAT, RUNGS)
    for count in (5, 9, 17, 29):
        used.forecast(past[:count])
    points, promises = used.forecast(past).find_most_promising(np.random.default_rng(0))  # type: ignore[union-attr]
    expected = forecast(past).find_most_promising(np.random.default_rng(0))
    np.testing.assert_array_equal(points, expected[0])
    np.testing.assert_array_equal(promises, expected[1])


def test_the_first_complete_trials_are_told_apart_unless_it_is_cautious() -> None:
    rng = np.random.default_rng(0)
    points = [{"x": float(x), "y": float(y)} for x, y in rng.random((14, 2))]
    past = [
        TrialView(
            number,
            config,
            (float(rng.normal()), float(rng.normal()), score(config))[: 3 if number < 6 else 1],
            "stopped",
        )
        for number, config in enumerate(points)
    ]
    past = [replace(trial, state="complete" if len(trial.values) == 3 else "stopped") for trial in past]

    def find_error(*, is_cautious: bool) -> float:
        forecast = Forecaster(FLAT, (1, 2, 3), is_cautious=is_cautious).forecast(past)
        assert forecast is not None
        expected = forecast.expect([trial.config for trial in past[:6]])
        return float(np.abs(np.array(expected) - [score(trial.config) for trial in past[:6]]).mean())

    assert find_error(is_cautious=False) < 0.5 * find_error(is_cautious=True)


def test_trials_of_an_earlier_stage_tell_as_much_as_they_are_worth() -> None:
    carried = [replace(make_trial(number, "complete", 9), origin=STAGE_BEFORE) for number in range(25)]
    sampler = GaussianSampler(FLAT, Forecaster(FLAT, (3, 27)), seed=0)
    config = sampler.ask(0, carried)
    assert abs(float(config["x"]) - 0.7) < 0.1, "no quasi-random start where something is known"
    # where the new stage's trials say the contrary, they are believed
    own = [
        TrialView(n, (t := make_trial(50 + n, "complete", 1)).config, (1 - score(t.config),) * 27, "complete")
        for n in range(12)
    ]
    config = sampler.ask(12, [*carried, *own])
    assert score(config) < 0.5


class TestTheRule:
    def count_stopped(self, curve: Callable[[Config, np.random.Generator], list[float]]) -> float:
        """Return how many of 40 trials are stopped, the mean over some seeds."""
        return float(np.mean([sum(length < 9 for length in self.run(curve, seed)) for seed in range(6)]))

    def run(self, curve: Callable[[Config, np.random.Generator], list[float]], seed: int) -> list[int]:
        """Return how many epochs each trial got."""
        lengths: dict[int, int] = {}
        halving = {"audit": 0, "rule": "promise", "type": "stopping"}
        stage = {"name": "only", "trials": 40, "max_epochs": 9, "sampler": "gp", "halving": halving}
        search = Search([Stage.model_validate(stage)], FLAT, seed=seed)

        def train(job: Job) -> Curve:
            return Curve(np.maximum.accumulate(curve(job.config, np.random.default_rng(job.key[1]))).tolist())

        for event in simulate(search, train, workers=2, max_epochs=10**6):
            lengths[event.job.key[1]] = event.epoch
        return list(lengths.values())

    def test_trials_are_stopped_early_where_early_values_tell_much_and_go_on_where_they_tell_nothing(self) -> None:
        def tell_nothing(config: Config, rng: np.random.Generator) -> list[float]:
            return [*(-1 - rng.random(8)), jagged(config)]

        assert self.count_stopped(lambda config, _: [jagged(config) * (1 - 0.3 / e) for e in range(1, 10)]) > 16
        assert self.count_stopped(tell_nothing) < 9

    @pytest.mark.parametrize(
        ("rule", "text"),
        [
            (ForecastRule(Forecaster(FLAT, RUNGS), 3), "against a cut of 0."),
            (PromiseRule(build_model(), seed=0), "times what else promises most"),
        ],
    )
    def test_a_verdict_says_what_was_expected(self, rule: Rule, text: str) -> None:
        past = make_past(12, 10)
        judge = Judge(Halving(min_peers=1), 9, rule=rule)
        judge.history = History(past, rungs=RUNGS)
        decision = judge.report(99, 1, 0.1, {"x": 0.0, "y": 1.0})
        assert decision.state == "stopped"
        assert decision.reason.startswith("stopped at epoch 1: 0.1 so far and ")
        assert text in decision.reason

    @pytest.mark.parametrize("may_go_on", [True, False])
    def test_the_most_promising_trial_is_told_if_it_is_the_epochs_that_are_spent(self, *, may_go_on: bool) -> None:
        rule = PromiseRule(build_model(), seed=0)
        arrived = TrialView(99, {"x": 0.5, "y": 0.5}, (0.99,), "running")
        history = History([*make_past(12, 10), arrived], rungs=RUNGS)
        chosen, text = rule.choose(history, Room(may_begin=False, may_go_on=may_go_on), 99)
        assert chosen == (99 if may_go_on else None)
        assert ("the stage's epochs are spent" in text) == (not may_go_on)

    @pytest.mark.parametrize("others", [0, 1])  # that wait, and could still come to the end
    def test_a_trial_waits_if_others_need_the_epochs_left_and_says_so(self, others: int) -> None:
        rule = PromiseRule(build_model(), seed=0)
        arrived = TrialView(99, {"x": 0.5, "y": 0.5}, (0.99,), "running")
        waiting = [make_trial(100 + number, "paused", 3) for number in range(others)]
        history = History([*make_past(12, 10), *waiting, arrived], rungs=RUNGS)
        chosen, text = rule.choose(history, Room(horizon=7, is_contended=True), 99)
        assert chosen != 99
        assert "too few epochs are left" in text
        assert rule.choose(history, Room(horizon=8, is_contended=True), 99)[0] == 99

    def test_trials_can_be_stopped_before_any_is_complete(self) -> None:
        judge = Judge(Halving(min_peers=1), 9, rule=PromiseRule(build_model(), seed=0))
        judge.history = History([make_trial(i, "running", 1) for i in range(8)], rungs=RUNGS)
        decision = judge.report(8, 1, -5.0, {"x": 0.01, "y": 0.99})
        assert decision.state == "stopped", decision.reason


def test_audited_trials_are_never_stopped() -> None:
    judge = Judge(Halving(min_peers=1), 9, audit=0.2, seed=4)
    audited = [number for number in range(400) if judge.halving.is_audited(number)]
    assert 50 < len(audited) < 110
    stopped = [n for n in range(400) if judge.report(n, 1, 1 - n / 400).state == "stopped"]
    assert not set(stopped) & set(audited)
    assert len(stopped) > 200


def test_a_slow_family_is_found_where_ranks_at_low_rungs_lose_it() -> None:
    """Curves that cross: the family that wins in the end is the last one of all for the first six epochs."""
    space = Space(
        (Parameter("family", Choice(options=("quick", "slow"))), *(p for p in FLAT.parameters)),
    )

    def train(job: Job) -> Curve:
        slow = job.config["family"] == "slow"
        final = score(job.config) - (0.0 if slow else 0.25)
        pace = 4.0 if slow else 0.7
        return Curve([final - 0.9 * math.exp(-epoch / pace) for epoch in range(1, 28)])

    def count(rule: str, sampler: str) -> int:
        found = 0
        for seed in range(6):
            stage = Stage.model_validate(
                {"name": "only", "trials": 500, "max_epochs": 27, "sampler": sampler, "halving": {"rule": rule}}
            )
            events = list(simulate(Search([stage], space, seed=seed), train, workers=4, max_epochs=27 * 20))
            best = max((event for event in events if event.epoch == 27), key=lambda event: event.value)
            found += best.job.config["family"] == "slow"
        return found

    assert count("forecast", "gp") >= 5
    assert count("rank", "random") <= 4


@pytest.mark.parametrize(
    ("stage", "width", "num_epochs", "least", "most_without"),
    [
        ({"max_epochs": 1, "halving": None}, 0.15, 40, 11, 9),
        ({"max_epochs": 3}, 0.12, 75, 8, 4),  # what does not go on waits
    ],
)
def test_a_higher_hill_is_looked_for_after_the_first_one_is_climbed(
    stage: dict[str, Any], width: float, num_epochs: int, least: int, most_without: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = Stage.model_validate({"name": "only", "trials": 1000, "sampler": "gp", **stage})

    def train(job: Job) -> Curve:
        x, y = float(job.config["x"]), float(job.config["y"])
        broad = 0.7 * math.exp(-((x - 0.25) ** 2 + (y - 0.3) ** 2) / 0.25**2)
        height = broad + 0.9 * math.exp(-((x - 0.8) ** 2 + (y - 0.75) ** 2) / width**2)
        return Curve([height * (epoch / asked.max_epochs) ** 0.3 for epoch in range(1, asked.max_epochs + 1)])

    def count() -> int:
        """Of 12 searches, count those that find the higher hill, which is the narrower one."""
        found = 0
        for seed in range(12):
            events = simulate(Search([asked], FLAT, seed=seed), train, workers=2, max_epochs=num_epochs)
            found += max(event.value for event in events if event.epoch == asked.max_epochs) > 0.8
        return found

    assert count() >= least
    monkeypatch.setattr("tuner.strategy.forecast.MARGINS", (0.0,))
    assert count() <= most_without


class TestTheRate:
    @given(
        gains=arrays(float, (3, len(NODES)), elements=st.floats(0, 10)),
        cost=st.floats(0.5, 5),
        cost_after=st.floats(0.5, 20),
    )
    def test_it_is_the_one_at_which_the_gain_pays(self, gains: Floats, cost: float, cost_after: float) -> None:
        mean = gains @ WEIGHTS
        assume(mean.min() > 0.01)
        gains = gains / mean[:, None]
        rate = _find_rate(gains, cost, cost_after)
        gain = np.maximum(gains - rate[:, None] * cost_after, 0) @ WEIGHTS
        assert gain == pytest.approx(rate * cost, rel=1e-3, abs=1e-4)

    def test_a_look_that_shows_nothing_is_worth_nothing(self) -> None:
        assert _find_rate(np.ones((1, len(NODES))), 1.0, 8.0) == pytest.approx(1 / 9)

    def test_a_look_that_shows_who_is_worthless_saves_the_rest(self) -> None:
        assert _find_rate(np.where(NODES > 0.1, 10.0, 0.0)[None], 1.0, 8.0)[0] > 2 / 9


def test_a_new_config_is_worth_more_where_early_values_tell_more() -> None:
    points, rungs = np.array([[0.1], [0.9]]), np.array([1, 1])
    promises = []
    for related in (0.0, 0.5, 0.9):
        mixing = np.linalg.cholesky(np.array([[1, related], [related, 1]]))
        known = Hyperparameters(np.array([0.3]), mixing, np.array([0.1, 0.1]))
        process = MultiRungProcess(points, rungs, np.array([0.0, 1.0]), np.array([False]), known)
        space = Space((Parameter("x", Uniform(low=0.0, high=1.0)),))
        forecast = Forecast(Encoding(space), process, (1, 9), Scale(1.0, 1.0), 1.0, points)
        promises.append(forecast.measure_promise({"x": 0.5}))
    assert promises == sorted(promises)
    assert promises[-1] > promises[0] + 0.3
