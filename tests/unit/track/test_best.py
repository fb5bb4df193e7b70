"""Which stage whatever follows a search goes on from, on made-up stages."""

from types import SimpleNamespace
from typing import Any

import pytest

from tuner.errors import SearchNotFoundError
from tuner.track.best import find_source, find_trial


def stage(*states: str, ended: str | None = "complete", value: float = 0.5) -> Any:
    trials = [SimpleNamespace(state=state, value=value) for state in states]
    return SimpleNamespace(trials=lambda: trials, attributes={"ended": ended})


def test_the_latest_stage_with_a_complete_trial_comes_before_later_ones_without() -> None:
    first, second, third = stage("complete"), stage("complete", "running", ended=None), stage("stopped")
    assert find_source([first, second, third]) is second


def test_without_a_complete_trial_it_is_the_latest_that_has_ended_with_a_result() -> None:
    first, second = stage("stopped"), stage("stopped", "paused")
    assert find_source([first, second, stage("running", ended=None)]) is second
    assert find_source([first, stage("failed", value=float("nan"))]) is first


def test_a_search_that_goes_on_without_a_complete_trial_has_none() -> None:
    assert find_source([stage("stopped", "running", ended=None)]) is None
    assert find_source([]) is None


@pytest.mark.parametrize(("states", "have"), [((), "it has none yet"), (("complete",) * 3, "it has 0 to 2")])
def test_a_trial_that_is_not_there_is_refused_with_those_that_are(states: tuple[str, ...], have: str) -> None:
    begun = stage(*states)
    begun.search, begun.name = "digits", "coarse"
    with pytest.raises(SearchNotFoundError, match=f"has no trial 7 in stage 'coarse'; {have}"):
        find_trial(begun, 7)
