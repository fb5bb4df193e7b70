from pathlib import Path

import pytest
from test_search_run import open_run, play

from tuner.errors import SpecError
from tuner.execute.experiment import read_before
from tuner.spec import load_text

SPEC = """\
name: next
data: digits
space: {from: search}
stages: {only: {trials: 4, max_epochs: 2, sampler: tpe}}
"""


def test_a_sampler_that_does_not_go_with_a_finished_searchs_space_is_refused(tmp_path: Path) -> None:
    play(open_run(tmp_path / "search"))  # it has one range whatever is chosen
    before = read_before(load_text(SPEC), tmp_path)
    assert before is not None
    assert [parameter.name for parameter in before.space.flat_ranges] == ["learning_rate"]
    with pytest.raises(
        SpecError, match=r"on the space of search 'search'(.|\n)*only.sampler: cmaes .* needs 2, found 1"
    ):
        read_before(load_text(SPEC, overrides=["stages.only.sampler=cmaes"]), tmp_path)
