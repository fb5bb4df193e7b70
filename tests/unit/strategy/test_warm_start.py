"""What a search takes from earlier ones, and what it makes of it."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from space_strategies import pasts, spaces

from tuner.spec.search import Stage
from tuner.spec.space import Config, Parameter, Space, Uniform
from tuner.strategy.forecast import Forecaster
from tuner.strategy.gaussian_sampler import GaussianSampler
from tuner.strategy.history import History
from tuner.strategy.ranking import rank_trials
from tuner.strategy.sampler import Kind, build_sampler
from tuner.strategy.stage_search import StageSearch
from tuner.strategy.trial_view import STAGE_BEFORE, TrialView
from tuner.strategy.warm_start import MOST_TAKEN, choose_trials, read_trials, write_trials

FLAT = Space((Parameter("x", Uniform(low=0, high=1)), Parameter("y", Uniform(low=0, high=1))))


def make_source(count: int, *, at: float = 0.7, level: float = 0.0, seed: int = 0) -> list[TrialView]:
    """Trials that are best where ``x`` is at a place."""
    rng = np.random.default_rng(seed)
    configs: list[Config] = [{"x": float(rng.random()), "y": float(rng.random())} for _ in range(count)]
    return [
        TrialView(i, config, (level, level + 1 - (float(config["x"]) - at) ** 2), "complete")
        for i, config in enumerate(configs)
    ]


class TestChoice:
    @given(st.data())
    def test_what_is_taken_lies_in_the_space_best_first_and_is_not_too_much(self, data: st.DataObject) -> None:
        space = data.draw(spaces())
        trials = [replace(trial, number=i, origin="") for i, trial in enumerate(data.draw(pasts(space, max_size=90)))]
        chosen = choose_trials("source", trials, space)
        ranked = [trial.number for trial in rank_trials(t for t in trials if t.state != "running")]
        numbers = [trial.number for trial in chosen]
        assert numbers == sorted(set(numbers), key=ranked.index)
        assert len(chosen) == min(len(ranked), MOST_TAKEN)
        assert numbers[: MOST_TAKEN // 2] == ranked[: MOST_TAKEN // 2]
        assert all(trial.is_foreign and space.contains(trial.config) for trial in chosen)
        if ranked:
            assert numbers[-1] == ranked[-1]

    @given(st.data())
    def test_what_the_ledger_has_of_it_is_the_same(self, data: st.DataObject) -> None:
        space = data.draw(spaces())
        chosen = [choose_trials(name, data.draw(pasts(space)), space) for name in ("one", "other")]
        assert [read_trials(json.loads(json.dumps(write_trials(trials)))) for trials in chosen] == chosen

    def test_what_lies_outside_the_space_is_left(self) -> None:
        small = Space((Parameter("x", Uniform(low=0, high=0.5)), FLAT["y"]))
        assert all(float(trial.config["x"]) <= 0.5 for trial in choose_trials("source", make_source(30), small))
        assert choose_trials("source", make_source(30), Space((FLAT["x"],))) == ()


class TestStageSearch:
    STAGE = Stage.model_validate({"name": "only", "trials": 20, "max_epochs": 2})

    def test_the_best_are_tried_after_what_was_to_be_tried_first(self) -> None:
        warm = choose_trials("source", make_source(30), FLAT)
        search = StageSearch(self.STAGE, FLAT, None, seed=0, first=[{"x": 0.1}], warm_start=[warm])
        configs = [search.start().config for _ in range(3)]
        assert configs[0]["x"] == 0.1
        assert configs[1:] == [trial.config for trial in warm[:2]]

    @settings(max_examples=20)
    @given(st.integers(0, 99), st.sampled_from(["gp", "tpe"]))
    def test_a_search_that_goes_on_asks_the_same(self, seed: int, kind: str) -> None:
        stage = self.STAGE.model_copy(update={"sampler": kind})
        warm = [choose_trials("source", make_source(30, seed=seed), FLAT)]
        whole = StageSearch(stage, FLAT, None, seed=seed, warm_start=warm)
        for number in range(6):
            assert whole.start().number == number
            whole.add(number, number / 6)
        views = list(whole.views.values())
        again = StageSearch(stage, FLAT, None, views[:5], seed=seed, warm_start=warm)
        assert again.start().config == views[5].config


class TestModels:
    @pytest.mark.parametrize("kind", ["gp", "tpe"])
    @pytest.mark.parametrize("level", [0.0, -50.0])
    def test_the_first_suggestions_are_where_the_source_was_best(self, kind: Kind, level: float) -> None:
        warm = choose_trials("source", make_source(40, level=level), FLAT)
        sampler = build_sampler(kind, FLAT, GaussianSampler(FLAT, Forecaster(FLAT, (1, 2)), seed=0), seed=0, first=[])
        asked = [float(sampler.ask(number, warm)["x"]) for number in range(10)]
        assert np.mean(np.abs(np.array(asked) - 0.7) < 0.2) >= 0.7

    def test_the_level_of_a_source_on_other_data_does_not_matter(self) -> None:
        own = make_source(8, seed=1)
        expected = []
        for level in (0.0, 50.0):
            warm = choose_trials("source", make_source(40, level=level), FLAT)
            forecast = Forecaster(FLAT, (1, 2)).forecast([*warm, *own])
            assert forecast is not None
            expected.append(forecast.expect([{"x": x / 10, "y": 0.5} for x in range(10)]))
        np.testing.assert_allclose(*expected, atol=1e-4)  # values of 50 leave fewer digits

    @pytest.mark.parametrize("kind", ["gp", "tpe"])
    def test_a_source_that_misleads_is_not_believed_for_long(self, kind: Kind) -> None:
        warm = choose_trials("source", make_source(40, at=0.1), FLAT)
        own = make_source(25, at=0.8, seed=1)
        sampler = build_sampler(kind, FLAT, GaussianSampler(FLAT, Forecaster(FLAT, (1, 2)), seed=0), seed=0, first=[])
        asked = [float(sampler.ask(number, [*warm, *own])["x"]) for number in range(25, 35)]
        assert np.mean(np.abs(np.array(asked) - 0.8) < 0.25) >= 0.6

    def test_every_source_has_rungs_of_its_own(self) -> None:
        one, other = (choose_trials(name, make_source(12, at=at), FLAT) for name, at in (("one", 0.2), ("other", 0.8)))
        before = [replace(trial, origin=STAGE_BEFORE) for trial in make_source(12)]
        forecaster = Forecaster(FLAT, (1, 2))
        rows = forecaster._read(History([*one, *other, *before]), [], 99)
        assert [rows.rungs[12 * i : 12 * (i + 1)].tolist() for i in range(3)] == [[i] * 12 for i in range(3)]
