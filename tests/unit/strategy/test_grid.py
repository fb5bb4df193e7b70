"""Every combination once."""

from dataclasses import replace

import numpy as np
import pytest
from driver import SPACE
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from space_strategies import pasts, spaces

from tuner.spec.search import Stage
from tuner.spec.space import Choice, Config, Int, LogInt, Parameter, Scalar, Space, Uniform, count_values
from tuner.strategy.grid import GridSampler
from tuner.strategy.stage_search import StageSearch
from tuner.strategy.trial_view import Before, TrialView

SMALL = Space(
    (
        Parameter("family", Choice(options=("a", "b", "none"))),
        Parameter("family.a.size", LogInt(low=1, high=4), ("family", "a")),
        Parameter("family.a.kind", Choice(options=("p", "q")), ("family", "a")),
        Parameter("family.a.kind.q.depth", Int(low=2, high=6, step=2), ("family.a.kind", "q")),
        Parameter("family.b.rate", Uniform(low=0.1, high=0.7, step=0.2), ("family", "b")),
        Parameter("flag", Choice(options=(1, True, "1"))),
    )
)
SMALL_SIZE = (4 * (1 + 3) + 4 + 1) * 3


def identify(config: Config) -> frozenset[tuple[str, type, Scalar]]:
    """1, 1.0 and True are different."""
    return frozenset((name, type(value), value) for name, value in config.items())


@st.composite
def grids(draw: st.DrawFn) -> Space:
    """A space in which nothing is continuous."""
    space = draw(spaces())
    ends = {
        p.name: (p.distribution.low, p.distribution.high) for p in space.parameters if hasattr(p.distribution, "low")
    }
    return space.replace(
        {p.name: Choice(options=ends[p.name]) for p in space.parameters if count_values(p.distribution) is None}
    )


@given(grids(), st.integers(0, 2**32))
@settings(max_examples=40)
def test_each_combination_comes_once(space: Space, seed: int) -> None:
    size = space.count_points()
    assert size is not None
    assume(size <= 600)
    sampler = GridSampler(space, seed=seed)
    configs = [sampler.ask(number, []) for number in range(size)]
    assert all(space.contains(config) for config in configs)
    assert len({identify(config) for config in configs}) == size
    assert sampler.ask(size, []) == configs[0]


@given(grids(), st.data())
@settings(max_examples=40)
def test_it_is_a_point_that_no_trial_has_and_the_same_when_asked_again(space: Space, data: st.DataObject) -> None:
    history = data.draw(pasts(space))
    used = GridSampler(space, seed=5)
    for number in range(3):
        used.ask(number, history[:number])
    config = used.ask(len(history), history)
    assert config == GridSampler(space, seed=5).ask(len(history), history)
    assert space.contains(config)
    seen = {identify(trial.config) for trial in history if not trial.is_carried}
    size = space.count_points()
    assert size is not None
    assert (identify(config) in seen) == (len(seen) == size)


def test_the_points_of_each_branch_are_counted() -> None:
    assert SMALL.count_points() == SMALL_SIZE
    assert SMALL.count_points(("family", "a")) == 16
    assert SPACE.count_points() is None


def test_a_continuous_range_is_refused() -> None:
    with pytest.raises(ValueError, match="a continuous range has no grid"):
        GridSampler(SPACE, seed=0)


def test_the_seed_shuffles_and_a_part_is_a_fair_sample() -> None:
    huge = Space(tuple(Parameter(name, Int(low=0, high=10**9)) for name in "abc"))
    assert huge.count_points() == (10**9 + 1) ** 3
    samplers = [GridSampler(huge, seed=seed) for seed in (0, 1)]
    first, second = ([sampler.ask(n, []) for n in range(400)] for sampler in samplers)
    assert first[:3] != second[:3]
    for name in "abc":
        values = np.array([float(config[name]) for config in first]) / 10**9
        assert 0.45 < values.mean() < 0.55
        assert 0.27 < values.std() < 0.31


class TestAStage:
    STAGE = Stage(name="only", trials=1000, max_epochs=3, sampler="grid", halving=None)

    def play(self, search: StageSearch) -> None:
        while search.has_next:
            number = search.start().number
            for epoch in range(1, 4):
                search.add(number, (number * 7 % 11) / 11)
                decision = search.judge(number, epoch)
            assert decision.state is not None
            search.end(number, decision.state)

    def test_it_ends_when_the_grid_is_done(self) -> None:
        search = StageSearch(self.STAGE, SMALL, None, seed=0)
        self.play(search)
        assert len(search.views) == search.stage.trials == SMALL_SIZE
        assert search.is_over
        assert f"{SMALL_SIZE} of its {SMALL_SIZE} points" in search.choices
        few = StageSearch(self.STAGE.model_copy(update={"trials": 5}), SMALL, None, seed=0)
        self.play(few)
        assert len(few.views) == 5

    def test_a_grid_that_was_left_is_gone_on_with(self) -> None:
        whole = StageSearch(self.STAGE, SMALL, None, seed=0)
        self.play(whole)
        left = [whole.views[number] for number in range(17)]
        again = StageSearch(self.STAGE, SMALL, None, left, seed=0)
        self.play(again)
        assert again.views == whole.views

    def test_after_the_best_of_the_stage_before_the_rest_of_the_grid_comes_once(self) -> None:
        stage = self.STAGE.model_validate({**self.STAGE.model_dump(), "narrow": {"keep": 1.0}})
        past = [TrialView(n, GridSampler(SMALL, seed=3).ask(n, []), (n / 9,) * 3, "complete") for n in range(9)]
        before = Before(SMALL, tuple(replace(trial, origin="") for trial in past))
        search = StageSearch(stage, SMALL, before, seed=0)
        self.play(search)
        assert search.views[0].config == past[-1].config
        assert len({identify(view.config) for view in search.views.values()}) == SMALL_SIZE
