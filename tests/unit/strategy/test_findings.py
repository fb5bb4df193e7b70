"""What learning curves ask of the next space and of the next length."""

import math
from typing import Any

import numpy as np
import pytest

from tuner.spec.search import Narrow
from tuner.spec.space import Choice, Config, LogUniform, Parameter, Space, Uniform
from tuner.strategy.diagnose import KINDS, Kind
from tuner.strategy.draws import draw
from tuner.strategy.findings import describe_unfinished, find_remedy
from tuner.strategy.narrow import Narrowing, narrow
from tuner.strategy.trial_view import State, TrialView

SPACE = Space(
    (
        Parameter("learning_rate", LogUniform(low=1e-4, high=1.0)),
        Parameter("l2", LogUniform(low=1e-6, high=1e-2)),
        Parameter("dropout", Uniform(low=0.0, high=0.6)),
        Parameter("batch_size", Choice(options=(32, 64))),
        Parameter("label_smoothing", Uniform(low=0.0, high=0.2)),
    )
)


def score(config: Config) -> float:
    """Middling values of all but the label smoothing are the best."""
    rate, l2 = (math.log10(float(config[name])) for name in ("learning_rate", "l2"))
    return 1 - 0.05 * (rate + 2) ** 2 - 0.03 * (l2 + 4) ** 2 - (float(config["dropout"]) - 0.3) ** 2


TRIALS = [
    TrialView(number, config, (score(config),) * 9, "complete")
    for number, config in enumerate(draw(SPACE, np.random.default_rng(seed)) for seed in range(60))
]
BEST = sorted(TRIALS, key=lambda trial: -trial.best)[:12]


def narrow_by(kind: Kind, count: int = 12) -> Narrowing:
    """Narrow by trials of which so many of the best have curves of that shape, and the other best are healthy."""
    kinds = {trial.number: kind if place < count else KINDS["healthy"] for place, trial in enumerate(BEST)}
    return narrow(SPACE, TRIALS, Narrow(), kinds)


PLAIN = narrow(SPACE, TRIALS, Narrow())


def ends(narrowing: Narrowing, name: str) -> Any:
    return narrowing.space[name].distribution


@pytest.mark.parametrize("kind", ["healthy", "plateaued", "still improving", "diverged", "dead", "too short"])
def test_curves_that_ask_for_nothing_leave_the_narrowing_as_it_is(kind: Kind) -> None:
    assert narrow_by(kind) == PLAIN


@pytest.mark.parametrize("kind", ["overfitting", "underfitting", "learning rate too low", "learning rate too high"])
def test_less_than_half_of_the_best_or_only_the_others_are_no_finding(kind: Kind) -> None:
    assert narrow_by(kind, 5) == PLAIN
    poor: dict[int, Kind] = {trial.number: kind for trial in TRIALS if trial not in BEST}
    assert narrow(SPACE, TRIALS, Narrow(), poor) == PLAIN


@pytest.mark.parametrize(
    ("kind", "names", "end", "other"),
    [
        ("overfitting", {"l2", "dropout"}, "high", "low"),
        ("underfitting", {"l2", "dropout"}, "low", "high"),
        ("learning rate too low", {"learning_rate"}, "high", "low"),
        ("learning rate too high", {"learning_rate"}, "low", "high"),
    ],
)
def test_half_of_the_best_move_one_end_outward_by_a_quarter(kind: Kind, names: set[str], end: str, other: str) -> None:
    found = narrow_by(kind, 6)
    for reason, plain in zip(found.reasons, PLAIN.reasons, strict=True):
        if reason.name not in names:
            assert reason == plain
            assert ends(found, reason.name) == ends(PLAIN, reason.name)
            continue
        old, before, after = SPACE[reason.name].distribution, ends(PLAIN, reason.name), ends(found, reason.name)
        assert isinstance(old, LogUniform | Uniform)
        assert getattr(after, other) == getattr(before, other)
        sign = 1 if end == "high" else -1
        if isinstance(old, LogUniform):
            moved = math.log(getattr(after, end) / getattr(before, end)) / math.log(old.high / old.low)
        else:
            moved = (getattr(after, end) - getattr(before, end)) / (old.high - old.low)
        is_at_limit = reason.name == "dropout" and after.low == 0.0
        assert sign * moved == pytest.approx(0.25, abs=0.01) or is_at_limit
        assert f"; curves of 6 of the best 12 that show something: {kind}, " in reason.text
        side = "upper" if end == "high" else "lower"
        assert f"so the {side} end goes on by a quarter of the old range" in reason.text
        is_wider = after.low < old.low or after.high > old.high
        assert reason.action == ("widened" if is_wider else "narrowed")


def test_an_end_that_may_not_go_further_stays_and_says_so() -> None:
    space = Space((Parameter("dropout", Uniform(low=0.0, high=0.6)),))
    trials = [TrialView(i, {"dropout": 0.01 * i}, (float(-i),) * 9, "complete") for i in range(60)]
    found = narrow(space, trials, Narrow(), {trial.number: "underfitting" for trial in trials})
    assert ends(found, "dropout").low == 0.0
    assert found.reasons[0].text.endswith("underfitting, but the lower end may not go further")


def test_an_end_that_has_moved_outward_moves_no_further() -> None:
    space = Space((Parameter("l2", LogUniform(low=1e-6, high=1e-2)),))
    configs = [{"l2": 10 ** (-6 + 4 * i / 60)} for i in range(60)]
    trials = [TrialView(i, config, (float(i),) * 9, "complete") for i, config in enumerate(configs)]
    plain = narrow(space, trials, Narrow())
    found = narrow(space, trials, Narrow(), {trial.number: "overfitting" for trial in trials})
    assert found.space == plain.space
    assert (found.reasons[0].action, plain.reasons[0].action) == ("widened", "widened")
    assert found.reasons[0].text.endswith("overfitting, with which that agrees")


def test_a_range_that_explains_nothing_is_widened_too() -> None:
    space = Space((Parameter("dropout", Uniform(low=0.1, high=0.5)),))
    rng = np.random.default_rng(0)
    trials = [TrialView(i, {"dropout": rng.uniform(0.1, 0.5)}, (rng.random(),) * 9, "complete") for i in range(20)]
    assert narrow(space, trials, Narrow()).reasons[0].action == "kept"
    found = narrow(space, trials, Narrow(), {trial.number: "overfitting" for trial in trials})
    assert (ends(found, "dropout").low, ends(found, "dropout").high) == (0.1, 0.6)
    assert found.reasons[0].action == "widened"


def test_few_curves_are_no_finding_and_those_too_short_are_not_counted() -> None:
    assert find_remedy("l2", ["overfitting"] * 2) is None
    assert find_remedy("l2", ["overfitting"] * 3 + [KINDS["too short"]] * 9) is not None
    assert find_remedy("momentum", ["overfitting"] * 9) is None


def view(number: int, state: State) -> TrialView:
    return TrialView(number, {}, (0.5,) * 9, state)


def test_trials_that_still_improved_at_the_end_are_told_if_half_did() -> None:
    trials = [view(number, "complete" if number < 5 else "stopped") for number in range(20)]
    kinds: dict[int, Kind] = dict.fromkeys(range(3), "still improving") | {3: "healthy", 4: "plateaued"}
    assert describe_unfinished(trials, kinds) == "3 of the 5 trials that came to the end were still improving"
    assert describe_unfinished(trials, kinds | {2: "healthy"}) == ""
    more = [view(number, "complete") for number in range(7)]
    few: dict[int, Kind] = dict.fromkeys(range(3), "still improving") | dict.fromkeys(range(3, 7), "healthy")
    assert describe_unfinished(more, few) == "", "three of seven are less than half"
    assert describe_unfinished(more[:6], few) == "3 of the 6 trials that came to the end were still improving"
    assert describe_unfinished(trials, dict.fromkeys(range(10, 20), "still improving")) == ""
