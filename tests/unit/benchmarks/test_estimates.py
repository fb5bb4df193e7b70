"""What is said of the regrets of several seeds, on rows with known answers."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import rankdata
from search_quality.estimates import (
    SMALLEST_RATIO,
    compare,
    estimate,
    estimate_ratio,
    find_best,
    holm,
    mean_ranks,
    signed_ranks,
)


def by_seed(*values: float) -> dict[int, float]:
    return dict(enumerate(values))


def test_an_interval_of_equal_values_is_their_value() -> None:
    found = estimate([0.25] * 7)
    assert (found.value, found.low, found.high) == (0.25, 0.25, 0.25)


def test_an_interval_of_a_mean_is_about_two_standard_errors_to_each_side() -> None:
    values = np.random.default_rng(1).normal(10, 2, size=400)
    found = estimate(values.tolist())
    error = values.std() / math.sqrt(len(values))
    assert found.low == pytest.approx(found.value - 1.96 * error, abs=0.25 * error)
    assert found.high == pytest.approx(found.value + 1.96 * error, abs=0.25 * error)


def test_a_median_is_not_moved_by_an_outlier() -> None:
    found = estimate([1.0, 2.0, 3.0, 4.0, 1e6], np.median)
    assert found.value == 3.0


def test_a_ratio_is_the_geometric_mean_over_problems() -> None:
    table = {
        "easy": {"ours": by_seed(0.1, 0.3), "theirs": by_seed(0.2, 0.2)},
        "hard": {"ours": by_seed(1.0, 1.0), "theirs": by_seed(3.0, 5.0)},
    }
    ratio = estimate_ratio(table, "ours", "theirs")
    assert ratio is not None
    assert ratio.value == pytest.approx(math.sqrt(1 * 0.25))
    assert ratio.low <= ratio.value <= ratio.high
    assert ratio.num_problems == 2


def test_a_ratio_is_taken_on_shared_seeds_only() -> None:
    table = {
        "one": {"ours": {0: 1.0, 1: 1.0, 2: 9.0}, "theirs": {0: 2.0, 1: 2.0}},
        "two": {"ours": {0: 5.0}, "theirs": {1: 1.0}},
    }
    ratio = estimate_ratio(table, "ours", "theirs")
    assert ratio is not None
    assert (ratio.value, ratio.num_problems) == (pytest.approx(0.5), 1)


@pytest.mark.parametrize("regret", [0.0, -1e-7, 1e-12])
def test_no_single_problem_makes_a_ratio_vanish(regret: float) -> None:
    ratio = estimate_ratio({"one": {"ours": by_seed(regret), "theirs": by_seed(1.0)}}, "ours", "theirs")
    assert ratio is not None
    assert ratio.value == pytest.approx(SMALLEST_RATIO)


def test_there_is_no_ratio_to_who_did_not_search() -> None:
    assert estimate_ratio({"one": {"ours": by_seed(1.0)}}, "ours", "theirs") is None


@given(st.lists(st.lists(st.integers(0, 3), min_size=4, max_size=4), min_size=1, max_size=6))
def test_where_all_have_all_seeds_ranks_are_means_of_the_ranks_of_each_seed(rows: list[list[int]]) -> None:
    regrets = np.array(rows, dtype=float)
    table = {"one": {f"m{i}": by_seed(*regrets[:, i]) for i in range(4)}}
    expected = rankdata(regrets, axis=1).mean(axis=0)
    assert list(mean_ranks(table).values()) == pytest.approx(expected)


def test_a_method_with_few_seeds_is_ranked_on_those() -> None:
    table = {"one": {"a": by_seed(1, 1, 5, 5), "b": by_seed(2, 2, 2, 2), "few": by_seed(1.5, 1.5)}}
    assert mean_ranks(table) == pytest.approx({"a": 1 + 0.5 + 0, "b": 1 + 0.5 + 1, "few": 1 + 1 + 0})


def test_problems_weigh_the_same_whatever_their_seeds() -> None:
    table = {
        "one": {"a": by_seed(1, 1, 1, 1), "b": by_seed(2, 2, 2, 2)},
        "two": {"a": by_seed(2), "b": by_seed(1)},
    }
    assert mean_ranks(table) == {"a": 1.5, "b": 1.5}


def test_holms_correction_is_that_of_the_textbook() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_signed_ranks_of_one_sign_have_the_smallest_p_value_there_is() -> None:
    p_value, sign = signed_ranks(np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6]))
    assert (p_value, sign) == (pytest.approx(2 / 2**6), 1)
    assert signed_ranks(-np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6]))[1] == -1


def test_methods_that_are_the_same_do_not_differ() -> None:
    assert signed_ranks(np.zeros(5)) == (1.0, 0)


def test_a_difference_is_corrected_for_the_number_of_problems() -> None:
    better, same = {"ours": by_seed(*[0.1] * 8), "theirs": by_seed(*np.linspace(0.2, 0.9, 8))}, by_seed(*[0.5] * 8)
    alone = compare({"one": better}, "ours", "theirs")
    beside = compare({"one": better, "two": {"ours": same, "theirs": same}}, "ours", "theirs")
    assert alone[0].p_value == pytest.approx(2 / 2**8)
    assert beside[0].p_value == pytest.approx(2 * 2 / 2**8)
    assert (beside[0].is_significant, beside[0].sign) == (True, -1)
    assert (beside[1].is_significant, beside[1].p_value) == (False, 1.0)


def test_the_best_peer_is_the_one_that_leaves_the_highest_ratio_on_all_problems() -> None:
    table = {
        "one": {"ours": by_seed(1.0), "good": by_seed(1.0), "poor": by_seed(4.0), "rare": by_seed(0.1)},
        "two": {"ours": by_seed(1.0), "good": by_seed(2.0), "poor": by_seed(1.5)},
    }
    assert find_best(table, "ours", ["poor", "rare", "good"]) == "good"
    assert find_best(table, "ours", []) is None
