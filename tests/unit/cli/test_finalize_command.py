"""What is said at the end of a search."""

import pytest

from tuner.cli.finalize_command import judge_gain


@pytest.mark.parametrize(
    ("interval", "verdict"),
    [((0.01, 0.02, 0.03), "yes"), ((-0.03, -0.02, -0.01), "no, it lost"), ((-0.01, 0.0, 0.02), "that may be chance")],
)
def test_a_gain_is_judged_by_its_interval(interval: tuple[float, float, float], verdict: str) -> None:
    low, estimate, high = interval
    said = judge_gain({"over": "middle", "is_winner": False, "estimate": estimate, "low": low, "high": high})
    assert said.endswith(f" over the middle configuration: {verdict}")


def test_a_search_that_chose_what_there_was_without_it_is_not_said_to_have_gained() -> None:
    gain = {"over": "middle", "is_winner": True, "estimate": 0.0, "low": -0.01, "high": 0.01}
    assert judge_gain(gain) == "It found nothing better than the middle configuration"
