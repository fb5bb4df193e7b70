"""Which trial of a search is trained again."""

from pathlib import Path

import pytest
from made_up import make_up

from tuner.errors import SearchNotFoundError
from tuner.execute.reproduce import find_trial
from tuner.track.ledger import Ledger


def test_a_search_that_has_begun_no_stage_has_no_trial(tmp_path: Path) -> None:
    (tmp_path / "made-up").mkdir()
    Ledger.open(tmp_path / "made-up", create=True)
    with pytest.raises(SearchNotFoundError, match="has begun no stage yet; start it with: tuner run SPEC"):
        find_trial(tmp_path / "made-up", None, None)


@pytest.mark.parametrize(
    ("stage", "number", "said"),
    [
        ("fine", None, "has no stage 'fine'; it has: coarse"),
        (None, 7, "has no trial 7 in stage 'coarse'; it has 0 to 0"),
        (None, None, "has no trial with a result in stage 'coarse'; it has 0 to 0"),
        (None, 0, "coarse-0: it has no epoch on record to compare with"),
    ],
)
def test_a_trial_that_is_not_there_is_refused(tmp_path: Path, stage: str | None, number: int | None, said: str) -> None:
    (begun,) = make_up(tmp_path / "made-up", 0, "coarse").stages()
    begun.start(begun.space, {"architecture": "lenet", "learning_rate": 0.1, "l2": 1e-5, "dropout": 0.0}, 0)
    with pytest.raises(SearchNotFoundError, match=said):
        find_trial(tmp_path / "made-up", stage, number)
