"""What ranks at rungs can heed: families, cost, noise, how far training must go, and what a rung is worth."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuner.spec.search import Stage
from tuner.spec.space import Choice, Config, Parameter, Space, Uniform
from tuner.strategy.brackets import choose_bracket, weigh_brackets
from tuner.strategy.crossing import estimate_noise, find_last_rung
from tuner.strategy.history import History
from tuner.strategy.rules import EqualCostRule, MedianRule, RankRule, Room
from tuner.strategy.simulate import Curve, Job, Search, simulate
from tuner.strategy.trial_view import State, TrialView

RUNGS = (1, 3, 9, 27)
SPACE = Space(
    (
        Parameter("architecture", Choice(options=("quick", "slow"))),
        Parameter("x", Uniform(low=0.0, high=1.0)),
    )
)


def build_trial(
    number: int, values: Sequence[float], state: State = "running", config: Config | None = None, cost: float = 1.0
) -> TrialView:
    return TrialView(number, config or {}, tuple(values), state, cost=cost)


def build_history(curves: Sequence[Sequence[float]], state: State = "stopped") -> History:
    return History([build_trial(i, values, state) for i, values in enumerate(curves)], rungs=RUNGS)


@given(st.lists(st.integers(0, 5).map(float), min_size=1, max_size=30))
def test_by_the_median_those_go_on_that_are_not_below_it(values: list[float]) -> None:
    history = build_history([(value,) for value in values])
    median = np.sort(values)[::-1][(len(values) - 1) // 2]
    goes_on = [MedianRule().judge(n, 1, history)[0] for n in range(len(values))]
    assert all(on for on, value in zip(goes_on, values, strict=True) if value > median)
    assert not any(on for on, value in zip(goes_on, values, strict=True) if value < median)
    assert sum(goes_on) == (len(values) + 1) // 2


def test_a_trial_within_the_tolerance_of_the_cut_goes_on() -> None:
    history = build_history([(0.50,), (0.49,), (0.47,), (0.3,), (0.2,), (0.1,)])
    goes_on = [[RankRule(6, tolerance=t).judge(n, 1, history)[0] for n in range(6)] for t in (0.0, 0.02, 0.03)]
    assert [sum(each) for each in goes_on] == [1, 2, 3]
    waiting = build_history([(0.50,), (0.49,), (0.47,), (0.3,), (0.2,), (0.1,)], "paused")
    promotable = [list(RankRule(6, tolerance=t)._promotable(waiting.at(1), 1, waiting)) for t in (0.0, 0.02)]
    assert promotable == [[0], [0, 1]]


def test_the_noise_is_how_far_curves_are_apart_that_cross_and_cross_back() -> None:
    steady = [build_trial(i, [0.1 * i + 0.01 * epoch for epoch in range(9)]) for i in range(3)]
    assert estimate_noise(steady, 9) == 0
    crossing = [build_trial(3, [0.5, 0.5, 0.52, 0.54]), build_trial(4, [0.49, 0.51, 0.51, 0.56])]
    assert estimate_noise(crossing, 4) == pytest.approx(0.02)
    assert estimate_noise(crossing, 2) == 0, "one crossing may be a slow starter"


class TestPeers:
    def test_each_family_has_its_own_ranks(self) -> None:
        trials = [
            build_trial(n, (value,), "paused", {"architecture": family, "x": 0.1 * n})
            for n, (family, value) in enumerate([("quick", 0.9), ("quick", 0.8), ("slow", 0.3), ("slow", 0.2)])
        ]
        apart = History(trials, rungs=RUNGS, group="architecture")
        together = History(trials, rungs=RUNGS)
        assert [RankRule(2).judge(n, 1, apart)[0] for n in range(4)] == [True, False, True, False]
        assert [RankRule(2).judge(n, 1, together)[0] for n in range(4)] == [True, True, False, False]
        assert sorted(n for group in apart.groups(1) for n in RankRule(2)._promotable(group, 1, apart)) == [0, 2]

    def test_options_that_are_equal_but_of_another_type_are_other_families(self) -> None:
        trials = [build_trial(n, (0.5,), config={"architecture": option}) for n, option in enumerate((1, True, 1.0))]
        assert len(History(trials, rungs=RUNGS, group="architecture").groups(1)) == 3


class TestEqualCost:
    def test_a_dear_trial_is_compared_with_what_others_reached_for_as_much(self) -> None:
        cheap = [build_trial(n, [0.1 * n + 0.05 * epoch for epoch in range(1, 10)], "complete") for n in range(3)]
        dear = build_trial(3, (0.35,), cost=4.0)
        history = History([*cheap, dear], rungs=RUNGS)
        # for the cost of four epochs the others had 0.2, 0.3 and 0.4
        assert EqualCostRule(2).judge(3, 1, history)[1].endswith("rank 2 of 4 at this rung")
        assert RankRule(2).judge(3, 1, history)[1].endswith("rank 1 of 4 at this rung")

    def test_who_could_not_finish_an_epoch_for_as_much_is_left_out_and_who_still_trains_waits(self) -> None:
        dear = build_trial(0, (0.9,), "stopped", cost=10.0)
        behind = build_trial(1, (0.8,), "running", cost=0.5)
        ended = build_trial(2, (0.7,), "stopped", cost=0.5)
        history = History([dear, behind, ended, build_trial(3, (0.6,))], rungs=RUNGS)
        assert EqualCostRule(2).judge(3, 1, history)[1] == "0.6 against a cut of 0.7, rank 2 of 2 at this rung"

    def test_one_that_waits_within_the_tolerance_of_the_cut_is_gone_on_with(self) -> None:
        gone_on = build_trial(0, (0.9, 0.9))
        history = History([gone_on, *(build_trial(n, (v,), "paused") for n, v in ((1, 0.899), (2, 0.5)))], rungs=RUNGS)
        for rule in (RankRule, EqualCostRule):
            chosen = [rule(3, tolerance=tolerance).choose(history, Room())[0] for tolerance in (0.0, 0.05)]
            assert chosen == [None, 1]
        few = History([build_trial(n, (0.9,), "paused") for n in range(2)], rungs=RUNGS)
        assert EqualCostRule(3, tolerance=0.05).choose(few, Room())[0] is None


def find_share_of_slow(halving: dict[str, object], seed: int, sampler: str = "random") -> float:
    """Search curves that cross: the slow family is the last one until the ninth epoch, and wins in the end.

    Returns the share of searches, by the best complete trial, that end with the slow family.
    """

    def train(job: Job) -> Curve:
        slow = job.config["architecture"] == "slow"
        final = (0.9 if slow else 0.7) - 0.2 * abs(float(job.config["x"]) - 0.5)
        return Curve([final * (1 - math.exp(-epoch / (9.0 if slow else 0.8))) for epoch in range(1, 28)])

    stage = Stage.model_validate(
        {"name": "only", "trials": 60, "max_epochs": 27, "sampler": sampler, "halving": {"audit": 0, **halving}}
    )
    cost = {"quick": 4.0, "slow": 1.0}  # a slow starter that is cheap
    search = Search([stage], SPACE, seed=seed, cost=lambda config: cost[str(config["architecture"])])
    events = [e for e in simulate(search, train, workers=4, max_epochs=10**6) if e.epoch == 27]
    return float(max(events, key=lambda event: event.value).job.config["architecture"] == "slow") if events else 0.0


@pytest.mark.parametrize(
    ("halving", "sampler", "least", "most"),
    [
        ({"rule": "rank", "min_peers": 1}, "random", 0.0, 0.5),
        ({"rule": "rank", "min_peers": 1, "peers": "architecture"}, "random", 0.9, 1.0),
        ({"rule": "rank", "min_peers": 1, "axis": "multiply_adds"}, "random", 0.8, 1.0),
        ({"rule": "rank", "min_peers": 1, "brackets": 4}, "random", 0.7, 1.0),
        ({"rule": "promise"}, "gp", 0.9, 1.0),
    ],
)
def test_where_the_slow_family_wins_in_the_end_plain_halving_loses_it_and_fair_halving_does_not(
    halving: dict[str, object], sampler: str, least: float, most: float
) -> None:
    share = np.mean([find_share_of_slow(halving, seed, sampler) for seed in range(10 if sampler == "random" else 3)])
    assert least <= share <= most


class TestTheGrowingRung:
    def test_it_grows_only_while_trials_change_places(self) -> None:
        same = build_history([[0.1 * n + 0.01 * epoch for epoch in range(3)] for n in range(4)])
        assert find_last_rung(same) == 3
        swapped = build_history([[0.5, 0.5, 0.5], [0.4, 0.5, 0.6]])
        assert find_last_rung(swapped) == 9
        assert find_last_rung(build_history([])) == 3

    def test_what_may_be_chance_does_not_let_it_grow(self) -> None:
        wobbling = [[0.50, 0.52, 0.53], [0.49, 0.53, 0.52], [0.505, 0.51, 0.54]]
        assert estimate_noise([build_trial(n, values) for n, values in enumerate(wobbling)], 3) > 0.01
        assert find_last_rung(build_history(wobbling)) == 3

    def run(self, curve: Callable[[Config], list[float]]) -> tuple[int, float]:
        """Return the longest training, and the best value at the end of the curve of what was trained so long."""
        stage = Stage.model_validate(
            {"name": "only", "trials": 40, "max_epochs": 27, "sampler": "random", "halving": {"grow": True, "audit": 0}}
        )
        search = Search([stage], SPACE, seed=1)
        events = list(simulate(search, lambda job: Curve(curve(job.config)), workers=4, max_epochs=10**6))
        longest = max(event.epoch for event in events)
        return longest, max(curve(event.job.config)[-1] for event in events if event.epoch == longest)

    def test_trainings_get_longer_where_early_values_do_not_say_it_all(self) -> None:
        early = self.run(lambda config: [float(config["x"]) * (1 - 0.5**epoch) for epoch in range(1, 28)])
        # at each rung another order
        late = self.run(
            lambda config: [
                0.03 * epoch + 0.02 * (997 * float(config["x"]) * (1 + sum(epoch >= rung for rung in RUNGS)) % 1)
                for epoch in range(1, 28)
            ]
        )
        assert early[0] == 3 and early[1] > 0.9
        assert late[0] >= 9


class TestBrackets:
    def test_rungs_that_agree_with_the_end_judge_more_trials_than_rungs_that_do_not(self) -> None:
        rng = np.random.default_rng(0)
        curves = []
        for _ in range(40):
            end = rng.random()
            curves.append([*[rng.random()] * 2, *[end] * 25])  # the first rung tells nothing, the second all
        history = build_history(curves, "complete")
        weights = weigh_brackets(history, len(history.rows))
        assert weights[0] < 0.5 * weights[1]
        assert weights[1] > weights[2] > weights[3]
        before = weigh_brackets(history, 0)
        assert before == pytest.approx([1, 1 / 3, 1 / 9, 1 / 27])

    def test_a_bracket_depends_on_what_was_known_when_the_trial_began(self) -> None:
        history = build_history([[0.1 * n] * 27 for n in range(3)], "complete")
        history.put(build_trial(3, ()))
        before = [choose_bracket(3, history, 3, seed) for seed in range(50)]
        for number in range(4, 30):
            history.put(build_trial(number, [0.9 - 0.01 * number] * 27, "complete"))
        assert [choose_bracket(3, history, 3, seed) for seed in range(50)] == before
        assert set(before) == {0, 1, 2}

    def test_there_are_no_more_brackets_than_rungs(self) -> None:
        history = History([build_trial(0, ())], rungs=(1, 3))
        assert {choose_bracket(0, history, 8, seed) for seed in range(99)} == {0, 1}
