import math
from collections.abc import Callable
from random import Random

import numpy as np
import pytest
from driver import SPACE
from hypothesis import given, settings
from hypothesis import strategies as st
from space_strategies import pasts, spaces

from tuner.spec.space import Choice, Config, LogUniform, Parameter, Space, Uniform
from tuner.strategy.draws import draw
from tuner.strategy.importance import LEVEL, MIN_TRIALS, Importance, find_importances
from tuner.strategy.ranking import rank_trials
from tuner.strategy.trial_view import TrialView


def judge(space: Space, configs: list[dict[str, float]], score: Callable[[Config], float]) -> dict[str, Importance]:
    """The importances where each config has a score, and NaN is a trial that diverged."""
    values = [score(config) for config in configs]
    trials = [TrialView(i, c, (v,), "complete") for i, (c, v) in enumerate(zip(configs, values, strict=True))]
    losers = [trial for trial in trials if math.isnan(trial.values[0])]
    return find_importances(space, rank_trials(trials), losers)


PAIR = Space((Parameter("x", Uniform(low=0.0, high=1.0)), Parameter("y", LogUniform(low=1e-4, high=1.0))))


def draw_pairs(num_trials: int, seed: int = 0) -> list[dict[str, float]]:
    rng = np.random.default_rng(seed)
    return [{"x": rng.random(), "y": 10 ** (-4 * rng.random())} for _ in range(num_trials)]


def test_what_decides_explains_most_and_what_does_nothing_explains_nothing() -> None:
    found = judge(PAIR, draw_pairs(48), lambda config: -abs(config["x"] - 0.3))
    assert list(found) == ["x", "y"]
    assert found["x"].share > 0.6
    assert found["x"].is_clear
    assert found["x"].is_clear_alone
    assert abs(found["y"].share) < 0.1
    assert not found["y"].is_clear
    assert not found["y"].is_clear_alone
    assert (found["x"].besides, found["y"].besides) == ((), ("x",))


@pytest.mark.parametrize("num_trials", [8, 12, 24, 48])
def test_chance_looks_like_an_effect_as_rarely_as_it_should(num_trials: int) -> None:
    rng = np.random.default_rng(num_trials)
    space = Space((Parameter("x", Uniform(low=0.0, high=1.0)),))
    configs = [[{"x": rng.random()} for _ in range(num_trials)] for _ in range(1000)]
    share = np.mean([judge(space, own, lambda _: rng.random())["x"].is_clear for own in configs])
    assert 0.5 * LEVEL < share < 1.5 * LEVEL


def test_what_always_goes_with_something_more_important_is_not_clear_once_that_is_taken_off() -> None:
    rng = np.random.default_rng(0)
    configs = [{"x": x, "y": 10 ** (-4 * (0.7 * (1 - x) + 0.3 * rng.random()))} for x in rng.random(48)]
    found = judge(PAIR, configs, lambda config: config["x"])
    assert found["x"].is_clear
    assert found["y"].is_clear_alone
    assert not found["y"].is_clear
    assert found["y"].besides == ("x",)


def test_what_more_important_parameters_hide_is_found_once_they_are_taken_off() -> None:
    configs = draw_pairs(48, seed=3)
    found = judge(PAIR, configs, lambda config: round(4 * config["x"]) + 0.2 * math.log10(config["y"]))
    assert found["y"].is_clear
    assert not found["y"].is_clear_alone


def test_trials_without_a_result_are_the_worst_and_all_alike() -> None:
    configs = draw_pairs(40)
    found = judge(PAIR, configs, lambda config: math.nan if config["x"] > 0.75 else math.sin(1e6 * config["y"]))
    assert found["x"].is_clear
    lost = {place for i, place in found["x"].left.items() if configs[i]["x"] > 0.75}
    assert lost == {max(found["x"].left.values())}


def test_a_parameter_is_judged_by_the_trials_that_have_it() -> None:
    rng = np.random.default_rng(0)
    configs = [draw(SPACE, rng) for _ in range(150)]
    depths = "architecture.simple_cnn.depth"
    found = judge(SPACE, configs, lambda config: float(config.get(depths, 5)) + 1e-3 * float(config["dropout"]))
    having = {i for i, config in enumerate(configs) if depths in config}
    assert set(found[depths].left) == having
    assert found[depths].is_clear


@pytest.mark.parametrize("num_trials", [MIN_TRIALS - 1, MIN_TRIALS])
def test_few_trials_tell_nothing(num_trials: int) -> None:
    space = Space((Parameter("x", Choice(options=("a", "b"))),))
    configs = [{"x": "a" if i < num_trials // 2 else "b"} for i in range(num_trials)]
    trials = [TrialView(i, config, (float(i),), "complete") for i, config in enumerate(configs)]
    assert find_importances(space, rank_trials(trials), [])["x"].is_clear == (num_trials == MIN_TRIALS)


def test_the_end_of_a_range_belongs_to_its_last_part() -> None:
    space = Space((Parameter("x", Uniform(low=0.0, high=1.0)),))
    inside, at_end = (
        judge(space, [{"x": (0.1, 0.9, high)[i % 3]} for i in range(24)], lambda config: config["x"] > 0.5)
        for high in (0.9, 1.0)
    )
    assert inside == at_end
    assert inside["x"].is_clear


@settings(max_examples=60)
@given(st.data(), st.randoms(use_true_random=False))
def test_every_parameter_that_varies_is_judged_in_whatever_order_its_trials_come(
    data: st.DataObject, random: Random
) -> None:
    space = data.draw(spaces())
    trials = data.draw(pasts(space))
    own = [trial for trial in trials if not trial.is_carried]
    losers = [trial for trial in own if trial.state in {"diverged", "failed"}]
    found = find_importances(space, rank_trials(own), losers)
    assert set(found) == {parameter.name for parameter in space.parameters if not parameter.is_constant}
    for importance in found.values():
        assert importance.share <= 1
        assert sum(importance.left.values()) == pytest.approx(len(importance.left) * (len(importance.left) + 1) / 2)
    random.shuffle(losers)
    assert find_importances(space, rank_trials(own), losers) == found
