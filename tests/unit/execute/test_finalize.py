"""Who contends at the end of a search, and when the test set may be opened."""

import shutil
from pathlib import Path

import pytest
from test_search_run import open_run, play

from tuner.cli.watch import PlainLines
from tuner.errors import DataError, InputError, SearchNotFoundError
from tuner.execute.experiment import Surroundings
from tuner.execute.finalize import (
    Request,
    finalize_search,
    find_final,
    name_stage,
    plan,
    rank_contenders,
    refuse_second_opening,
)
from tuner.spec import dump_spec, load_text
from tuner.spec.search import SearchSpec
from tuner.spec.space import Space
from tuner.strategy.contenders import draw_baselines, enclose
from tuner.track.ledger import FINAL, Ledger, StageLedger


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    """A search that was played to its end, and did not try the middle of its space."""
    play(open_run(tmp_path / "played", changes=("stages.coarse.sampler=random",)))
    return Ledger.open(tmp_path / "played")


def begin(ledger: Ledger, spec: SearchSpec, record: object) -> StageLedger:
    """Open the final trainings in the ledger."""
    text = dump_spec(spec)
    return ledger.begin_stage(spec.stages[0].name, maximize=True, spec=text, asked=text, **{FINAL: record})


def test_the_best_different_configurations_contend_and_two_that_no_search_chose(ledger: Ledger) -> None:
    spec, record = plan(ledger, Request(top=3, seeds=4))
    trials = [trial for stage in ledger.stages() for trial in stage.trials()]
    best = [one for one in record["contenders"] if one["value"] is not None]
    assert best[0]["value"] == max(trial.value for trial in trials if trial.best_epoch)
    assert [one["name"] for one in record["contenders"][3:]] == ["random", "middle"]
    configs = [frozenset(one["config"].items()) for one in record["contenders"]]
    assert len(set(configs)) == 5
    assert spec.stages[0].trials == 20
    assert spec.stages[0].max_epochs == 6, "as long as the last stage"
    assert spec.stages[0].halving is None
    assert isinstance(spec.space, Space)
    assert all(spec.space.contains(config) for config in spec.first)
    named = name_stage(spec, ledger, None)
    assert load_text(dump_spec(named)) == named, "the ledger can hold it"


def test_the_middle_contends_once_where_the_search_has_tried_it_and_is_among_its_best(tmp_path: Path) -> None:
    play(open_run(tmp_path / "played"))
    ledger = Ledger.open(tmp_path / "played")
    middle = draw_baselines(ledger.stages()[0].space, 0)["middle"]
    assert ledger.stages()[0].trials()[0].config == middle, "what it tries first"
    _, record = plan(ledger, Request(top=3))
    assert [one["config"] for one in record["contenders"]].count(middle) == 1
    assert {one["baseline"] for one in record["contenders"] if one["config"] == middle} == {"middle"}
    assert [one["name"] for one in record["contenders"] if one["value"] is None] == ["random"]


def test_more_configurations_than_have_a_result_are_refused(ledger: Ledger, tmp_path: Path) -> None:
    with pytest.raises(SearchNotFoundError, match=r"--top: .* configurations with a result, found 99"):
        plan(ledger, Request(top=99))
    run = open_run(tmp_path / "begun")
    task = run.next_task()
    assert task is not None
    with pytest.raises(SearchNotFoundError, match="no complete trial"):
        plan(Ledger.open(tmp_path / "begun"), Request())


def test_data_without_a_test_split_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    (tmp_path / "photos" / "cat").mkdir(parents=True)
    changes = ("name=played", "stages.coarse.sampler=random", f"data={{name: folder, path: '{tmp_path / 'photos'}'}}")
    play(open_run(tmp_path / "played", changes=changes))
    around = Surroundings(tmp_path, tmp_path / "cache", None, None, {})
    with pytest.raises(DataError, match="there is no test split, for its classes stand in the folder itself; move"):
        finalize_search("played", Request(), around, PlainLines())
    (tmp_path / "photos" / "cat").rename(tmp_path / "photos" / "train")
    with pytest.raises(DataError, match="a folder test was expected, found train; add it"):
        finalize_search("played", Request(), around, PlainLines())
    assert Ledger.open(tmp_path / "played").finals() == []
    shutil.rmtree(tmp_path / "photos")  # as on a machine without the data, of which nothing is known
    with pytest.raises(DataError, match="a folder with a folder for each class was expected, there is none"):
        finalize_search("played", Request(), around, PlainLines())


def test_the_baselines_are_what_the_space_says_and_not_what_was_found(ledger: Ledger) -> None:
    space = ledger.stages()[0].space
    middle = draw_baselines(space, 0)["middle"]
    assert middle["learning_rate"] == pytest.approx(10**-1.5), "the middle of a logarithmic range"
    assert draw_baselines(space, 0) == draw_baselines(space, 0)
    assert draw_baselines(space, 0)["random"] != draw_baselines(space, 1)["random"]
    assert all(space.contains(config) for config in draw_baselines(space, 5).values())


def test_a_space_of_configurations_holds_them_where_narrowing_went_beyond_the_first_space(ledger: Ledger) -> None:
    space = ledger.stages()[0].space
    outside = {"architecture": "simple_cnn", "architecture.simple_cnn.depth": 9, "learning_rate": 5.0}
    inside = {"architecture": "lenet", "learning_rate": 0.1}
    assert all(enclose(space, [outside, inside]).contains(config) for config in (outside, inside))
    assert not enclose(space, [inside]).contains(outside)


def test_the_same_request_goes_on_and_another_one_begins_anew(ledger: Ledger) -> None:
    spec, record = plan(ledger, Request(top=2, seeds=1))
    first = begin(ledger, name_stage(spec, ledger, None), record)
    assert first.name == "final-1"
    known = find_final(ledger, plan(ledger, Request(top=2, seeds=1))[1])
    assert known is not None
    assert name_stage(spec, ledger, known).stages[0].name == "final-1"
    other, other_record = plan(ledger, Request(top=2, seeds=3))
    assert find_final(ledger, other_record) is None
    assert name_stage(other, ledger, None).stages[0].name == "final-2"


def test_a_second_opening_is_refused_and_one_that_was_cut_short_is_gone_on_with(ledger: Ledger) -> None:
    spec, record = plan(ledger, Request(top=2, seeds=1))
    final = begin(ledger, name_stage(spec, ledger, None), record)
    refuse_second_opening(ledger, final, is_allowed=False)
    final.set(openings=[{"time": "then", "number": 1, "again": False}])
    refuse_second_opening(ledger, final, is_allowed=False)
    with pytest.raises(InputError, match="opened at then"):
        refuse_second_opening(ledger, None, is_allowed=False)  # another request's opening
    final.set(openings=[{"time": "then", "number": 1, "again": False, "outcome": {}}])
    with pytest.raises(InputError, match="--again"):
        refuse_second_opening(ledger, final, is_allowed=False)
    refuse_second_opening(ledger, final, is_allowed=True)


def test_contenders_are_ranked_by_the_mean_over_their_seeds(ledger: Ledger) -> None:
    spec, record = plan(ledger, Request(top=2, seeds=2))
    final = begin(ledger, name_stage(spec, ledger, None), record)
    first, second = (one["name"] for one in record["contenders"][:2])
    values = {first: (0.9, 0.5), second: (0.8, 0.7), "random": (0.99, 0.99), "middle": (0.1, 0.1)}
    for seed in range(2):
        for one in record["contenders"]:
            number = final.start(final.space, one["config"], seed)
            value = values[one["name"]][seed]
            final.record_epoch(number, 1, {"val_accuracy": value}, value)
    ranked = [contender["name"] for contender, trials in rank_contenders(final)]
    assert ranked == [second, first, "random", "middle"], "what no search chose comes last, however good"
    assert all(len(trials) == 2 for _, trials in rank_contenders(final))
