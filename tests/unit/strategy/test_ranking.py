import math
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from tuner.strategy.ranking import rank_trials
from tuner.strategy.trial_view import State, TrialView


def view(number: int, *values: float, state: State = "stopped") -> TrialView:
    return TrialView(number, {}, values, state)


def ranking(*trials: TrialView) -> list[int]:
    return [trial.number for trial in rank_trials(trials)]


def test_a_poor_trial_that_came_further_gains_nothing_by_it() -> None:
    first_arrival = view(0, 0.1, 0.1, 0.2, state="complete")
    assert ranking(first_arrival, view(1, 0.3), view(2, 0.2)) == [1, 2, 0]


def test_a_slow_starter_takes_the_place_of_those_it_overtook() -> None:
    slow = view(0, 0.1, 0.9, state="complete")
    fast = view(1, 0.5, 0.6, state="complete")
    assert ranking(slow, fast, view(2, 0.4), view(3, 0.2)) == [0, 2, 3, 1]


def test_survivors_of_halving_stand_before_those_it_stopped() -> None:
    assert ranking(view(0, 0.3), view(1, 0.4, 0.41), view(2, 0.5, 0.5, 0.7), view(3, 0.2)) == [2, 1, 0, 3]


def test_of_equals_the_earlier_is_better() -> None:
    assert ranking(view(1, 0.3), view(0, 0.3)) == [0, 1]


def test_trials_without_a_result_are_left_out() -> None:
    assert ranking(view(0), view(1, 0.9, state="failed"), view(2, 0.9, math.nan, state="diverged"), view(3, 0.1)) == [3]


TRIALS = st.lists(st.lists(st.integers(0, 5).map(float), min_size=1, max_size=4), max_size=12).map(
    lambda curves: [view(i, *sorted(curve)) for i, curve in enumerate(curves)]
)


@given(TRIALS, st.randoms())
def test_the_order_of_the_trials_does_not_matter(trials: list[TrialView], random: Random) -> None:
    shuffled = list(trials)
    random.shuffle(shuffled)
    assert rank_trials(shuffled) == rank_trials(trials)


@given(TRIALS)
def test_trials_of_equal_length_stand_in_the_order_of_their_last_values(trials: list[TrialView]) -> None:
    ranked = rank_trials(trials)
    assert sorted(trial.number for trial in ranked) == [trial.number for trial in trials]
    for length in range(1, 5):
        values = [trial.values[-1] for trial in ranked if len(trial.values) == length]
        assert values == sorted(values, reverse=True)
