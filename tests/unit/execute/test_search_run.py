"""A search in progress, without Ray: workers are played by the test."""

import math
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tuner.errors import InputError, RunError, SearchNotFoundError
from tuner.execute.experiment import read_sources
from tuner.execute.placement import Placement
from tuner.execute.search_run import HOPELESS, SearchRun
from tuner.execute.task import LAST, MODEL, TrialTask
from tuner.execute.views import view_records
from tuner.spec import load_text
from tuner.strategy.trial_view import Before
from tuner.track.best import rank_trials
from tuner.track.ledger import Ledger
from tuner.track.results import build_table

SPEC = """\
name: played
data: digits
space:
  architecture: {choice: {lenet: {}, simple_cnn: {depth: {int: [1, 4]}}}}
  learning_rate: {loguniform: [1e-3, 1.0]}
stages:
  coarse: {trials: 12, max_epochs: 4, halving: {reduction: 2, min_epochs: 1}}
  fine: {trials: 5, max_epochs: 6, halving: {reduction: 2, min_epochs: 2}}
"""


def measure(task: TrialTask, epoch: int) -> dict[str, float]:
    """What an epoch would measure: a curve that depends on the config alone."""
    distance = abs(math.log10(float(task.config["learning_rate"])) + 1.5)
    loss = math.nan if distance > 1.4 else 1.0 / epoch
    return {
        "epoch": epoch,
        "train_loss": loss,
        "val_loss": loss,
        "val_accuracy": (1 - distance / 3) * epoch / (epoch + 1),
    }


class KilledError(Exception):
    """The driver dies here."""


def open_run(
    folder: Path,
    *,
    changes: tuple[str, ...] = (),
    notice: Callable[[], None] = lambda: None,
    before: Before | None = None,
    say: Callable[[str], None] = lambda _: None,
    **more: Any,
) -> SearchRun:
    """The search as its ledger has it."""
    folder.mkdir(exist_ok=True)
    spec = load_text(SPEC, overrides=changes)
    ledger = Ledger.open(folder, create=True)
    provenance = {"search_id": "0", "versions": {}}
    return SearchRun(spec, ledger, folder, folder, Placement(1, 0, 1), before, provenance, say, notice, **more)


def play(run: SearchRun) -> None:
    """Train one trial after the other, from where the ledger has it."""
    while (task := run.next_task()) is not None:
        epoch = task.epochs_recorded + 1
        while run.report(task, measure(task, epoch)):
            epoch += 1
    run.finish()


def read(folder: Path) -> list[tuple[Any, ...]]:
    """All trials of a search."""
    return [
        (t.name, dict(t.config), t.seed, t.state, t.reason, [e["epoch"] for e in t.epochs], repr(t.values))
        for stage in Ledger.open(folder).stages()
        for t in stage.trials()
    ]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Any, ...]]:
    """The search that was never interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    play(open_run(folder))
    return read(folder)


def test_all_stages_are_played_to_their_end(whole: list[tuple[Any, ...]], tmp_path: Path) -> None:
    names = [name for name, *_ in whole]
    assert names == [f"coarse-{n}" for n in range(12)] + [f"fine-{n}" for n in range(5)]
    states = {state for _, _, _, state, *_ in whole}
    assert {"complete", "stopped", "diverged"} <= states
    assert "running" not in states


def test_how_a_device_was_used_is_recorded_apart_from_the_numbers(tmp_path: Path) -> None:
    run = open_run(tmp_path / "search")
    task = run.next_task()
    assert task is not None
    execution = {"device": "cpu", "precision": "float32", "channels_last": True, "workers": 1}
    run.report(task, {**measure(task, 1), "execution": execution})
    (stage,) = Ledger.open(tmp_path / "search").stages()
    (trial,) = stage.trials()
    assert trial.execution == execution
    assert set(trial.epochs[0]) == set(measure(task, 1))
    assert build_table([trial])["execution.precision"].to_pylist() == ["float32"]


def test_a_stage_says_whether_its_trials_train_on_growing_data(tmp_path: Path) -> None:
    run = open_run(tmp_path / "search", changes=("stages.coarse.fidelity=data",))
    grown: dict[str, set[bool]] = {}
    while (task := run.next_task()) is not None:
        grown.setdefault(task.stage, set()).add(task.is_growing)
        epoch = 1
        while run.report(task, measure(task, epoch)):
            epoch += 1
    assert grown == {"coarse": {True}, "fine": {False}}


def test_what_is_to_be_tried_first_is_trained_first_and_in_the_first_stage_alone(tmp_path: Path) -> None:
    changes = ("try=[{learning_rate: 0.1}, {architecture: {simple_cnn: {depth: 3}}, learning_rate: 0.2}]",)
    play(open_run(tmp_path / "search", changes=changes))
    coarse, fine = Ledger.open(tmp_path / "search").stages()
    first, second, *others = (trial.config for trial in coarse.trials())
    assert first["learning_rate"] == 0.1
    assert second == {"architecture": "simple_cnn", "architecture.simple_cnn.depth": 3, "learning_rate": 0.2}
    assert len(others) == 10
    assert load_text(coarse.attributes["spec"]).first != () == load_text(fine.attributes["spec"]).first


def test_what_lies_outside_a_finished_searchs_space_is_not_tried(tmp_path: Path) -> None:
    play(open_run(tmp_path / "search"))
    stage = Ledger.open(tmp_path / "search").stages()[0]
    before = Before(stage.space, view_records(stage.trials(), maximize=True))
    changes = ("space={from: search}", "try=[{learning_rate: 2.0}]")
    with pytest.raises(InputError, match=r"try\[0\].learning_rate: must lie in the space"):
        open_run(tmp_path / "other", changes=changes, before=before)
    assert Ledger.open(tmp_path / "other").stages() == []


def test_what_was_learnt_from_another_search_is_recorded_and_needed_no_more(tmp_path: Path) -> None:
    changes = ("warm_start=[earlier]",)
    play(open_run(tmp_path / "earlier", changes=("name=earlier",)))
    sources = read_sources(load_text(SPEC, overrides=changes), tmp_path)
    said: list[str] = []
    play(open_run(tmp_path / "whole", changes=changes, sources=sources, say=said.append))
    best = Ledger.open(tmp_path / "earlier").stages()[-1].trials()
    tried = Ledger.open(tmp_path / "whole").stages()[0].trials()[0]
    assert tried.config == max(best, key=lambda trial: (len(trial.values), trial.value)).config
    assert [line for line in said if "warm start" in line] == [
        "  warm start: 5 of 5 trials of earlier lie in the space; 5 of them are learnt from"
    ]
    run = open_run(tmp_path / "halved", changes=changes, sources=sources)
    for _ in range(4):
        task = run.next_task()
        assert task is not None
        while run.report(
            task, measure(task, task.epochs_recorded + len(run._run.search.views[task.number].values) + 1)
        ):
            pass
    play(open_run(tmp_path / "halved", changes=changes))  # the earlier search may be gone by now
    assert read(tmp_path / "halved") == read(tmp_path / "whole")


def test_a_search_to_learn_from_must_be_there(tmp_path: Path) -> None:
    open_run(tmp_path / "empty")
    for name, message in (("nowhere", "no search is called 'nowhere'"), ("empty", "has no complete trial yet")):
        with pytest.raises(SearchNotFoundError, match=message):
            read_sources(load_text(SPEC, overrides=[f"warm_start=[{name}]"]), tmp_path)


@pytest.mark.parametrize("reports", [1, 2, 7, 13, 19, 26, 31, 34])
def test_killed_after_any_report_it_ends_as_if_it_had_not_been(
    whole: list[tuple[Any, ...]], tmp_path: Path, reports: int
) -> None:
    left = reports

    def die() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            raise KilledError

    folder = tmp_path / "search"
    with pytest.raises(KilledError):
        play(open_run(folder, notice=die))
    play(open_run(folder))
    assert read(folder) == whole


@pytest.mark.parametrize("epoch", [1, 2])
def test_killed_between_an_epochs_record_and_its_verdict_the_verdict_is_made_up_for(
    whole: list[tuple[Any, ...]], tmp_path: Path, epoch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tuner.execute.stage_run import StageRun

    def die(self: StageRun, number: int, at: int) -> bool:
        if number == 5 and at == epoch:
            raise KilledError
        return judge(self, number, at)

    judge = StageRun._judge
    folder = tmp_path / "search"
    run = open_run(folder)
    with monkeypatch.context() as patch:
        patch.setattr(StageRun, "_judge", die)
        with pytest.raises(KilledError):
            play(run)
    play(open_run(folder))
    assert read(folder) == whole


def test_an_epoch_that_is_reported_again_is_recorded_once(tmp_path: Path) -> None:
    run = open_run(tmp_path / "search")
    task = run.next_task()
    assert task is not None
    goes_on = run.report(task, measure(task, 1))
    assert run.report(task, measure(task, 1)) == goes_on
    assert [len(trial.epochs) for trial in Ledger.open(tmp_path / "search").stages()[0].trials()] == [1]


def test_a_stage_waits_for_its_last_trials_before_the_next_begins(tmp_path: Path) -> None:
    run = open_run(tmp_path / "search", changes=("stages.coarse.trials=2", "stages.coarse.halving=none"))
    first, second = run.next_task(), run.next_task()
    assert first is not None
    assert second is not None
    assert not run.has_task()
    assert run.next_task() is None
    for task in (first, second):
        epoch = 1
        while run.report(task, measure(task, epoch) | {"train_loss": 1.0, "val_loss": 1.0}):
            epoch += 1
    assert run.has_task()
    following = run.next_task()
    assert following is not None
    assert following.stage == "fine"


def test_a_limit_stops_running_trials_and_the_search(tmp_path: Path) -> None:
    now = [0.0]
    run = open_run(tmp_path / "search", changes=("limits.time=10s",), clock=lambda: now[0])
    task = run.next_task()
    assert task is not None
    run.report(task, measure(task, 1))
    now[0] = 9.9
    assert not run.should_stop
    now[0] = 10.0
    assert run.should_stop
    run.finish()
    trial = Ledger.open(tmp_path / "search").stages()[0].trials()[0]
    assert trial.state == "stopped"
    assert "time limit of 10 s" in trial.reason
    assert run.next_task() is None


def test_time_counts_over_all_sittings(tmp_path: Path) -> None:
    now = [100.0]
    run = open_run(tmp_path / "search", clock=lambda: now[0])
    run.next_task()
    now[0] = 104.0
    run.interrupt()
    run.finish()
    now[0] = 500.0
    run = open_run(tmp_path / "search", clock=lambda: now[0])
    assert run.elapsed_s == 4.0
    run.next_task()
    now[0] = 501.0
    assert run.elapsed_s == 5.0


def test_when_the_first_trials_all_fail_the_search_gives_up_and_shows_why(tmp_path: Path) -> None:
    run = open_run(tmp_path / "search")
    for _ in range(HOPELESS):
        task = run.next_task()
        assert task is not None
        assert run.error is None
        run.fail(task, "ZeroDivisionError: division by zero", "Traceback ...")
    assert isinstance(run.error, RunError)
    assert "ZeroDivisionError" in str(run.error)
    assert run.should_stop
    assert Ledger.open(tmp_path / "search").stages()[0].trials()[0].error == "Traceback ..."


def test_one_failed_trial_does_not_end_a_search(tmp_path: Path) -> None:
    run = open_run(tmp_path / "search")
    for _ in range(HOPELESS):
        task = run.next_task()
        assert task is not None
        run.report(task, measure(task, 1))
        run.fail(task, "bad luck", "")
    assert run.error is None


def test_only_the_best_trials_keep_their_weights_and_none_its_training_state(tmp_path: Path) -> None:
    run = open_run(tmp_path / "search", changes=("stages.coarse.halving=none",))
    while (task := run.next_task()) is not None and task.stage == "coarse":
        task.folder.mkdir(parents=True)
        for name in (LAST, MODEL):
            (task.folder / name).write_text("")
        epoch = 1
        while run.report(task, measure(task, epoch)):
            epoch += 1
    stage = Ledger.open(tmp_path / "search").stages()[0]
    kept = sorted((tmp_path / "search/checkpoints").rglob("*.pt"))
    assert {path.name for path in kept} == {MODEL}
    best = rank_trials(stage.trials(), maximize=True)[:5]
    assert {path.parent.name for path in kept} == {trial.name for trial in best}


def test_whoever_draws_never_waits_for_whoever_decides(tmp_path: Path) -> None:
    run = open_run(tmp_path / "search")
    seen: list[str] = []
    with run._lock:
        watcher = threading.Thread(target=lambda: seen.append(run.status().stage))
        watcher.start()
        watcher.join(timeout=10)
        assert seen == ["coarse"]


def test_a_search_that_a_limit_ended_goes_on_with_a_larger_one(tmp_path: Path) -> None:
    now = [0.0]
    run = open_run(tmp_path / "search", changes=("limits.time=10s",), clock=lambda: now[0])
    run.next_task()
    now[0] = 11.0
    assert run.should_stop
    run.finish()
    assert "time limit" in Ledger.open(tmp_path / "search").stages()[0].attributes["ended"]
    play(open_run(tmp_path / "search", changes=("limits.time=1h",)))
    assert [stage.attributes["ended"] for stage in Ledger.open(tmp_path / "search").stages()] == ["complete"] * 2
