"""More of a search, without Ray: what was trained stays, and the rest is as if it had been asked for."""

from pathlib import Path

import pytest
from test_search_run import RANDOM, measure, open_run, play, read, read_ends

from tuner.errors import InputError, RunError, SearchNotFoundError, SpecError
from tuner.execute.asked import read_asked
from tuner.execute.experiment import is_complete
from tuner.execute.extend import More, extend_search, retry_failed
from tuner.execute.failures import describe_failures
from tuner.execute.placement import Placement
from tuner.execute.search_run import SearchRun
from tuner.spec.search import SearchSpec
from tuner.track.ledger import Ledger, TrialRecord

NAMED = ("name=search",)  # as its folder


def go_on(folder: Path, spec: SearchSpec | None = None) -> SearchRun:
    """The search as its ledger asks for it."""
    ledger = Ledger.open(folder)
    provenance = {"search_id": "0", "versions": {}}
    spec = spec or read_asked(folder)
    return SearchRun(spec, ledger, folder, folder, Placement(1, 0, 1), None, provenance, lambda _: None, lambda: None)


def extend(folder: Path, **more: object) -> SearchSpec:
    """Extend by what is given alone."""
    given: dict[str, object] = {"trials": None, "max_epochs": None, "time_s": None, "stage_name": None}
    return extend_search(folder, **(given | more))  # type: ignore[arg-type]


def add(number: float) -> More:
    return More(number, is_added=True)


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    """A search of 12 and 5 trials that is complete."""
    play(open_run(tmp_path / "search", changes=(*NAMED, *RANDOM)))
    return tmp_path / "search"


def test_more_trials_of_the_last_stage_come_after_those_that_are_there(finished: Path) -> None:
    before = read(finished)
    spec = extend(finished, trials=add(3))
    assert not is_complete(spec, Ledger.open(finished))
    play(go_on(finished))
    trials = read(finished)
    assert trials[: len(before)] == before
    assert [name for name, *_ in trials[len(before) :]] == ["fine-5", "fine-6", "fine-7"]
    assert read_ends(finished) == {"coarse": "complete", "fine": "complete"}
    assert is_complete(read_asked(finished), Ledger.open(finished))


def test_more_trials_are_those_of_a_search_that_had_them_from_the_start(tmp_path: Path) -> None:
    changes = (*NAMED, *RANDOM, "stages.fine.halving=none")
    play(open_run(tmp_path / "search", changes=changes))
    extend(tmp_path / "search", trials=More(7, is_added=False))
    play(go_on(tmp_path / "search"))
    play(open_run(tmp_path / "whole", changes=(*changes, "stages.fine.trials=7")))
    assert read(tmp_path / "search") == read(tmp_path / "whole")


def test_longer_trials_are_a_further_stage_that_tries_the_best_first(finished: Path) -> None:
    before = read(finished)
    extend(finished, max_epochs=18)
    play(go_on(finished))
    trials = read(finished)
    assert trials[: len(before)] == before, "complete trials stay as they are"
    *_, fine, longer = Ledger.open(finished).stages()
    assert (longer.name, len(longer.trials())) == ("fine_to_18", 2)
    best = max(fine.trials(), key=lambda trial: trial.value)
    assert longer.trials()[0].config == best.config
    assert max(len(trial.epochs) for trial in longer.trials()) == 18


def test_more_time_lets_a_search_go_on_that_ran_out_of_it(tmp_path: Path) -> None:
    now = [0.0]
    run = open_run(tmp_path / "search", changes=(*NAMED, "limits.time=10s"), clock=lambda: now[0])
    run.next_task()
    now[0] = 11.0
    assert run.should_stop
    run.finish()
    spec = extend(tmp_path / "search", time_s=add(3600))
    assert spec.limits.time_s == 3610
    play(go_on(tmp_path / "search"))
    assert read_ends(tmp_path / "search") == {"coarse": "complete", "fine": "complete"}


def test_more_trials_raise_the_limit_of_trials_too(tmp_path: Path) -> None:
    folder = tmp_path / "search"
    play(open_run(folder, changes=(*NAMED, *RANDOM, "limits.trials=14")))
    extend(folder, trials=add(4))
    play(go_on(folder))
    assert len(read(folder)) == 18
    assert read_asked(folder).limits.trials == 18


@pytest.mark.parametrize("changes", [("stages.fine.trials=100",), ("stages.fine.trials=150", "limits.trials=112")])
def test_a_stage_that_more_trials_make_large_is_not_audited_by_those_that_it_had(
    tmp_path: Path, changes: tuple[str, ...]
) -> None:
    large = ("stages.fine.max_epochs=3", "stages.fine.halving={rule: rank}")
    folder = tmp_path / "search"
    play(open_run(folder, changes=(*NAMED, *RANDOM, *large, *changes)))
    extend(folder, trials=add(50))
    play(go_on(folder))
    trials = [trial for trial in read(folder) if trial[0].startswith("fine")]
    assert len(trials) >= 150
    assert Ledger.open(folder).stages()[-1].attributes["audit"]["num_audited"] == 0
    assert not any("audited" in reason for *_, reason, _, _ in trials)


def test_longer_trials_raise_the_limit_of_trials_too(tmp_path: Path) -> None:
    folder = tmp_path / "search"
    play(open_run(folder, changes=(*NAMED, *RANDOM, "limits.trials=17")))
    extend(folder, max_epochs=18)
    play(go_on(folder))
    assert read_ends(folder) == {"coarse": "complete", "fine": "complete", "fine_to_18": "complete"}
    assert len(read(folder)) == 19


def test_failed_trials_are_tried_again_beyond_the_limit_of_trials(tmp_path: Path) -> None:
    folder = tmp_path / "search"
    play_failing(open_run(folder, changes=(*WHOLE, "limits.trials=14")), {"fine-1"})
    retry_failed(folder, [])
    play(go_on(folder))
    assert [trial.again for trial in Ledger.open(folder).stages()[-1].trials()] == [None, None, 1]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"trials": More(5, is_added=False)}, "it is 5 already"),
        ({"trials": add(2), "stage_name": "coarse"}, "fine has begun from it; able is: fine"),
        ({"trials": add(2), "stage_name": "finest"}, "there is none of that name"),
        ({"max_epochs": 6}, "train 6 epochs, found 6"),
        ({"time_s": add(60)}, "has no limit of time"),
    ],
)
def test_what_is_not_more_is_refused_and_nothing_changes(finished: Path, more: dict[str, object], said: str) -> None:
    before = (finished / "ledger.journal").read_bytes()
    with pytest.raises(InputError, match=said):
        extend(finished, **more)
    assert (finished / "ledger.journal").read_bytes() == before


def test_what_a_file_could_not_ask_for_an_extension_cannot_either(finished: Path) -> None:
    with pytest.raises(SpecError, match=r"stages\.fine\.trials"):
        extend(finished, trials=add(9_999_999))


@pytest.mark.parametrize(
    ("text", "option", "value"),
    [("+50", "--trials", add(50)), ("7", "--trials", More(7, is_added=False)), ("+1h30m", "--time", add(5400))],
)
def test_more_is_read_as_it_is_written(text: str, option: str, value: More) -> None:
    assert More.read(text, option) == value


@pytest.mark.parametrize(
    ("text", "option"), [("+0", "--trials"), ("-3", "--trials"), ("ten", "--trials"), ("+", "--time"), ("2", "--time")]
)
def test_what_is_no_more_is_refused_with_an_example(text: str, option: str) -> None:
    with pytest.raises(InputError, match=r"\+"):
        More.read(text, option)


def test_a_folder_that_was_put_aside_is_not_gone_on_with_under_its_new_name(finished: Path) -> None:
    aside = finished.rename(finished.with_name("search.before-1"))
    with pytest.raises(InputError, match="has the search 'search'; rename it"):
        read_asked(aside)
    with pytest.raises(SearchNotFoundError):
        read_asked(finished)


def test_a_search_keeps_its_name_and_its_folder(finished: Path) -> None:
    with pytest.raises(InputError, match="a search that was begun keeps its name, 'search', found 'other'"):
        read_asked(finished, ["name=other"])


def test_what_is_no_search_gets_no_folder(tmp_path: Path) -> None:
    for go_on_with in (lambda folder: extend(folder, trials=add(3)), lambda folder: retry_failed(folder, [])):
        with pytest.raises(SearchNotFoundError):
            go_on_with(tmp_path / "results" / "saerch")
    assert not (tmp_path / "results").exists()


def play_failing(run: SearchRun, bad: set[str]) -> None:
    """Train one trial after the other; some fail after their first epoch."""
    while (task := run.next_task()) is not None:
        epoch = task.epochs_recorded + 1
        while run.report(task, measure(task, epoch)):
            if f"{task.stage}-{task.number}" in bad:
                run.fail(task, f"OSError: no space left for {task.number} of 0x7f{task.number}", "Traceback", "node7")
                break
            epoch += 1
        if run.error is not None:
            return
    run.finish()


WHOLE = (*NAMED, *RANDOM, "stages.coarse.halving=none", "stages.fine.halving=none")


def test_failed_trials_are_tried_again_with_their_configuration_and_seed(tmp_path: Path) -> None:
    folder = tmp_path / "search"
    play_failing(open_run(folder, changes=WHOLE), {"fine-1", "fine-3"})
    before = read(folder)
    _, names = retry_failed(folder, [])
    assert names == ["fine-1", "fine-3"]
    play(go_on(folder))
    assert read(folder)[: len(before)] == before, "what failed stays on the record"
    trials = Ledger.open(folder).stages()[-1].trials()
    assert [(trial.number, trial.again) for trial in trials[5:]] == [(5, 1), (6, 3)]
    for again in trials[5:]:
        assert again.again is not None
        failed = trials[again.again]
        assert (again.config, again.seed) == (failed.config, failed.seed)
        assert again.state in {"complete", "diverged"}
    with pytest.raises(InputError, match="has no failed trial"):
        retry_failed(folder, [])


def test_a_retry_that_is_killed_goes_on_and_tries_nothing_twice(tmp_path: Path) -> None:
    folder = tmp_path / "search"
    play_failing(open_run(folder, changes=WHOLE), {"fine-1", "fine-3"})
    retry_failed(folder, [3])
    run = go_on(folder)
    task = run.next_task()
    assert task is not None
    run.report(task, measure(task, 1))
    retry = go_on(folder)
    play(retry)
    trials = Ledger.open(folder).stages()[-1].trials()
    assert [trial.again for trial in trials[5:]] == [3]
    with pytest.raises(InputError, match="has no failed trial 3; failed and not tried again are: 1"):
        retry_failed(folder, [3])


def test_the_grid_gets_room_for_what_is_tried_again(tmp_path: Path) -> None:
    folder = tmp_path / "search"
    space = "space={architecture: lenet, learning_rate: {choice: [0.01, 0.02, 0.05, 0.1]}}"
    changes = (*NAMED, space, "stages={only: {trials: 9, max_epochs: 2, sampler: grid, halving: none}}")
    play_failing(open_run(folder, changes=changes), {"only-2"})
    retry_failed(folder, [])
    play(go_on(folder))
    trials = Ledger.open(folder).stages()[-1].trials()
    assert [trial.again for trial in trials] == [None] * 4 + [2]


def test_more_failures_than_may_be_end_the_search_with_what_they_have_in_common(tmp_path: Path) -> None:
    folder = tmp_path / "search"
    run = open_run(folder, changes=(*WHOLE, "limits.failures=2"))
    play_failing(run, {"coarse-4", "coarse-6", "fine-0", "fine-1"})
    assert isinstance(run.error, RunError)
    for words in (
        "3 trials failed",
        "allows 2",
        "3 of 3 alike",
        "host node7",
        "Traceback",
        "tuner retry search --failed",
    ):
        assert words in str(run.error)
    assert len(read(folder)) == 13, "the third failure was the first trial of fine"
    retry_failed(folder, [])
    run = go_on(folder)
    play(run)
    assert run.error is None


def make_record(number: int, state: str, **more: object) -> TrialRecord:
    """A trial of which only some things matter."""
    given = {
        "config": {"width": 8, "l2": 0.1},
        "reason": "failed: E",
        "epochs": ({"epoch": 1},),
        "execution": {},
    } | more
    return TrialRecord(
        stage="only",
        number=number,
        seed=0,
        state=state,
        values=(0.5,),
        started=None,
        ended=None,
        **given,  # type: ignore[arg-type]
    )


def test_what_failures_have_in_common_is_what_the_others_have_not() -> None:
    sound = [make_record(0, "complete", config={"width": 8, "family": "lenet", "l2": 0.1})]
    failed = [
        make_record(1, "failed", config={"width": 64, "family": "vgg", "l2": 0.01}, reason="failed: no 1 GB"),
        make_record(2, "failed", config={"width": 48, "family": "vgg", "l2": 0.2}, reason="failed: no 2 GB"),
    ]
    text = describe_failures(failed, sound)
    assert "2 of 2 alike, such as only-2: failed: no 2 GB" in text
    assert "width of 48 or more, and the others 8 or less" in text
    assert "family vgg, and none of the 1 others" in text
    assert "l2" not in text


def test_a_single_failure_has_nothing_in_common() -> None:
    failed = make_record(1, "failed", config={"width": 64, "l2": 0.3})
    assert describe_failures([failed], [make_record(0, "complete")]) == "1 of 1 alike, such as only-1: failed: E"
