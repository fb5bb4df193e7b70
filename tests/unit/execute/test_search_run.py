"""A search in progress, without Ray: workers are played by the test."""

import contextlib
import json
import math
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tuner.cli import cli
from tuner.errors import InputError, RunError, SearchNotFoundError
from tuner.execute import replay as replay_module
from tuner.execute.experiment import read_before, read_sources
from tuner.execute.finalize import Request, plan
from tuner.execute.notify import Event
from tuner.execute.placement import Placement
from tuner.execute.refine import refine_search
from tuner.execute.search_run import HOPELESS, SearchRun
from tuner.execute.task import LAST, MODEL, TrialTask
from tuner.execute.views import view_records
from tuner.spec import load_text
from tuner.spec.search import Objective, Stage
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

RANDOM = ("stages.coarse.sampler=random", "stages.fine.sampler=random")
WAITING = (*RANDOM, "stages.coarse.halving.type=promotion", "stages.fine.halving.type=promotion")


def measure(task: TrialTask, epoch: int) -> dict[str, float]:
    """What an epoch would measure: a curve that depends on the config alone."""
    distance = abs(math.log10(float(task.config["learning_rate"])) + 1.5)
    loss = math.nan if distance > 1.4 else 1.0 / epoch
    return {
        "epoch": epoch,
        "train_loss": loss,
        "val_loss": loss,
        "val_accuracy": (1 - distance / 3) * epoch / (epoch + 1),
        "timestamp": time.time(),
        "parameters": 100 * int(task.config.get("architecture.simple_cnn.depth", 5)),
    }


class KilledError(Exception):
    """The driver dies here."""


def open_run(
    folder: Path,
    *,
    changes: tuple[str, ...] = (),
    notice: Callable[[], None] = lambda: None,
    placement: Placement | None = None,
    before: Before | None = None,
    say: Callable[[str], None] = lambda _: None,
    known: dict[str, Any] | None = None,
    **more: Any,
) -> SearchRun:
    """The search as its ledger has it."""
    folder.mkdir(exist_ok=True)
    spec = load_text(SPEC, overrides=changes)
    ledger = Ledger.open(folder, create=True)
    provenance = {"search_id": "0", "versions": {}, **(known or {})}
    placement = placement or Placement(1, 0, 1)
    return SearchRun(spec, ledger, folder, folder, placement, before, provenance, say, notice, **more)


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


def test_what_a_trials_curves_look_like_is_recorded_when_it_ends(tmp_path: Path) -> None:
    folder = tmp_path / "search"
    folder.mkdir()
    spec = load_text(SPEC, overrides=("stages.coarse.halving=none", *RANDOM))
    provenance = {"search_id": "0", "versions": {}, "class_sizes": [10] * 10}

    def open_again() -> SearchRun:
        ledger = Ledger.open(folder, create=True)
        return SearchRun(
            spec, ledger, folder, folder, Placement(1, 0, 1), None, provenance, lambda _: None, lambda: None
        )

    run = open_again()
    for killed_after in (2, 4):  # what was recorded before counts too
        task = run.next_task()
        assert task is not None
        for epoch in range(task.epochs_recorded + 1, killed_after + 1):
            run.report(task, {**measure(task, epoch), "train_accuracy": 0.1, "val_accuracy": 0.1, "train_loss": 2.3})
        run = open_again()
    play(run)
    first, *others = Ledger.open(folder).stages()[0].trials()
    assert (first.state, first.diagnosis["kind"]) == ("complete", "dead")
    assert {trial.diagnosis["kind"] for trial in others if trial.state == "diverged"} == {"diverged"}
    assert build_table([first])["diagnosis"].to_pylist() == [first.diagnosis["kind"]]


@pytest.mark.parametrize(("weights", "kind"), [("balanced", "dead"), ("none", "learning rate too high")])
def test_what_a_guess_has_depends_on_the_weights_of_the_classes(weights: str, kind: str, tmp_path: Path) -> None:
    changes = (f"space.class_weights={weights}", "stages.coarse.halving=none", *RANDOM)
    run = open_run(tmp_path / "search", changes=changes, known={"class_sizes": [91] + [1] * 9})
    task = run.next_task()
    assert task is not None
    constant = {"train_loss": math.log(10), "train_accuracy": 0.91, "val_accuracy": 0.91}
    epoch = 1
    while run.report(task, {**measure(task, epoch), **constant}):
        epoch += 1
    assert Ledger.open(tmp_path / "search").stages()[0].trials()[0].diagnosis["kind"] == kind


def test_what_the_curves_of_a_stage_show_is_said_at_its_end_and_changes_no_budget(tmp_path: Path) -> None:
    said: list[str] = []
    changes = ("stages.coarse.halving=none", "stages.coarse.max_epochs=6", "stages.fine.max_epochs=6", *RANDOM)
    run = open_run(tmp_path / "search", changes=changes, say=said.append, known={"class_sizes": [10] * 10})
    lengths: dict[str, int] = {}
    while (task := run.next_task()) is not None:
        lengths[task.stage] = task.max_epochs
        epoch, rising = 1, {"train_loss": 2.0, "val_loss": 2.0, "train_accuracy": 0.2}
        while run.report(task, {**measure(task, epoch), **rising, "val_accuracy": 0.1 + 0.05 * epoch}):
            epoch, rising["train_loss"] = epoch + 1, rising["train_loss"] * 0.8
    assert lengths == {"coarse": 6, "fine": 6}
    advice = "  coarse, learning curves: 12 of 12 trials that came to the end: still improving; more epochs"
    kept = (
        "  max_epochs: 6, as asked, although 12 of the 12 trials that came to the end were still improving at as many"
    )
    assert said.index(advice) < said.index(kept)


def test_a_stage_says_whether_its_trials_train_on_growing_data(tmp_path: Path) -> None:
    run = open_run(tmp_path / "search", changes=("stages.coarse.fidelity=data",))
    grown: dict[str, set[bool]] = {}
    while (task := run.next_task()) is not None:
        grown.setdefault(task.stage, set()).add(task.is_growing)
        epoch = task.epochs_recorded + 1
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
    before = Before(stage.space, view_records(stage.trials(), Objective(), maximize=True))
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


def test_what_a_space_was_narrowed_by_is_recorded_and_needed_no_more(tmp_path: Path) -> None:
    changes = ("space={from: earlier}", "stages.coarse.narrow={keep: 0.5}")
    play(open_run(tmp_path / "earlier", changes=("name=earlier",)))
    before = read_before(load_text(SPEC, overrides=changes), tmp_path)
    whole = open_run(tmp_path / "whole", changes=changes, before=before)
    num_carried = sum(trial.is_carried for trial in whole._run.search.history)
    assert num_carried > 2
    play(whole)
    run = open_run(tmp_path / "halved", changes=changes, before=before)
    for _ in range(4):
        task = run.next_task()
        assert task is not None
        epoch = task.epochs_recorded + 1
        while run.report(task, measure(task, epoch)):
            epoch += 1
    again = open_run(tmp_path / "halved", changes=changes)  # the earlier search may be gone by now
    assert sum(trial.is_carried for trial in again._run.search.history) == num_carried
    play(again)
    assert read(tmp_path / "halved") == read(tmp_path / "whole")


@pytest.mark.parametrize(
    ("other", "is_foreign"),
    [((), False), (("objective=val_loss",), True), (("data={name: digits, validation: 0.3}",), True)],
)
def test_values_of_another_metric_or_other_data_are_not_taken_for_ones_own(
    tmp_path: Path, other: tuple[str, ...], *, is_foreign: bool
) -> None:
    play(open_run(tmp_path / "earlier", changes=("name=earlier",)))
    changes = ("space={from: earlier}", "stages.coarse.narrow={keep: 0.5}", *other)
    before = read_before(load_text(SPEC, overrides=changes), tmp_path)
    run = open_run(tmp_path / "next", changes=changes, before=before)
    assert {trial.is_foreign for trial in run._run.search.history if trial.is_carried} == {is_foreign}
    again = open_run(tmp_path / "next", changes=changes)
    assert {trial.is_foreign for trial in again._run.search.history if trial.is_carried} == {is_foreign}


def test_a_search_to_learn_from_must_be_there(tmp_path: Path) -> None:
    open_run(tmp_path / "empty")
    for name, message in (("nowhere", "no search is called 'nowhere'"), ("empty", "has no complete trial yet")):
        with pytest.raises(SearchNotFoundError, match=message):
            read_sources(load_text(SPEC, overrides=[f"warm_start=[{name}]"]), tmp_path)


def test_a_search_that_has_ended_is_gone_on_from_even_if_no_trial_came_to_the_last_epoch(tmp_path: Path) -> None:
    only = "stages={only: {trials: 12, max_epochs: auto, sampler: random}}"
    run = open_run(tmp_path / "short", changes=("name=short", only))
    follow = {
        "warm start": lambda: read_sources(load_text(SPEC, overrides=["warm_start=[short]"]), tmp_path),
        "space": lambda: read_before(load_text(SPEC, overrides=["space={from: short}"]), tmp_path),
        "refine": lambda: refine_search(tmp_path / "short", "next"),
        "finalize": lambda: plan(Ledger.open(tmp_path / "short"), Request()),
    }
    for _ in range(11):
        task = run.next_task()
        assert task is not None
        run.report(task, measure(task, 1) | {"train_loss": 1.0, "val_loss": 1.0})
    for attempt in follow.values():
        with pytest.raises(SearchNotFoundError, match=r"let it go on|finish it first"):
            attempt()
    play(open_run(tmp_path / "short", changes=("name=short", only)))
    assert read_ends(tmp_path / "short") == {"only": "complete"}
    assert "complete" not in {state for _, _, _, state, *_ in read(tmp_path / "short")}
    for attempt in follow.values():
        assert attempt()


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


def test_killed_with_several_objectives_it_ends_as_if_it_had_not_been(tmp_path: Path) -> None:
    changes = ("objective=[val_accuracy, parameters]", "stages.fine.sampler=nsga2", "stages.fine.trials=20")
    notices = 0

    def die() -> None:
        nonlocal notices
        notices += 1
        if notices % 17 == 0:
            raise KilledError

    play(open_run(tmp_path / "whole", changes=changes))
    is_over = False
    while not is_over:
        with contextlib.suppress(KilledError):
            play(open_run(tmp_path / "search", changes=changes, notice=die))
            is_over = True
    assert notices > 40
    assert read(tmp_path / "search") == read(tmp_path / "whole")
    assert any("spared" in reason or state == "stopped" for _, _, _, state, reason, *_ in read(tmp_path / "whole"))


@pytest.mark.parametrize("epoch", [1, 2])
def test_killed_between_an_epochs_record_and_its_verdict_the_verdict_is_made_up_for(
    whole: list[tuple[Any, ...]], tmp_path: Path, epoch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tuner.execute.stage_run import StageRun

    def die(self: StageRun, number: int, at: int) -> bool:
        if number == long and at == epoch:
            raise KilledError
        return judge(self, number, at)

    long = next(n for n, (*_, epochs, _) in enumerate(whole[:12]) if n > 0 and len(epochs) >= epoch)
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


def test_whoever_listens_hears_of_failures_and_of_each_value_above_all_before(tmp_path: Path) -> None:
    heard: list[Event] = []
    run = open_run(tmp_path / "search", tell=heard.append)
    failing = run.next_task()
    assert failing is not None
    run.fail(failing, "bad luck", "Traceback ...")
    play(run)
    (failure,) = [event for event in heard if event.kind == "failure"]
    assert (failure.stage, failure.trial, failure.reason, failure.num_failed) == ("coarse", 0, "bad luck", 1)
    bests = [event for event in heard if event.kind == "best"]
    values = [event.value for event in bests]
    assert len(values) > 2
    assert values == sorted(set(values), key=float)
    trials = [trial for stage in Ledger.open(tmp_path / "search").stages() for trial in stage.trials()]
    (best,) = rank_trials(trials, maximize=True)[:1]
    assert (bests[-1].stage, bests[-1].trial, bests[-1].value) == (best.stage, best.number, best.value)
    assert bests[-1].config == best.config

    heard.clear()
    play(open_run(tmp_path / "search", changes=("stages.last={trials: 1, max_epochs: 1}",), tell=heard.append))
    assert not heard, "what was better before this sitting is known"


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


def play_together(run: SearchRun, workers: int) -> None:
    """Train several trials at once, an epoch of each in turn."""
    training: list[tuple[TrialTask, int]] = []
    while not run.should_stop and not run.is_finished:
        while len(training) < workers and (task := run.next_task()) is not None:
            training.append((task, task.epochs_recorded + 1))
        task, epoch = training.pop(0)
        if run.report(task, measure(task, epoch)):
            training.append((task, epoch + 1))
    run.finish()


def read_ends(folder: Path) -> dict[str, str]:
    """Why each stage that has begun ended."""
    return {stage.name: stage.attributes["ended"] for stage in Ledger.open(folder).stages()}


@pytest.mark.parametrize("workers", [1, 2, 3])
@pytest.mark.parametrize("most", [1, 9, 25])
def test_a_limit_of_epochs_is_never_passed(tmp_path: Path, workers: int, most: int) -> None:
    run = open_run(tmp_path / "search", changes=(*RANDOM, f"limits.epochs={most}"))
    play_together(run, workers)
    trials = read(tmp_path / "search")
    assert sum(len(epochs) for *_, epochs, _ in trials) == most
    assert run.stop_reason == f"the limit of {most} epochs was reached"
    assert list(read_ends(tmp_path / "search").values())[-1] == run.stop_reason
    assert all(state != "running" for _, _, _, state, *_ in trials)
    assert sum(reason == run.stop_reason for _, _, _, _, reason, *_ in trials) <= workers


def test_trials_that_were_interrupted_together_go_on_within_the_limit_of_epochs(tmp_path: Path) -> None:
    changes = (*RANDOM, "stages.coarse.halving=none")
    run = open_run(tmp_path / "search", changes=changes)
    tasks = [run.next_task() for _ in range(3)]
    for epoch in (1, 2):
        for task in tasks:
            assert task is not None
            assert run.report(task, measure(task, epoch) | {"train_loss": 1.0, "val_loss": 1.0})
    run = open_run(tmp_path / "search", changes=(*changes, "limits.epochs=8"))
    assert [run.next_task() is not None for _ in range(3)] == [True, True, False]


def test_a_time_limit_in_a_later_stage_leaves_the_one_before_it_complete(tmp_path: Path) -> None:
    now, folder = [0.0], tmp_path / "search"
    for sitting in range(2):
        run = open_run(folder, changes=(*RANDOM, "limits.time=10s"), clock=lambda: now[0])
        while (task := run.next_task()) is not None:
            epoch = 1
            now[0] += 10.0 * (task.stage == "fine")
            while run.report(task, measure(task, epoch)):
                epoch += 1
        run.finish()
        assert read_ends(folder) == {"coarse": "complete", "fine": "the time limit of 10 s was reached"}, sitting


def test_when_an_epoch_under_way_fails_another_takes_its_place_within_the_limit(tmp_path: Path) -> None:
    run = open_run(tmp_path / "search", changes=("limits.epochs=3", "stages.coarse.halving=none"))
    first, second = run.next_task(), run.next_task()
    assert first is not None
    assert second is not None
    sound = {"train_loss": 1.0, "val_loss": 1.0}
    assert run.report(first, measure(first, 1) | sound)
    assert not run.report(second, measure(second, 1) | sound), "the last epoch is under way"
    assert not run.has_task()
    assert not run.should_stop
    run.fail(first, "bad luck", "")
    third = run.next_task()
    assert third is not None
    assert not run.report(third, measure(third, 1) | sound)
    assert run.should_stop


def test_a_limit_of_trials_lets_those_that_began_end(tmp_path: Path) -> None:
    run = open_run(tmp_path / "search", changes=("limits.trials=14",))
    play_together(run, 2)
    trials = read(tmp_path / "search")
    assert run.stop_reason == "the limit of 14 trials was reached"
    assert [name for name, *_ in trials] == [*(f"coarse-{i}" for i in range(12)), "fine-0", "fine-1"]
    assert all(reason and "limit" not in reason for _, _, _, _, reason, *_ in trials)


def test_a_target_ends_the_search_with_the_epoch_that_reaches_it(tmp_path: Path) -> None:
    run = open_run(tmp_path / "search", changes=("limits.target=0.4",))
    play_together(run, 2)
    values = [
        value for stage in Ledger.open(tmp_path / "search").stages() for t in stage.trials() for value in t.values
    ]
    assert sum(value >= 0.4 for value in values) == 1
    assert run.stop_reason == "the target of 0.4 was reached"


def test_a_target_of_a_loss_is_below_it(tmp_path: Path) -> None:
    run = open_run(tmp_path / "search", changes=("objective=val_loss", "limits.target=0.5"))
    play(run)
    (stage,) = Ledger.open(tmp_path / "search").stages()
    values = [value for trial in stage.trials() for value in trial.values if math.isfinite(value)]
    assert [value for value in values if value <= 0.5] == [0.5]
    assert run.stop_reason == "the target of 0.5 was reached"


def test_trials_without_improvement_end_the_search(tmp_path: Path) -> None:
    run = open_run(tmp_path / "search", changes=("limits.no_improvement=3",))
    play(run)
    stages = Ledger.open(tmp_path / "search").stages()
    values = [-math.inf if math.isnan(t.value) else t.value for stage in stages for t in stage.trials()]
    assert run.stop_reason == "no improvement by the last 3 trials that ended"
    assert max(values[-3:]) <= max(values[:-3])


def test_gpu_hours_are_counted_with_what_the_trials_held_in_each_sitting(tmp_path: Path) -> None:
    def train(run: SearchRun) -> None:
        """Epochs of half an hour."""
        while (task := run.next_task()) is not None:
            epoch = task.epochs_recorded + 1
            while run.report(task, measure(task, epoch) | {"seconds": 1800.0}):
                epoch += 1
        run.finish()

    folder = tmp_path / "search"
    run = open_run(folder, changes=("limits.gpu_hours=2.5",), placement=Placement(1, 0.25, 1))
    train(run)
    assert run.stop_reason == "the limit of 2.5 GPU hours was reached"
    assert sum(len(epochs) for *_, epochs, _ in read(folder)) == 20
    run = open_run(folder, changes=("limits.gpu_hours=5",), placement=Placement(1, 1, 1, workers=2))
    train(run)
    assert run.stop_reason == "the limit of 5 GPU hours was reached"
    assert sum(len(epochs) for *_, epochs, _ in read(folder)) == 23, "two and a half hours more, an hour an epoch"


@pytest.mark.parametrize("limit", ["limits.gpu_hours=3.5", "limits.time=7s"])
def test_of_each_trial_at_once_no_more_than_the_epoch_under_way_is_lost_at_a_limit(tmp_path: Path, limit: str) -> None:
    now, folder = [0.0], tmp_path / "search"
    run = open_run(folder, changes=(*RANDOM, limit), placement=Placement(1, 1, 3), clock=lambda: now[0])
    training = [run.next_task() for _ in range(3)]
    epochs = [1, 1, 1]
    for turn in range(60):
        now[0] += 1.0
        worker, task = turn % 3, training[turn % 3]
        if task is None or not run.report(task, measure(task, epochs[worker]) | {"seconds": 1800.0}):
            training[worker], epochs[worker] = run.next_task(), 0
        epochs[worker] += 1
    run.finish()
    trials = read(folder)
    assert sum(len(epochs) for *_, epochs, _ in trials) == 7
    assert {state for _, _, _, state, *_ in trials} <= {"stopped", "complete", "diverged"}
    assert training == [None] * 3


LIMITED = ["limits.epochs=17", "limits.trials=12", "limits.trials=14", "limits.target=0.7", "limits.no_improvement=3"]


@pytest.mark.parametrize("limit", LIMITED)
@pytest.mark.parametrize("reports", [1, 5, 16, 17, 25])
@pytest.mark.parametrize("sampling", [RANDOM, WAITING])
def test_killed_after_any_report_a_limit_ends_it_as_if_it_had_not_been(
    tmp_path: Path, sampling: tuple[str, ...], limit: str, reports: int
) -> None:
    left = reports

    def die() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            raise KilledError

    whole = open_run(tmp_path / "whole", changes=(*sampling, limit))
    play(whole)
    killed = open_run(tmp_path / "killed", changes=(*sampling, limit), notice=die)
    try:
        play(killed)
    except KilledError:
        killed = open_run(tmp_path / "killed", changes=(*sampling, limit))
        play(killed)
    assert whole.stop_reason == killed.stop_reason != ""
    assert read(tmp_path / "killed") == read(tmp_path / "whole")
    assert read_ends(tmp_path / "killed") == read_ends(tmp_path / "whole")


def test_a_trial_that_was_put_back_trains_the_last_epoch_that_a_limit_leaves(tmp_path: Path) -> None:
    changes = ("limits.epochs=8", "stages.coarse={trials: 2, max_epochs: 9, sampler: random}")
    run = open_run(tmp_path / "search", changes=changes)
    lost, other = run.next_task(), run.next_task()
    assert lost is not None
    assert other is not None
    sound = {"train_loss": 1.0, "val_loss": 1.0}
    for epoch in (1, 2, 3):
        assert all(run.report(task, measure(task, epoch) | sound) for task in (lost, other))
    assert not run.report(other, measure(other, 4) | sound)
    run.put_back(lost, "its disk is full")
    again = run.next_task()
    assert again is not None
    assert (again.number, again.epochs_recorded) == (lost.number, 3)
    assert not run.report(again, measure(again, 4) | sound)
    assert run.should_stop
    assert run.stop_reason == "the limit of 8 epochs was reached"


@pytest.mark.parametrize("limit", LIMITED)
def test_the_same_limit_ends_a_search_again_and_without_it_the_search_goes_on(tmp_path: Path, limit: str) -> None:
    folder = tmp_path / "search"
    play(open_run(folder, changes=(*RANDOM, limit)))
    trials, ends = read(folder), read_ends(folder)
    again = open_run(folder, changes=(*RANDOM, limit))
    assert again.should_stop
    play(again)
    assert (read(folder), read_ends(folder)) == (trials, ends)
    rest = open_run(folder, changes=RANDOM)
    play(rest)
    assert rest.stop_reason == ""
    assert read_ends(folder) == {"coarse": "complete", "fine": "complete"}
    assert (tmp_path / "search/artifacts/coarse/trials.parquet").exists()
    assert len(read(folder)) == 17
    assert all(trial in read(folder) for trial in trials)


def test_a_limit_that_comes_with_the_last_trial_of_all_leaves_the_search_complete(tmp_path: Path) -> None:
    run = open_run(tmp_path / "search", changes=("limits.trials=17",))
    play(run)
    assert run.stop_reason == ""
    assert read_ends(tmp_path / "search") == {"coarse": "complete", "fine": "complete"}


def test_the_time_left_is_that_to_the_nearest_limit(tmp_path: Path) -> None:
    now = [0.0]
    run = open_run(tmp_path / "search", changes=("limits.epochs=20",), clock=lambda: now[0])
    while run.status().left_s is None:
        task = run.next_task()
        assert task is not None
        epoch = 1
        now[0] += 2
        while run.report(task, measure(task, epoch)):
            epoch, now[0] = epoch + 1, now[0] + 2
    assert run.status().left_s == pytest.approx(40 - now[0])


@pytest.mark.parametrize(
    "changes",
    [
        ("objective=[val_accuracy, parameters]",),
        ("objective=val_loss", *RANDOM),
        ("stages.coarse.halving={reduction: 2, rule: rank, axis: seconds}", *RANDOM),
        ("stages.coarse.halving={reduction: 2, type: promotion, axis: multiply_adds}", *RANDOM),
    ],
)
def test_a_replay_with_a_searchs_own_settings_is_the_search(changes: tuple[str, ...], tmp_path: Path) -> None:
    run = open_run(tmp_path / "search", changes=("stages.coarse.trials=30", "stages.fine.trials=1", *changes))
    while (task := run.next_task()) is not None:
        goes_on, epoch, cost = True, task.epochs_recorded, 1.0 + task.number % 4
        while goes_on:
            epoch += 1
            measured = measure(task, epoch) | {"seconds": cost, "multiply_adds": 1e5 * cost}
            measured["val_loss"] += 2 - measured["val_accuracy"]
            goes_on = run.report(task, measured)
    run.finish()
    options = ["--stage", "coarse", "--workers", "1", "--results", str(tmp_path), "--json"]
    told = json.loads(CliRunner().invoke(cli, ["replay", "search", *options], catch_exceptions=False).output)
    assert told["recorded"]["num_complete"] < 30
    assert told["replayed"] == {name: [value] * 3 for name, value in told["recorded"].items()}
    coarse = Ledger.open(tmp_path / "search").stages()[0]
    assert told["metric"] == coarse.objective.metric
    assert told["recorded"]["best"] == rank_trials(coarse.trials(), maximize=coarse.maximize)[0].value


@pytest.mark.parametrize("own", ["{reduction: 2, min_epochs: 1}", "none"])
def test_a_replay_never_stops_those_that_were_not_to_be_stopped(
    own: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tuner.strategy.halving.LARGE_STAGE", 0)  # as if the stage were another now
    changes = (*RANDOM, "limits.trials=12", f"stages.coarse.halving={own}")
    run = open_run(tmp_path / "search", changes=changes)
    while (task := run.next_task()) is not None:
        epoch = task.epochs_recorded + 1
        while run.report(task, measure(task, epoch)):
            epoch += 1
    run.finish()
    share = Ledger.open(tmp_path / "search").stages()[0].attributes["audited_share"]
    assert (share > 0) == (own != "none")
    expected = share if own != "none" else "auto"
    monkeypatch.undo()
    seen: list[Stage] = []
    replayed = replay_module.replay_stage

    def see(trials: Any, seconds: Any, stage: Stage, *args: Any, **more: Any) -> Any:
        seen.append(stage)
        return replayed(trials, seconds, stage, *args, **more)

    monkeypatch.setattr(replay_module, "replay_stage", see)
    replay_module.replay_search(tmp_path / "search", {"reduction": 4}, stage_name="coarse", workers=1, seed=0)
    assert {(one.halving.audit, one.halving.reduction) for one in seen if one.halving} == {(expected, 4)}


def test_a_search_that_has_begun_no_stage_has_no_replay(tmp_path: Path) -> None:
    (tmp_path / "search").mkdir()
    Ledger.open(tmp_path / "search", create=True)
    with pytest.raises(SearchNotFoundError, match="has begun no stage yet; start it with: tuner run SPEC"):
        replay_module.replay_search(tmp_path / "search", {}, stage_name=None, workers=1, seed=0)


def test_a_replay_takes_the_usual_cost_for_a_trial_that_never_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    halving = "{reduction: 2, min_epochs: 1, axis: seconds, rule: rank, type: stopping}"
    run = open_run(tmp_path / "search", changes=(*RANDOM, "limits.trials=12", f"stages.coarse.halving={halving}"))
    failing = run.next_task()
    assert failing is not None
    run.fail(failing, "bad luck", "Traceback ...")
    while (task := run.next_task()) is not None:
        epoch = 1
        while run.report(task, measure(task, epoch) | {"seconds": 30.0}):
            epoch += 1
    run.finish()
    seen: list[float] = []
    replayed = replay_module.replay_stage

    def see(trials: Any, *args: Any, **more: Any) -> Any:
        seen.append(trials[failing.number].cost)
        return replayed(trials, *args, **more)

    monkeypatch.setattr(replay_module, "replay_stage", see)
    replay_module.replay_search(tmp_path / "search", {}, stage_name="coarse", workers=1, seed=0)
    assert set(seen) == {30.0}
