"""What holds for every problem of the comparison."""

import numpy as np
import pytest
from search_quality.problems import HELD_OUT, MAX_EPOCHS, PROBLEMS

from tuner.strategy.draws import draw

ROUNDED = 1e-4  # the optima of Hartmann's functions are known to so many digits
NUM_DRAWN = 200


@pytest.mark.parametrize("name", PROBLEMS)
def test_a_curve_is_the_best_so_far_and_never_ends_above_the_optimum_but_for_noise(name: str) -> None:
    problem = PROBLEMS[name]()
    rng = np.random.default_rng(0)
    assert problem.name == name
    for _ in range(NUM_DRAWN):
        config = draw(problem.space, rng)
        curve, truth = problem.curve(config), problem.truth(config)
        is_finite = np.isfinite(curve)
        assert curve.shape == (MAX_EPOCHS,)
        assert np.all(np.diff(curve[is_finite]) >= 0)
        assert np.all(np.diff(is_finite.astype(int)) <= 0)  # what diverges stays so
        assert is_finite[-1] == np.isfinite(truth)
        assert not truth > problem.optimum + ROUNDED
        assert np.array_equal(curve, problem.curve(dict(config)), equal_nan=True)


def test_held_out_problems_are_problems() -> None:
    assert set(HELD_OUT) <= set(PROBLEMS)
