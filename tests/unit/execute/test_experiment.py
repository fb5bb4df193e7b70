import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from test_search_run import open_run, play

from tuner.errors import SpecError
from tuner.execute import experiment
from tuner.execute.experiment import Surroundings, read_before, run_search
from tuner.spec import load_text
from tuner.strategy.trial_view import Before

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


def test_a_search_that_has_begun_goes_on_without_the_search_that_its_space_is_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_stages(*args: object, before: Before | None, **more: object) -> str:
        given.append(before)
        return "interrupted"

    given: list[Before | None] = []
    watcher: Any = SimpleNamespace(say=lambda _: None)
    monkeypatch.setattr(experiment, "run_stages", run_stages)
    spec, around = load_text(SPEC), Surroundings(tmp_path, tmp_path, tracking_uri=None)
    play(open_run(tmp_path / "search"))
    assert run_search(spec, around, watcher) == "interrupted"
    changes = ("name=next", "space={from: search}", "stages={only: {trials: 4, max_epochs: 2, sampler: tpe}}")
    open_run(tmp_path / "next", changes=changes, before=given[0])
    shutil.rmtree(tmp_path / "search")
    assert run_search(spec, around, watcher) == "interrupted"
    assert given[0] is not None
    assert given[1] is None
