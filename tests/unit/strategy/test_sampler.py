import math
import random
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import get_args

import numpy as np
import optuna
import pytest
from driver import LEAST_ERROR, SPACE, error_after, run
from hypothesis import given, settings
from hypothesis import strategies as st
from space_strategies import pasts, spaces

from tuner.spec.search import Halving, Narrow, Stage
from tuner.spec.space import Choice, Config, Int, LogInt, LogUniform, Parameter, Prior, Scalar, Space, Uniform
from tuner.strategy.cma_es import RankedCmaEs
from tuner.strategy.draws import draw, find_middle
from tuner.strategy.forecast import Forecaster
from tuner.strategy.gaussian_sampler import GaussianSampler
from tuner.strategy.model_free import QuasiRandomSampler, RandomSampler
from tuner.strategy.nsga2 import RungAwareNsga2
from tuner.strategy.sampler import FirstThen, Kind, Sampler, build_sampler, choose_kind
from tuner.strategy.simulate import Curve, Job, Search, simulate
from tuner.strategy.stage_search import StageSearch
from tuner.strategy.tpe import RungAwareTpe
from tuner.strategy.trial_view import STAGE_BEFORE, Before, State, TrialView

Build = Callable[[Space, int], Sampler]
EVERY_KIND = Space(
    (
        Parameter("uniform", Uniform(low=-1, high=3)),
        Parameter("stepped", Uniform(low=0.1, high=0.7, step=0.2)),
        Parameter("loguniform", LogUniform(low=1e-4, high=1.0)),
        Parameter("int", Int(low=2, high=10, step=4)),
        Parameter("logint", LogInt(low=1, high=64)),
        Parameter("choice", Choice(options=("a", "b", "c"))),
        Parameter("constant", Choice(options=(7,))),
    )
)


def build_random(space: Space, seed: int) -> Sampler:
    return RandomSampler(space, seed=seed)


def build_tpe(space: Space, seed: int) -> Sampler:
    return RungAwareTpe(space, seed=seed, stage_rungs=(1, 3, 9))


def build_modelling_tpe(space: Space, seed: int) -> Sampler:
    return RungAwareTpe(space, seed=seed, stage_rungs=(1, 3, 9), random_share=0)


def build_sequence(space: Space, seed: int) -> Sampler:
    return QuasiRandomSampler(space, seed=seed)


def build_gaussian(space: Space, seed: int) -> GaussianSampler:
    return GaussianSampler(space, Forecaster(space, (1, 3, 9)), seed=seed)


def build_cmaes(space: Space, seed: int) -> Sampler:
    return RankedCmaEs(space, seed=seed)


def build_with_first(space: Space, seed: int) -> Sampler:
    return FirstThen(space, [draw(space, np.random.default_rng(0))], build_tpe(space, seed + 1))


class WithSecondObjective:
    """Shows a sampler of two objectives a past in which the second one depends on the config."""

    def __init__(self, sampler: Sampler) -> None:
        self._sampler = sampler

    def ask(self, number: int, history: Sequence[TrialView]) -> dict[str, Scalar]:
        past = [replace(t, also=((float(len(repr(dict(t.config))) % 7),),) * len(t.values)) for t in history]
        return self._sampler.ask(number, past)


def build_tpe_of_two(space: Space, seed: int) -> Sampler:
    return WithSecondObjective(RungAwareTpe(space, seed=seed, stage_rungs=(1, 3, 9), num_objectives=2, random_share=0))


def build_nsga2(space: Space, seed: int) -> Sampler:
    return WithSecondObjective(
        RungAwareNsga2(space, seed=seed, stage_rungs=(1, 3, 9), num_objectives=2, random_share=0)
    )


def make_past(space: Space, state: State, num_trials: int = 30, *, origin: str = "", seed: int = 0) -> list[TrialView]:
    """Trials drawn at random, all in one state, with values that rise along the space's first parameter."""
    rng = np.random.default_rng(seed)
    length = {"complete": 9, "stopped": 3, "running": 0}.get(state, 2)
    return [
        TrialView(number, draw(space, rng), (rng.random(),) * length, state, origin) for number in range(num_trials)
    ]


@pytest.mark.parametrize(
    "build",
    [
        build_random,
        build_tpe,
        build_modelling_tpe,
        build_tpe_of_two,
        build_nsga2,
        build_cmaes,
        build_with_first,
        build_sequence,
        build_gaussian,
    ],
)
class TestEverySampler:
    @settings(max_examples=60)
    @given(st.data())
    def test_a_suggestion_lies_in_its_space_and_on_its_grid(self, build: Build, data: st.DataObject) -> None:
        space = data.draw(spaces())
        history = data.draw(pasts(space))
        config = build(space, data.draw(st.integers(0, 2**32))).ask(len(history), history)
        assert space.contains(config)
        for name, value in config.items():
            distribution = space[name].distribution
            if isinstance(distribution, Int | Uniform) and distribution.step is not None:
                assert isinstance(value, int | float)
                num_steps = (value - distribution.low) / distribution.step
                assert num_steps == pytest.approx(round(num_steps), abs=1e-6)

    @settings(max_examples=30)
    @given(st.data())
    def test_the_same_question_gets_the_same_answer(self, build: Build, data: st.DataObject) -> None:
        space = data.draw(spaces())
        history = data.draw(pasts(space))
        used = build(space, 5)
        for number in range(3):
            used.ask(number, history[:number])
        assert used.ask(len(history), history) == build(space, 5).ask(len(history), history)

    @pytest.mark.parametrize("state", ["complete", "stopped", "running", "diverged", "failed"])
    @pytest.mark.parametrize("origin", ["", STAGE_BEFORE, "another"])
    def test_any_past_will_do(self, build: Build, state: State, origin: str) -> None:
        past = make_past(SPACE, state, origin=origin)
        configs = [build(SPACE, 0).ask(number, past) for number in range(30, 40)]
        assert all(SPACE.contains(config) for config in configs)
        assert len({frozenset(config.items()) for config in configs}) == 10

    def test_another_seed_gives_another_answer(self, build: Build) -> None:
        past = make_past(SPACE, "complete")
        asked = {frozenset(build(SPACE, seed).ask(30, past).items()) for seed in range(20)}
        assert len(asked) == 20

    def test_a_search_that_was_killed_goes_on_the_same(self, build: Build) -> None:
        whole = run(build(SPACE, 3), Halving(), max_epochs=9, num_trials=30, num_workers=1)
        for number in (1, 12, 29):
            assert build(SPACE, 3).ask(number, whole[:number]) == whole[number].config

    def test_no_global_generator_is_touched_and_nothing_is_said(
        self, build: Build, capfd: pytest.CaptureFixture[str]
    ) -> None:
        before = (random.getstate(), np.random.get_state()[1].tolist())  # noqa: NPY002
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            build(SPACE, 0).ask(30, make_past(SPACE, "complete"))
        assert (random.getstate(), np.random.get_state()[1].tolist()) == before  # noqa: NPY002
        assert capfd.readouterr() == ("", "")
        assert optuna.logging.get_verbosity() == optuna.logging.INFO  # ours to leave alone

    def test_a_small_space_is_exhausted_before_anything_is_tried_again(self, build: Build) -> None:
        space = Space((Parameter("a", Int(low=1, high=5)), Parameter("b", Choice(options=(True, False)))))
        history: list[TrialView] = []
        for number in range(12):
            config = build(space, 1).ask(number, history)
            values = (float(config["a"]),) * 9
            history.append(TrialView(number, config, values, "complete"))
        assert len({frozenset(trial.config.items()) for trial in history[:10]}) == 10

    def test_a_space_of_constants_has_one_suggestion(self, build: Build) -> None:
        space = Space((Parameter("a", Choice(options=(3,))),))
        assert build(space, 0).ask(0, []) == {"a": 3}
        assert build(space, 0).ask(40, make_past(space, "complete")) == {"a": 3}


@pytest.mark.parametrize("build", [build_random, build_tpe, build_gaussian])
class TestTheDrawsBeforeAModel:
    @pytest.fixture
    def configs(self, build: Build) -> list[dict[str, Scalar]]:
        return [build(EVERY_KIND, 0).ask(number, []) for number in range(512)]

    def test_both_ends_of_whole_numbers_and_grids_are_reached(self, configs: list[dict[str, Scalar]]) -> None:
        assert {config["int"] for config in configs} == {2, 6, 10}
        assert {1, 64} <= {config["logint"] for config in configs}
        assert sorted({round(float(config["stepped"]), 9) for config in configs}) == [0.1, 0.3, 0.5, 0.7]

    def test_floats_come_near_both_ends(self, configs: list[dict[str, Scalar]]) -> None:
        values = [float(config["uniform"]) for config in configs]
        assert min(values) < -0.95
        assert max(values) > 2.95

    def test_log_scales_are_uniform_in_the_logarithm(self, configs: list[dict[str, Scalar]]) -> None:
        decades = Counter(math.floor(math.log10(float(config["loguniform"]))) for config in configs)
        assert set(decades) == {-4, -3, -2, -1}
        assert all(90 < count < 170 for count in decades.values())
        doublings = Counter(min(int(math.log2(int(config["logint"]))), 5) for config in configs)
        assert all(doublings[i] > 45 for i in range(1, 6))

    def test_options_are_equally_likely(self, configs: list[dict[str, Scalar]]) -> None:
        assert all(130 < count < 215 for count in Counter(config["choice"] for config in configs).values())


class TestRungAwareTpe:
    FLAT = Space((Parameter("x", Uniform(low=0, high=1)), Parameter("y", Uniform(low=0, high=1))))

    def ask(self, history: Sequence[TrialView], num_asked: int = 40, space: Space = FLAT) -> list[dict[str, Scalar]]:
        sampler = build_modelling_tpe(space, 0)
        return [sampler.ask(100 + i, history) for i in range(num_asked)]

    def mean(self, history: Sequence[TrialView], name: str = "x") -> float:
        return float(np.mean([float(config[name]) for config in self.ask(history)]))

    def past(
        self, score: Callable[[Config], float], length: int, state: State = "complete", num_trials: int = 20
    ) -> list[TrialView]:
        past = make_past(self.FLAT, state, num_trials)
        return [replace(trial, values=(score(trial.config),) * length) for trial in past]

    def test_the_start_is_a_sobol_sequence_in_which_eight_points_fall_into_eight_eighths(self) -> None:
        points = [build_tpe(self.FLAT, 0).ask(number, []) for number in range(8)]
        for name in ("x", "y"):
            assert sorted(int(8 * float(point[name])) for point in points) == list(range(8))

    def test_it_goes_where_values_are_high(self) -> None:
        assert self.mean(self.past(lambda config: float(config["x"]), 9)) > 0.75
        assert self.mean(self.past(lambda config: -float(config["x"]), 9)) < 0.25

    def test_below_the_number_of_trials_needed_it_does_not_model(self) -> None:
        history = self.past(lambda config: float(config["x"]), 9)
        assert self.ask(history[:3]) == self.ask([])
        assert self.ask(history[:4]) != self.ask([])

    def test_the_highest_rung_with_enough_trials_decides(self) -> None:
        early = self.past(lambda config: float(config["x"]), 3, "stopped")
        assert self.mean(early) > 0.75
        late = [
            replace(trial, number=20 + i, values=(0.0, 0.0, 0.0, *(-float(trial.config["x"]),) * 6))
            for i, trial in enumerate(self.past(lambda _: 0.0, 9)[:10])
        ]
        assert self.mean([*early, *late[:3]]) > 0.75
        assert self.mean([*early, *late]) < 0.4

    def test_a_running_trial_counts_at_the_rungs_it_has_passed(self) -> None:
        running = self.past(lambda config: float(config["x"]), 3, "running")
        assert self.mean(running) > 0.75

    def test_running_trials_below_the_rung_push_away(self) -> None:
        finished = self.past(lambda config: float(config["x"]), 9)
        running = [TrialView(20 + i, {"x": 0.93 + 0.01 * i, "y": 0.1 * i}, (), "running") for i in range(7)]
        for past in (finished, [replace(trial, origin=STAGE_BEFORE) for trial in finished]):
            near = sum(float(config["x"]) > 0.92 for config in self.ask(past))
            near_after = sum(float(config["x"]) > 0.92 for config in self.ask([*past, *running]))
            assert near_after < near / 2

    def test_trials_stopped_below_the_rung_push_away_whatever_their_values(self) -> None:
        finished = self.past(lambda config: float(config["x"]), 9)
        stopped = [TrialView(20 + i, {"x": 0.93 + 0.01 * i, "y": 0.1 * i}, (99.0,), "stopped") for i in range(7)]
        near = sum(float(config["x"]) > 0.92 for config in self.ask(finished))
        near_after = sum(float(config["x"]) > 0.92 for config in self.ask([*finished, *stopped]))
        assert near_after < near / 2

    @pytest.mark.parametrize("state", ["diverged", "failed"])
    def test_trials_without_a_result_push_away(self, state: State) -> None:
        level = self.past(lambda config: float(config["y"]), 9)
        bad = [TrialView(20 + i, {"x": 0.5 + 0.025 * i, "y": 0.05 * i}, (0.9, math.nan), state) for i in range(20)]
        share = np.mean([float(config["x"]) > 0.5 for config in self.ask(level, 100)])
        share_after = np.mean([float(config["x"]) > 0.5 for config in self.ask([*level, *bad], 100)])
        assert share_after < share - 0.15

    def test_trials_without_a_result_do_not_make_a_rung_ready(self) -> None:
        assert self.ask(make_past(self.FLAT, "diverged")) == self.ask([])

    def test_carried_trials_count_until_a_rung_has_enough_of_its_own(self) -> None:
        carried = [replace(t, origin=STAGE_BEFORE) for t in self.past(lambda config: float(config["x"]), 27)]
        own = self.past(lambda config: -float(config["x"]), 3, "stopped")
        assert self.mean(carried) > 0.75
        assert self.mean([*carried, *own[:3]]) > 0.75
        assert self.mean([*carried, *own]) < 0.25

    def test_what_depends_on_an_option_is_learnt_from_the_trials_that_chose_it(self) -> None:
        space = Space(
            (
                Parameter("family", Choice(options=("a", "b"))),
                Parameter("family.a.x", Uniform(low=0, high=1), ("family", "a")),
                Parameter("family.b.x", Uniform(low=0, high=1), ("family", "b")),
            )
        )

        def score(config: Config) -> float:
            return float(config["family.a.x"]) if "family.a.x" in config else -float(config["family.b.x"])

        past = [replace(t, values=(score(t.config),) * 9) for t in make_past(space, "complete", 60)]
        asked = self.ask(past, space=space)
        assert sum(config["family"] == "a" for config in asked) > 30
        assert np.mean([float(config["family.a.x"]) for config in asked if "family.a.x" in config]) > 0.7

    def test_a_share_stays_quasi_random(self) -> None:
        history = self.past(lambda config: float(config["x"]), 9)
        exploring = RungAwareTpe(self.FLAT, seed=0, stage_rungs=(9,), random_share=0.3)
        sequence = RungAwareTpe(self.FLAT, seed=0, stage_rungs=(9,))
        hits = sum(exploring.ask(n, history) == sequence.ask(n, []) for n in range(100, 200))
        assert 15 < hits < 45


class TestCmaEs:
    FLAT = Space(tuple(Parameter(name, Uniform(low=0, high=1)) for name in "xyz"))

    def learn(self, space: Space, values: Callable[[Config, int], tuple[tuple[float, ...], State]]) -> list[Config]:
        """Let it tell its own trials apart by what they reach; return what it asks for after a hundred."""
        sampler = RankedCmaEs(space, seed=0)
        history: list[TrialView] = []
        for number in range(100):
            config = sampler.ask(number, history)
            history.append(TrialView(number, config, *values(config, number)))
        return [trial.config for trial in history[-20:]]

    def test_ranges_are_learnt_and_choices_are_drawn(self) -> None:
        space = Space((Parameter("c", Choice(options=(False, True))), *self.FLAT.parameters))
        asked = self.learn(space, lambda config, _: ((-abs(float(config["x"]) - 0.1),) * 9, "complete"))
        assert np.mean([abs(float(config["x"]) - 0.1) for config in asked]) < 0.05
        assert 3 < sum(bool(config["c"]) for config in asked) < 17

    def test_trials_are_compared_at_equal_epochs_and_those_without_a_result_are_worst(self) -> None:
        def reach(config: Config, number: int) -> tuple[tuple[float, ...], State]:
            x = float(config["x"])
            if x < 0.3:
                return ((math.nan,), "diverged") if number % 2 else ((), "failed")
            # what ended higher was lower after an epoch, and only that epoch is in both
            return ((x, 5.0), "complete") if x < 0.6 else ((x,), "stopped")

        asked = self.learn(self.FLAT, reach)
        assert np.mean([float(config["x"]) for config in asked]) > 0.85

    def test_what_was_carried_or_has_no_value_yet_is_not_learnt_from(self) -> None:
        past = make_past(self.FLAT, "complete", 50, origin=STAGE_BEFORE) + make_past(self.FLAT, "running", 50)
        assert RankedCmaEs(self.FLAT, seed=0).ask(50, past) == RankedCmaEs(self.FLAT, seed=0).ask(50, [])

    def test_below_a_choice_of_one_option_ranges_are_certain(self) -> None:
        space = SPACE.replace({"architecture": Choice(options=("resnet",))})
        certain = ["learning_rate", "l2", "dropout", "batch_size"]
        assert [p.name for p in SPACE.flat_ranges] == certain
        assert [p.name for p in space.flat_ranges] == ["architecture.resnet.width", *certain]


class TestFirstThen:
    def build(self, first: Sequence[Config]) -> Sampler:
        return build_sampler("tpe", SPACE, build_gaussian(SPACE, 0), seed=0, first=first)

    def test_the_given_configs_come_first_in_their_order(self) -> None:
        first = [draw(SPACE, np.random.default_rng(i)) for i in range(2)]
        sampler = self.build(first)
        past = [TrialView(i, config, (0.5,) * 9, "complete", origin=STAGE_BEFORE) for i, config in enumerate(first)]
        assert [sampler.ask(0, past), sampler.ask(1, past)] == first
        assert sampler.ask(2, past) not in first

    @given(st.data())
    def test_a_part_of_a_config_is_made_whole_and_the_same_again(self, data: st.DataObject) -> None:
        space = data.draw(spaces())
        whole = draw(space, np.random.default_rng(data.draw(st.integers(0, 99))))
        kept = data.draw(st.sets(st.sampled_from(sorted(whole))))
        part = {name: value for name, value in whole.items() if name in kept}
        asked = [
            build_sampler("tpe", space, build_gaussian(space, 3), seed=3, first=[part, whole]).ask(number, [])
            for number in (0, 0, 1)
        ]
        assert space.contains(asked[0])
        assert asked[0] == asked[1]
        assert {name: asked[0][name] for name in kept if name in asked[0]} == {
            n: part[n] for n in kept & asked[0].keys()
        }
        assert asked[0] == whole or asked[2] == whole
        if kept == set(whole):
            assert asked[0] == whole != asked[2] or asked[2] == whole

    def test_a_config_outside_the_space_is_refused(self) -> None:
        with pytest.raises(ValueError, match="is not a point of the space"):
            FirstThen(SPACE, [{"x": 1}], build_random(SPACE, 0))


class TestTheChoiceOfASampler:
    STAGE = Stage(name="coarse", trials=9, max_epochs=9)

    def test_auto_takes_the_model_that_fits(self) -> None:
        fixed = Space((Parameter("x", Choice(options=(1,))),))
        assert [choose_kind(self.STAGE, SPACE)[0], choose_kind(self.STAGE, SPACE, 2)[0]] == ["gp", "tpe"]
        assert choose_kind(self.STAGE, fixed)[0] == "random"

    @pytest.mark.parametrize(
        ("name", "kind"),
        [
            ("gp", GaussianSampler),
            ("tpe", RungAwareTpe),
            ("nsga2", RungAwareNsga2),
            ("cmaes", RankedCmaEs),
            ("qmc", QuasiRandomSampler),
            ("random", RandomSampler),
        ],
    )
    def test_the_stage_names_the_sampler(self, name: str, kind: type[Sampler]) -> None:
        chosen, _ = choose_kind(self.STAGE.model_copy(update={"sampler": name}), SPACE)
        assert isinstance(
            build_sampler(chosen, SPACE, build_gaussian(SPACE, 0), seed=0, first=[]),
            kind,
        )

    def test_stages_of_one_search_draw_independently(self) -> None:
        stages = [self.STAGE.model_copy(update={"name": name}) for name in ("coarse", "fine", "coarse")]
        asked = []
        for search in (StageSearch(stage, SPACE, None, seed=0) for stage in stages):
            assert search.start().config == find_middle(SPACE)
            asked.append(search.start().config)
        assert asked[0] == asked[2] != asked[1]

    @pytest.mark.parametrize("kind", get_args(Kind))
    def test_a_model_begins_with_the_middle_and_others_do_not(self, kind: Kind) -> None:
        stage = self.STAGE.model_copy(update={"sampler": kind})
        space = Space((Parameter("int", Int(low=0, high=1000)),))  # that a grid can count too
        search = StageSearch(stage, space, None, seed=0)
        assert (search.start().config == find_middle(space)) == (kind in {"gp", "tpe"})
        assert ("middle" in search.choices) == (kind in {"gp", "tpe"})

    def test_what_is_known_to_be_better_takes_the_place_of_the_middle(self) -> None:
        wanted = draw(SPACE, np.random.default_rng(0))
        tried = StageSearch(self.STAGE, SPACE, None, seed=0, first=[wanted])
        assert tried.start().config == wanted
        seen = TrialView(number=0, config=wanted, values=(0.5,), state="complete")
        after = StageSearch(self.STAGE.model_copy(update={"narrow": Narrow()}), SPACE, Before(SPACE, (seen,)), seed=0)
        assert after.start().config == wanted
        guess = Prior(guess=0.2, confidence="high")
        guessed = StageSearch(self.STAGE, Space((Parameter("x", Uniform(low=0, high=1), prior=guess),)), None, seed=0)
        assert guessed.start().config == {"x": 0.2}
        for search in (tried, after, guessed):
            assert search.start().config != find_middle(search.space)
            assert "middle" not in search.choices


@pytest.mark.parametrize(("name", "most"), [("tpe", 0.75), ("gp", 0.35), ("cmaes", 0.8)])
def test_with_halving_a_model_beats_random_search_at_the_same_epochs(name: str, most: float) -> None:
    regret = {"random": 0.0, name: 0.0}
    for kind in regret:
        stage = Stage.model_validate({"name": "coarse", "trials": 1000, "max_epochs": 27, "sampler": kind})
        for seed in range(24):
            search = Search([stage], SPACE, seed=seed)
            events = simulate(search, train, workers=4, max_epochs=400)
            regret[kind] += min(-event.value for event in events if event.epoch == 27) - LEAST_ERROR
    assert regret[name] < most * regret["random"]


def train(job: Job) -> Curve:
    errors = np.array([error_after(job.config, epoch) for epoch in range(1, 28)])
    return Curve(-np.minimum.accumulate(errors), seconds=1 + 0.001 * (job.key[1] % 7))
