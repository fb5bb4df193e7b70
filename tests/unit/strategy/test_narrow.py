import math
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import numpy as np
import pytest
from driver import SPACE, run
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from space_strategies import distributions, pasts, spaces

from tuner.spec.domain import find_domain
from tuner.spec.dump import dump_spec
from tuner.spec.hyperparameters import find_owner
from tuner.spec.load import load_text
from tuner.spec.search import Halving, Narrow
from tuner.spec.space import Choice, Config, Distribution, Int, LogInt, LogUniform, Parameter, Space, Uniform
from tuner.strategy.draws import at, draw
from tuner.strategy.narrow import Narrowing, Reason, carry, incumbents, narrow
from tuner.strategy.ranking import rank_trials
from tuner.strategy.tpe import RungAwareTpe
from tuner.strategy.trial_view import State, TrialView


def score_all(
    space: Space, score: Callable[[Config], float], num_trials: int = 48, *, seed: int = 0
) -> list[TrialView]:
    """Trials drawn at random that all reached epoch 9, with made-up values."""
    rng = np.random.default_rng(seed)
    configs = [draw(space, rng) for _ in range(num_trials)]
    return [TrialView(i, config, (score(config),) * 9, "complete") for i, config in enumerate(configs)]


def spread_evenly(space: Space, score: Callable[[Any], float], num_trials: int = 48) -> list[TrialView]:
    (parameter,) = space.parameters
    order = np.random.default_rng(0).permutation(num_trials)
    values = [at(parameter.distribution, (float(i) + 0.5) / num_trials) for i in order]
    return [TrialView(i, {parameter.name: value}, (score(value),) * 9, "complete") for i, value in enumerate(values)]


def narrow_one(
    name: str, distribution: Distribution, score: Callable[[Any], float], **how: float
) -> tuple[Any, Reason]:
    """Narrow a space of one parameter by 48 trials that are spread evenly over it."""
    space = Space((Parameter(name, distribution),))
    trials = spread_evenly(space, score)
    narrowing = narrow(space, trials, Narrow(**how))
    return narrowing.space[name].distribution, narrowing.reasons[0]


class TestRanges:
    def test_a_range_shrinks_to_its_best_values_and_a_margin(self) -> None:
        space = Space((Parameter("dropout", Uniform(low=0.0, high=0.9)),))
        configs = [{"dropout": i / 100} for i in range(5, 85)]
        trials = [
            TrialView(i, config, (-abs(config["dropout"] - 0.401),), "stopped") for i, config in enumerate(configs)
        ]
        narrowing = narrow(space, trials, Narrow(keep=0.1, margin=0.25))
        (reason,) = narrowing.reasons
        assert narrowing.space["dropout"].distribution == Uniform(low=0.352, high=0.458)
        assert (reason.action, reason.num_trials) == ("narrowed", 80)
        assert reason.text == (
            "it explains 77% of the differences between trials; the best 8 of 80 lie in [0.37, 0.44]; 25% of that is "
            "added where an end moves in"
        )
        assert (reason.before, reason.after) == ("uniform [0, 0.9]", "uniform [0.352, 0.458]")

    def test_a_log_range_is_fitted_on_its_logarithm(self) -> None:
        new, _ = narrow_one(
            "learning_rate",
            LogUniform(low=1e-4, high=1.0),
            lambda rate: -abs(math.log10(rate) + 2),
            margin=0.5,
        )
        below, above = -2 - math.log10(new.low), math.log10(new.high) + 2
        assert 0.4 < below < 1.3
        assert below == pytest.approx(above, rel=0.5)

    @pytest.mark.parametrize(
        ("old", "score", "new"),
        [
            (LogUniform(low=1e-4, high=0.1), lambda v: v, (None, 10 ** (-1 + 0.25 * 3))),
            (LogUniform(low=1e-4, high=0.1), lambda v: -v, (10 ** (-4 - 0.25 * 3), None)),
            (Uniform(low=1.0, high=5.0), lambda v: v, (None, 6.0)),
            (
                Uniform(low=0.1, high=0.5),
                lambda v: -v,
                (0.05, None),
            ),  # half of the way to 0, which is excluded
        ],
    )
    def test_an_optimum_at_an_end_moves_that_end_outward(
        self, old: Any, score: Callable[[float], float], new: tuple[float | None, float | None]
    ) -> None:
        fitted, reason = narrow_one("learning_rate", old, score)
        assert reason.action == "widened"
        side = "upper" if new[0] is None else "lower"
        assert f"most are near the {side} end, so the range goes on there by a quarter" in reason.text
        if new[0] is None:
            assert fitted.low > old.low
            assert fitted.high == pytest.approx(new[1], rel=0.01)
        else:
            assert fitted.high < old.high
            assert fitted.low == pytest.approx(new[0], rel=0.01)

    @pytest.mark.parametrize(
        ("name", "old", "score", "side"),
        [
            ("dropout", Uniform(low=0.0, high=0.6), lambda v: -v, "lower"),
            ("architecture.simple_cnn.depth", Int(low=2, high=8), lambda v: v, "upper"),
            ("architecture.simple_cnn.kernel_size", Int(low=1, high=7, step=2), lambda v: v, "upper"),
            ("unheard_of", Uniform(low=0.0, high=0.6), lambda v: -v, "lower"),
            ("architecture.resnet.width", LogInt(low=1, high=64), lambda v: -v, "lower"),  # 0 is the paper's width
        ],
    )
    def test_no_end_moves_past_what_the_hyperparameter_may_be(
        self, name: str, old: Any, score: Callable[[float], float], side: str
    ) -> None:
        new, reason = narrow_one(name, old, score)
        assert (new.low if side == "lower" else new.high) == (old.low if side == "lower" else old.high)
        assert f"most are near the {side} end, but it may not go further" in reason.text

    @pytest.mark.parametrize(
        ("name", "old", "low"),
        [
            ("architecture.simple_cnn.head", LogInt(low=4, high=2048), 1),  # 0 is no hidden layer
            ("architecture.simple_cnn.head", Int(low=16, high=512), 1),
            ("architecture.mobilenet_v2.resolution", Int(low=16, high=64, step=16), 16),  # 0 leaves images as they are
            ("crop_padding", Int(low=0, high=8), 0),
        ],
    )
    def test_a_range_of_whole_numbers_above_0_stays_there(self, name: str, old: Any, low: int) -> None:
        new, _ = narrow_one(name, old, lambda v: -v)
        assert new.low == low

    def test_best_values_all_over_a_range_leave_it_alone(self) -> None:
        old = Uniform(low=0.0, high=0.6)
        new, reason = narrow_one("dropout", old, lambda v: math.sin(1e6 * v), keep=0.5)
        assert (new, reason.action) == (old, "kept")

    def test_a_few_neighbours_leave_a_tenth_of_the_range(self) -> None:
        old = Uniform(low=0.0, high=0.8)
        space = Space((Parameter("dropout", old),))
        values = [0.4 + i * 1e-6 for i in range(6)] + [0.01 * i for i in range(30)]
        trials = [TrialView(i, {"dropout": value}, (-float(i),), "stopped") for i, value in enumerate(values)]
        new: Any = narrow(space, trials, Narrow(keep=0.1)).space["dropout"].distribution
        assert new.low == pytest.approx(0.36, abs=1e-3)
        assert new.high == pytest.approx(0.44, abs=1e-3)

    def test_whole_numbers_keep_at_least_three_values(self) -> None:
        new, _ = narrow_one("batch_size", Int(low=100, high=108), lambda v: -abs(v - 104), keep=0.1)
        assert new == Int(low=103, high=105)
        new, _ = narrow_one("architecture.resnet.width", LogInt(low=8, high=10), lambda v: -abs(v - 9))
        assert new == LogInt(low=8, high=10)

    def test_a_step_still_divides_and_meets_the_same_values(self) -> None:
        new, _ = narrow_one("dropout", Uniform(low=0.1, high=0.9, step=0.1), lambda v: -abs(v - 0.6), keep=0.1)
        assert new == Uniform(low=0.5, high=0.7, step=0.1)
        new, _ = narrow_one("batch_size", Int(low=32, high=256, step=32), lambda v: v, keep=0.1)
        assert new == Int(low=224, high=320, step=32)


class TestRangesThatMatterLittle:
    PAIR = Space(
        (Parameter("learning_rate", LogUniform(low=1e-4, high=1.0)), Parameter("dropout", Uniform(low=0.0, high=0.6)))
    )

    def narrow_pair(self, configs: Sequence[Config]) -> dict[str, Reason]:
        """The reasons where the learning rate alone decides; the best is 0.01."""
        trials = [
            TrialView(i, config, (-abs(math.log10(float(config["learning_rate"])) + 2),), "complete")
            for i, config in enumerate(configs)
        ]
        return {reason.name: reason for reason in narrow(self.PAIR, trials, Narrow()).reasons}

    def test_what_explains_nothing_is_kept_and_the_other_is_narrowed_all_the_same(self) -> None:
        rng = np.random.default_rng(0)
        reasons = self.narrow_pair([draw(self.PAIR, rng) for _ in range(48)])
        assert reasons["learning_rate"].action == "narrowed"
        assert (reasons["dropout"].action, reasons["dropout"].num_trials) == ("kept", 48)
        assert reasons["dropout"].text == "it explains no more of the differences between trials than chance may"

    def test_what_may_be_due_to_another_is_narrowed_less(self) -> None:
        rng = np.random.default_rng(0)
        configs = [draw(self.PAIR, rng) for _ in range(24)]
        # a sampler that found a good learning rate tries it again, and with it the dropout that came along
        configs += [
            {"learning_rate": 10 ** (-2 + 0.2 * rng.normal()), "dropout": 0.3 + 0.05 * rng.random()} for _ in range(24)
        ]
        reasons = self.narrow_pair(configs)
        assert reasons["learning_rate"].text.startswith("it explains ")
        assert "; the best 10 of 48 lie in [" in reasons["learning_rate"].text
        assert reasons["dropout"].text.startswith(
            "what it explains of the differences between trials may be due to learning_rate; the best 24 of 48 lie in ["
        )

    def test_what_is_left_by_others_is_said_so(self) -> None:
        def score(config: Config) -> float:
            return -abs(math.log10(float(config["learning_rate"])) + 2) - 2 * abs(float(config["dropout"]) - 0.3)

        reasons = {r.name: r for r in narrow(self.PAIR, score_all(self.PAIR, score, 60), Narrow()).reasons}
        assert (
            "of the differences between trials that learning_rate leaves; the best 12 of 60 lie in ["
            in reasons["dropout"].text
        )
        assert reasons["dropout"].action == "narrowed"


@pytest.mark.parametrize("num_trials", [8, 12, 24, 48])
def test_where_nothing_matters_hardly_a_range_is_narrowed_and_hardly_ever_an_option_dropped(num_trials: int) -> None:
    options = [Parameter(f"c{i}", Choice(options=tuple(range(2 + i % 4)))) for i in range(10)]
    ranges = [Parameter(f"x{i}", Uniform(low=0.0, high=1.0)) for i in range(5)]
    rng = np.random.default_rng(num_trials)
    changed, dropping = 0, 0
    for seed in range(200):
        trials = score_all(Space((*options, *ranges)), lambda _: rng.random(), num_trials, seed=seed)
        actions = {
            reason.name: reason.action for reason in narrow(Space((*options, *ranges)), trials, Narrow()).reasons
        }
        changed += sum(actions[parameter.name] != "kept" for parameter in ranges)
        dropping += any(actions[parameter.name] != "kept" for parameter in options)
    assert changed / (200 * 5) < 0.1
    assert dropping / 200 < 0.06


CHOICE = Choice(options=("constant", "step", "cosine"))


class TestOptions:
    def test_an_option_with_much_evidence_against_it_is_dropped(self) -> None:
        new, reason = narrow_one("learning_rate_decay", CHOICE, lambda option: -float(option == "constant"))
        assert new == Choice(options=("step", "cosine"))
        assert reason.action == "dropped options"
        assert reason.text.startswith("constant: none of its ")
        assert reason.text.endswith("trials is among the best 10 of 48, and they are clearly worse (rank-sum test, 1%)")

    def test_one_option_left_is_fixed(self) -> None:
        new, reason = narrow_one("learning_rate_decay", CHOICE, lambda option: float(option == "cosine"))
        assert (new, reason.action) == (Choice(options=("cosine",)), "fixed")

    def make_trials(self, places: Sequence[int], num_trials: int = 48) -> list[TrialView]:
        """Trials from best to worst, ``step`` at the given places and ``cosine`` elsewhere."""
        return [
            TrialView(i, {"learning_rate_decay": "step" if i in places else "cosine"}, (-float(i),), "stopped")
            for i in range(num_trials)
        ]

    @pytest.mark.parametrize(
        ("places", "is_dropped"),
        [
            (range(43, 48), True),
            (range(44, 48), False),  # too few to tell
            ((3, *range(40, 48)), False),  # one of the best
            (range(10, 48, 4), False),  # not clearly worse
        ],
    )
    def test_it_takes_enough_trials_none_of_the_best_and_a_clear_difference(
        self, places: Sequence[int], is_dropped: bool
    ) -> None:
        space = Space((Parameter("learning_rate_decay", CHOICE),))
        new = narrow(space, self.make_trials(places), Narrow()).space["learning_rate_decay"].distribution
        assert isinstance(new, Choice)
        assert ("step" not in new.options) == is_dropped
        assert {"constant", "cosine"} <= set(new.options)  # never tried; the best

    def test_an_option_that_had_bad_luck_with_something_more_important_is_kept(self) -> None:
        space = Space((Parameter("learning_rate", LogUniform(low=1e-4, high=1.0)), Parameter("decay", CHOICE)))
        rates = [10 ** (-4 * i / 47) for i in range(48)]  # from best to worst
        trials = [
            TrialView(
                i, {"learning_rate": rate, "decay": "step" if i % 2 and i > 36 else "cosine"}, (rate,), "complete"
            )
            for i, rate in enumerate(rates)
        ]
        assert len([trial for trial in trials if trial.config["decay"] == "step"]) == 6
        assert narrow(space, trials, Narrow()).space["decay"].distribution == CHOICE

    @pytest.mark.parametrize("state", ["diverged", "failed"])
    def test_an_option_that_never_gave_a_result_is_dropped(self, state: State) -> None:
        trials = self.make_trials(())
        trials += [TrialView(48 + i, {"learning_rate_decay": "step"}, (), state) for i in range(6)]
        narrowing = narrow(Space((Parameter("learning_rate_decay", CHOICE),)), trials, Narrow())
        assert narrowing.space["learning_rate_decay"].distribution == Choice(options=("constant", "cosine"))

    def test_with_a_network_go_its_hyperparameters(self) -> None:
        trials = score_all(SPACE, lambda config: float(config["architecture"] != "resnet") + float(config["l2"]), 60)
        narrowing = narrow(SPACE, trials, Narrow())
        assert not any("resnet" in parameter.name for parameter in narrowing.space.parameters)
        reasons = {reason.name: reason for reason in narrowing.reasons}
        assert reasons["architecture.resnet.depth"].action == "dropped"
        assert reasons["architecture.resnet.depth"].after == ""
        assert reasons["architecture.resnet.depth"].text == "went with architecture: resnet"
        assert reasons["architecture.simple_cnn.depth"].action != "dropped"


class TestWhatTellsNothing:
    @pytest.mark.parametrize("state", ["diverged", "failed"])
    def test_trials_without_a_result_leave_the_space_as_it_is(self, state: State) -> None:
        rng = np.random.default_rng(0)
        trials = [TrialView(i, draw(SPACE, rng), (0.5, math.nan), state) for i in range(40)]
        narrowing = narrow(SPACE, trials, Narrow())
        assert narrowing.space == SPACE
        assert {reason.text for reason in narrowing.reasons} == {
            "trials with a result that tell about it: 0, and 8 are needed"
        }

    def test_no_trials_leave_the_space_as_it_is(self) -> None:
        assert narrow(SPACE, [], Narrow()).space == SPACE

    def test_equal_values_leave_the_space_as_it_is(self) -> None:
        narrowing = narrow(SPACE, score_all(SPACE, lambda _: 0.1), Narrow())
        assert narrowing.space == SPACE
        assert narrowing.reasons[-1].text == "all 48 trials are equally good"

    def test_seven_trials_are_too_few_and_eight_are_not(self) -> None:
        trials = score_all(SPACE, lambda config: -float(config["dropout"]), 8)
        assert narrow(SPACE, trials[:7], Narrow()).space == SPACE
        assert narrow(SPACE, trials, Narrow()).space != SPACE

    def test_a_constant_is_named_too(self) -> None:
        space = Space((Parameter("batch_size", Choice(options=(64,))),))
        (reason,) = narrow(space, score_all(space, lambda _: 0.1), Narrow()).reasons
        assert (reason.action, reason.text, reason.after) == ("fixed", "a constant", "64")

    def test_trials_carried_over_from_another_stage_are_left_out(self) -> None:
        trials = carry(score_all(SPACE, lambda config: -float(config["dropout"])), SPACE)
        assert narrow(SPACE, trials, Narrow()).space == SPACE
        assert incumbents(trials, SPACE, 3) == []


HOWS = st.builds(Narrow, keep=st.floats(0.01, 1), margin=st.floats(0, 1))


@settings(max_examples=150)
@given(st.data(), HOWS, st.randoms(use_true_random=False))
def test_the_best_trial_stays_inside_and_every_parameter_has_a_reason(
    data: st.DataObject, how: Narrow, random: Random
) -> None:
    space = data.draw(st.one_of(spaces(), st.just(SPACE)))
    trials = data.draw(pasts(space))
    narrowing = narrow(space, trials, how)
    assert [reason.name for reason in narrowing.reasons] == [p.name for p in space.parameters]
    check_space(space, narrowing)
    for trial in rank_trials(t for t in trials if not t.is_carried)[:1]:
        assert narrowing.space.contains(trial.config)
    random.shuffle(trials)
    assert narrow(space, trials, how) == narrowing


def check_space(old: Space, narrowing: Narrowing) -> None:
    """Every part of the new space is a sane one of the old kind, and agrees with what was said about it."""
    reasons = {reason.name: reason for reason in narrowing.reasons}
    for parameter in narrowing.space.parameters:
        before, after = old[parameter.name].distribution, parameter.distribution
        action = reasons[parameter.name].action
        assert type(before) is type(after)
        assert parameter.condition == old[parameter.name].condition
        if isinstance(after, Choice):
            assert isinstance(before, Choice)
            assert set(map(repr, after.options)) <= set(map(repr, before.options))
            assert (action in {"kept", "fixed"}) or len(after.options) < len(before.options)
            continue
        assert not isinstance(before, Choice)
        assert after.low < after.high
        assert (action == "kept") == (after == before)
        assert (action == "widened") == (after.low < before.low or after.high > before.high)
        if isinstance(after, Int):
            assert (after.low - before.low) % after.step == 0 == (after.high - after.low) % after.step
        owner = find_owner(parameter.name)
        if owner is not None:
            domain = find_domain(owner[0], parameter.key)
            assert domain.is_in_bounds(after.low)
            assert domain.is_in_bounds(after.high)
    names = {parameter.name for parameter in narrowing.space.parameters}
    for name, reason in reasons.items():
        assert (reason.action == "dropped") == (name not in names)
    draw(narrowing.space, np.random.default_rng(0))


@settings(max_examples=60)
@given(
    st.one_of(
        st.builds(LogUniform, low=st.floats(1e-4, 1e-3), high=st.floats(0.01, 1)),
        st.builds(Uniform, low=st.floats(0.5, 1), high=st.floats(2, 50)),
        st.builds(Uniform, low=st.just(1.0), high=st.integers(5, 20).map(float), step=st.sampled_from((0.25, 0.5))),
    ),
    st.integers(12, 80),
    HOWS,
    st.booleans(),
)
def test_a_planted_optimum_at_an_end_widens_it_and_cuts_the_other(
    old: Any, num_trials: int, how: Narrow, is_upper: bool
) -> None:
    assume(max(5, math.ceil(how.keep * num_trials)) < 0.4 * num_trials)
    space = Space((Parameter("learning_rate", old),))
    trials = spread_evenly(space, lambda value: float(value if is_upper else -value), num_trials)
    new: Any = narrow(space, trials, how).space["learning_rate"].distribution
    if is_upper:
        assert new.high > old.high
        assert new.low > old.low
    else:
        assert 0 < new.low < old.low
        assert new.high < old.high


@settings(max_examples=60)
@given(st.integers(0, 5), st.integers(24, 80), st.integers(0, 2**32), st.booleans(), st.data())
def test_a_planted_optimum_at_an_end_widens_it_among_whatever_else_is_searched(
    num_others: int, num_trials: int, seed: int, is_upper: bool, data: st.DataObject
) -> None:
    planted = Parameter("learning_rate", LogUniform(low=1e-4, high=0.1))
    others = [Parameter(f"other{i}", data.draw(distributions)) for i in range(num_others)]
    space = Space((*others, planted))
    rng = np.random.default_rng(seed)
    trials = []
    for i, place in enumerate(rng.permutation(num_trials)):
        rate = at(planted.distribution, float(place + rng.random()) / num_trials)
        value = (1 if is_upper else -1) * math.log10(float(rate)) + 0.1 * rng.normal()
        trials.append(TrialView(i, {**draw(space, rng), "learning_rate": rate}, (value,), "complete"))
    narrowing = narrow(space, trials, Narrow())
    new: Any = narrowing.space["learning_rate"].distribution
    assert (new.high > 0.1, new.low < 1e-4) == (is_upper, not is_upper)
    assert (new.low > 1e-4, new.high < 0.1) == (is_upper, not is_upper)
    assert narrowing.space.contains(rank_trials(trials)[0].config)


SPEC = """
name: narrowed
data: digits
space:
  architecture:
    choice:
      simple_cnn: {depth: {int: [1, 4]}, width: {logint: [8, 64]}}
      lenet: {width: {uniform: [0.5, 2.0], step: 0.25}}
  learning_rate: {loguniform: [1e-4, 1.0]}
  dropout: {uniform: [0.0, 0.7], step: 0.1}
  batch_size: {int: [32, 256], step: 32}
  learning_rate_decay: {choice: [constant, step, cosine]}
stages: {coarse: {trials: 48, max_epochs: 9}}
"""


@settings(max_examples=15)
@given(HOWS, st.integers(0, 2**32), st.lists(st.floats(-1, 1), min_size=5, max_size=5))
def test_a_narrowed_space_is_one_that_a_search_file_can_ask_for(how: Narrow, seed: int, weights: list[float]) -> None:
    spec = load_text(SPEC, "a test's")
    assert isinstance(spec.space, Space)

    def score(config: Config) -> float:
        flat = (config[name] for name in ("learning_rate", "dropout", "batch_size"))
        signs = [config["architecture"] == "lenet", config["learning_rate_decay"] == "step", *flat]
        return sum(weight * float(value) for weight, value in zip(weights, signs, strict=True))

    narrowed = narrow(spec.space, score_all(spec.space, score, seed=seed), how).space
    assert load_text(dump_spec(spec.model_copy(update={"space": narrowed})), "a test's").space == narrowed


class TestTheNextStage:
    def test_carried_trials_lie_in_the_new_space_and_have_ended(self) -> None:
        trials = run(
            RungAwareTpe(SPACE, seed=0, stage_rungs=(1, 3, 9)),
            Halving(),
            max_epochs=9,
            num_trials=40,
        )
        space = narrow(SPACE, trials, Narrow()).space
        carried = carry([*trials, TrialView(99, trials[0].config, (), "running")], space)
        assert all(trial.is_carried and trial.state != "running" for trial in carried)
        assert [trial.number for trial in carried] == [t.number for t in trials if space.contains(t.config)]
        assert 0 < len(carried) < 40

    def test_incumbents_are_the_best_different_configs_that_still_fit(self) -> None:
        configs = [{"dropout": value} for value in (0.1, 0.5, 0.1, 0.2, 0.3)]
        trials = [TrialView(i, config, (1.0 - i / 10,), "stopped") for i, config in enumerate(configs)]
        space = Space((Parameter("dropout", Uniform(low=0.0, high=0.4)),))
        assert incumbents(trials, space, 3) == [{"dropout": 0.1}, {"dropout": 0.2}, {"dropout": 0.3}]
        assert incumbents(trials, space, 1) == [{"dropout": 0.1}]
        assert incumbents(trials, space, 0) == []
