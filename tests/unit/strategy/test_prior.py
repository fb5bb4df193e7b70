"""What is believed of a space, and what the samplers make of it."""

import dataclasses

import numpy as np
import pytest
from driver import SPACE
from hypothesis import given, settings
from hypothesis import strategies as st
from space_strategies import confidences, ranges, spaces

from tuner.spec.search import Narrow, Stage
from tuner.spec.space import Choice, Config, Distribution, LogInt, Parameter, Prior, Space, Uniform
from tuner.strategy.draws import at
from tuner.strategy.encoding import MIDDLE, Encoding
from tuner.strategy.forecast import Forecaster
from tuner.strategy.gaussian_sampler import NUM_START, GaussianSampler
from tuner.strategy.prior import DOUBT, Belief, fade
from tuner.strategy.sampler import Kind, build_sampler
from tuner.strategy.stage_search import StageSearch
from tuner.strategy.trial_view import Before, TrialView

FLAT = Space(
    (
        Parameter("x", Uniform(low=0, high=1), prior=Prior(guess=0.2, confidence="high")),
        Parameter("y", Uniform(low=0, high=1)),
    )
)


def believe(distribution: Distribution, guess: float | str, confidence: str = "medium") -> Belief:
    return Belief(
        Space((Parameter("x", distribution, prior=Prior.model_validate({"guess": guess, "confidence": confidence})),))
    )


class TestBelief:
    @given(spaces(), st.integers(0, 999))
    def test_what_is_drawn_lies_in_the_space_and_has_a_density(self, space: Space, seed: int) -> None:
        belief, rng = Belief(space), np.random.default_rng(seed)
        configs = [belief.draw(rng) for _ in range(5)]
        assert all(space.contains(config) for config in configs)
        points = Encoding(space).encode(configs)
        num_given = len(belief.guesses)
        assert np.all(belief.measure(points) >= num_given * np.log(DOUBT) - 1e-9)
        assert belief.is_empty == (num_given == 0)

    @settings(max_examples=50)
    @given(ranges, st.floats(0, 1, exclude_max=True), confidences)
    def test_its_density_is_that_of_its_draws(self, distribution: Distribution, share: float, confidence: str) -> None:
        belief = believe(distribution, at(distribution, share), confidence)
        points = (np.arange(20_000)[:, None] + 0.5) / 20_000
        density = np.exp(belief.measure(points))
        assert density.mean() == pytest.approx(1, abs=2e-3)
        warped = belief.warp(points)[:, 0]
        for end in (0.1, 0.5, 0.8):
            below = np.mean(np.where(points[:, 0] < end, (density - DOUBT) / (1 - DOUBT), 0))
            assert np.mean(warped < end) == pytest.approx(below, abs=5e-3)

    def test_a_guessed_option_weighs_more_than_another(self) -> None:
        belief = believe(Choice(options=("a", "b", "c")), "b", "medium")
        warped = belief.warp((np.arange(600)[:, None] + 0.5) / 600)[:, 0]
        assert [np.mean(warped == (i + 0.5) / 3) for i in range(3)] == pytest.approx([1 / 6, 4 / 6, 1 / 6], abs=2e-3)
        density = np.exp(belief.measure(np.array([[1 / 6], [0.5], [5 / 6]])))
        assert density == pytest.approx([DOUBT + (1 - DOUBT) * weight / 2 for weight in (1, 4, 1)])

    def test_the_density_is_greatest_at_the_guess_and_a_surer_one_is_steeper(self) -> None:
        points = np.array([[0.3], [0.5]])
        drops = []
        for confidence in ("low", "medium", "high"):
            guess, off = believe(LogInt(low=1, high=64), at(LogInt(low=1, high=64), 0.3), confidence).measure(points)
            drops.append(guess - off)
        assert 0 < drops[0] < drops[1] < drops[2]

    def test_a_parameter_that_does_not_exist_tells_nothing(self) -> None:
        belief = Belief(
            Space(
                (
                    Parameter("a", Choice(options=("one", "other"))),
                    Parameter("a.one.x", Uniform(low=0, high=1), ("a", "one"), Prior(guess=0.5)),
                )
            )
        )
        one, other = belief.measure(np.array([[0.25, 0.5], [0.75, MIDDLE]]))
        assert one > 1
        assert other == 0


def near(config: Config) -> bool:
    return abs(float(config["x"]) - 0.2) < 0.1


def build(kind: Kind, space: Space = FLAT, seed: int = 0) -> list[bool]:
    """Tell which of many first suggestions are near the guess."""
    sampler = build_sampler(
        kind, space, GaussianSampler(space, Forecaster(space, (9,)), seed=seed), seed=seed, first=[]
    )
    return [near(sampler.ask(number, [])) for number in range(200)]


class TestSamplers:
    @pytest.mark.parametrize("kind", ["random", "qmc", "gp", "tpe"])
    def test_half_of_what_is_drawn_comes_from_the_prior(self, kind: Kind) -> None:
        assert 0.5 < np.mean(build(kind)) < 0.7
        without = Space(tuple(dataclasses.replace(parameter, prior=None) for parameter in FLAT.parameters))
        assert np.mean(build(kind, without)) < 0.3

    @pytest.mark.parametrize("kind", ["gp", "tpe"])
    def test_a_wrong_guess_is_forgotten(self, kind: Kind) -> None:
        rng = np.random.default_rng(0)

        def count_near(num_ended: int) -> int:
            past = []
            for number in range(num_ended):
                config = {"x": float(rng.random()), "y": float(rng.random())}
                past.append(TrialView(number, config, (1 - (config["x"] - 0.8) ** 2,) * 9, "complete"))
            sampler = build_sampler(kind, FLAT, GaussianSampler(FLAT, Forecaster(FLAT, (9,)), seed=0), seed=0, first=[])
            return sum(near(sampler.ask(number, past)) for number in range(num_ended, num_ended + 40))

        assert fade(10) == 10 * fade(100)
        assert count_near(100) <= 0.25 * 40
        if kind == "tpe":
            assert count_near(8) > 0.3 * 40


def test_a_prior_says_where_to_look_while_little_is_known() -> None:
    past = [
        TrialView(n, {"x": x, "y": 0.5}, (0.5 + 0.001 * n,), "complete") for n, x in enumerate((0.45, 0.6, 0.75, 0.9))
    ]
    forecast = Forecaster(FLAT, (1,))
    sampler = build_sampler("gp", FLAT, GaussianSampler(FLAT, forecast, seed=0), seed=0, first=[])
    past += [TrialView(n, {"x": 0.99, "y": n / 10}, (0.5,), "complete") for n in (4, 5)]
    assert all(near(sampler.ask(number, past)) for number in range(NUM_START, NUM_START + 6))


GUESSES = {"l2": 1e-4, "dropout": 0.3}
GUESSED = Space(
    tuple(
        dataclasses.replace(p, prior=Prior(guess=GUESSES[p.name])) if p.name in GUESSES else p for p in SPACE.parameters
    )
)


class TestStageSearch:
    STAGE = Stage(name="fine", trials=20, max_epochs=9, narrow=Narrow())

    def test_the_guesses_are_tried_together_after_what_was_to_be_tried_first(self) -> None:
        search = StageSearch(self.STAGE, GUESSED, None, seed=0, first=[{"architecture": "lenet"}])
        tried, guessed = search.start().config, search.start().config
        assert tried["architecture"] == "lenet"
        assert (guessed["l2"], guessed["dropout"]) == (1e-4, 0.3)
        assert "heeds what is guessed of l2, dropout" in search.choices

    def test_where_an_earlier_stage_tried_them_they_are_not_tried_again(self) -> None:
        before = Before(GUESSED, (StageSearch(self.STAGE, GUESSED, None, seed=0).start(),))
        search = StageSearch(self.STAGE, GUESSED, before, seed=1)
        assert search.start().config["l2"] != 1e-4
