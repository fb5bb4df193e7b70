"""How the learning rate changes."""

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuner.spec.domain import find_domain
from tuner.spec.hyperparameters import Hyperparameters
from tuner.train.schedule import learning_rate_factor

DECAYS = find_domain(Hyperparameters, "learning_rate_decay").words


def test_step_decay_falls_at_half_and_at_three_quarters() -> None:
    factors = [learning_rate_factor("step", step, 8) for step in range(8)]
    assert factors == [1, 1, 1, 1, 0.1, 0.1, 0.01, 0.01]


def test_cosine_decay_is_one_then_a_half_then_near_zero() -> None:
    assert learning_rate_factor("cosine", 0, 1000) == 1
    assert learning_rate_factor("cosine", 500, 1000) == pytest.approx(0.5)
    assert learning_rate_factor("cosine", 250, 1000) == pytest.approx((1 + math.sqrt(0.5)) / 2)
    assert 0 < learning_rate_factor("cosine", 999, 1000) < 1e-5


def test_exponential_decay_falls_by_the_same_factor_each_step_to_a_hundredth() -> None:
    factors = [learning_rate_factor("exponential", step, 50) for step in range(50)]
    ratios = [later / earlier for earlier, later in itertools.pairwise(factors)]
    assert ratios == [pytest.approx(0.01 ** (1 / 50))] * 49
    assert factors[-1] * 0.01 ** (1 / 50) == pytest.approx(0.01)


def test_one_cycle_rises_over_three_tenths_and_falls_to_zero() -> None:
    factors = [learning_rate_factor("one_cycle", step, 100) for step in range(100)]
    assert factors[0] == pytest.approx(1 / 25)
    assert factors[15] == pytest.approx((1 + 1 / 25) / 2)
    assert max(range(100), key=factors.__getitem__) == 30
    assert factors[30] == 1
    assert factors[65] == pytest.approx(0.5)
    assert factors[99] < 0.001


def test_warm_up_rises_in_a_line_and_the_decay_takes_what_is_left() -> None:
    factors = [learning_rate_factor("step", step, 100, warm_up=0.2) for step in range(100)]
    assert factors[:20] == [pytest.approx((step + 1) / 21) for step in range(20)]
    assert factors[20:60] == [1] * 40
    assert factors[60:80] == [0.1] * 20
    assert factors[80:] == [0.01] * 20


@given(st.sampled_from(DECAYS), st.integers(2, 500), st.floats(0, 1, exclude_max=True))
def test_the_learning_rate_rises_once_and_then_falls(decay: str, steps: int, warm_up: float) -> None:
    factors = [learning_rate_factor(decay, step, steps, warm_up) for step in range(steps)]
    top = factors.index(max(factors))
    assert factors[: top + 1] == sorted(factors[: top + 1])
    assert factors[top:] == sorted(factors[top:], reverse=True)


def test_one_cycle_rises_by_itself_whatever_the_warm_up() -> None:
    for step in range(100):
        assert learning_rate_factor("one_cycle", step, 100, 0.3) == learning_rate_factor("one_cycle", step, 100)


@given(
    st.sampled_from([decay for decay in DECAYS if decay != "one_cycle"]),
    st.integers(1, 500),
    st.floats(0, 1),
    st.floats(0, 1),
)
def test_without_warm_up_the_learning_rate_never_rises(decay: str, steps: int, one: float, other: float) -> None:
    early, late = sorted((int(one * (steps - 1)), int(other * (steps - 1))))
    assert 0 <= learning_rate_factor(decay, late, steps) <= learning_rate_factor(decay, early, steps) <= 1


@given(
    st.sampled_from(DECAYS), st.integers(1, 500), st.floats(0, 1, exclude_max=True), st.floats(0, 1, exclude_max=True)
)
def test_no_step_has_no_length_and_none_is_above_one(decay: str, steps: int, share: float, warm_up: float) -> None:
    assert 0 < learning_rate_factor(decay, int(share * steps), steps, warm_up) <= 1


def test_an_unknown_decay_is_refused() -> None:
    with pytest.raises(ValueError, match="decay must be constant, step, exponential, cosine or one_cycle, got 'line'"):
        learning_rate_factor("line", 0, 1)
