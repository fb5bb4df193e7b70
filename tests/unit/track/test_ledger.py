"""The ledger: what is written is what is read, whatever happened in between."""

import errno
import math
import os
import resource
import signal
from pathlib import Path

import pytest
from optuna.study import StudyDirection

from tuner.errors import LedgerError, SearchNotFoundError
from tuner.spec import load_text
from tuner.track.journal import KernelLock
from tuner.track.ledger import Ledger, StageLedger, read_attributes
from tuner.track.store import JOURNAL

SPEC = """\
name: one
data: digits
space:
  architecture: {choice: {lenet: {}, simple_cnn: {depth: {int: [1, 4]}}}}
  learning_rate: {loguniform: [1e-3, 0.3]}
  batch_size: 64
stages: {only: {trials: 3, max_epochs: 3, halving: none}}
"""
CONFIG = {"architecture": "simple_cnn", "architecture.simple_cnn.depth": 2, "learning_rate": 0.1, "batch_size": 64}


def begin(folder: Path) -> StageLedger:
    """A ledger with one stage."""
    folder.mkdir(exist_ok=True)
    return Ledger.open(folder, create=True).begin_stage("only", maximize=True, spec=SPEC, metric="val_accuracy")


def reopen(folder: Path) -> StageLedger:
    """The same stage, read by somebody else."""
    return Ledger.open(folder).stages()[0]


def test_what_was_recorded_is_read_again(tmp_path: Path) -> None:
    stage = begin(tmp_path / "one")
    space = load_text(SPEC).space
    number = stage.start(space, CONFIG, seed=7)
    stage.record_epoch(number, 1, {"epoch": 1, "val_accuracy": 0.5, "train_loss": 1.5}, 0.5)
    stage.record_epoch(number, 2, {"epoch": 2, "val_accuracy": 0.4, "train_loss": 1.2}, 0.5)
    stage.end(number, "stopped", "worse than its peers", 0.5)
    stage.start(space, CONFIG, seed=8)

    stopped, running = reopen(tmp_path / "one").trials()
    assert stopped.config == CONFIG
    assert (stopped.seed, stopped.state, stopped.reason) == (7, "stopped", "worse than its peers")
    assert [epoch["val_accuracy"] for epoch in stopped.epochs] == [0.5, 0.4]
    assert (stopped.value, stopped.best_epoch) == (0.5, 1)
    assert stopped.started is not None
    assert stopped.ended is not None
    assert (running.state, running.epochs, running.ended) == ("running", (), None)
    assert math.isnan(running.value)
    assert reopen(tmp_path / "one").space == space


def test_a_diverged_trial_keeps_its_last_finite_value(tmp_path: Path) -> None:
    stage = begin(tmp_path / "one")
    number = stage.start(load_text(SPEC).space, CONFIG, seed=0)
    stage.record_epoch(number, 1, {"epoch": 1}, 0.3)
    stage.record_epoch(number, 2, {"epoch": 2, "train_loss": math.nan}, math.nan)
    stage.end(number, "diverged", "the loss is not finite", 0.3)
    trial = reopen(tmp_path / "one").trials()[0]
    assert (trial.state, trial.value, trial.best_epoch) == ("diverged", 0.3, 1)
    assert math.isnan(trial.values[1])


def test_epochs_stay_in_order_past_ten(tmp_path: Path) -> None:
    stage = begin(tmp_path / "one")
    number = stage.start(load_text(SPEC).space, CONFIG, seed=0)
    for epoch in range(1, 13):
        stage.record_epoch(number, epoch, {"epoch": epoch}, epoch / 100)
    trial = reopen(tmp_path / "one").trials()[0]
    assert [measured["epoch"] for measured in trial.epochs] == list(range(1, 13))
    assert trial.values == tuple(epoch / 100 for epoch in range(1, 13))


def test_a_trial_that_waited_and_goes_on_runs_in_the_eyes_of_all(tmp_path: Path) -> None:
    stage = begin(tmp_path / "one")
    number = stage.start(load_text(SPEC).space, CONFIG, seed=0)
    for epoch, state in ((1, "paused"), (2, "running")):
        stage.record_epoch(number, epoch, {"epoch": epoch}, 0.3)
        if state == "paused":
            stage.pause(number, epoch, "waits")
        (trial,) = reopen(tmp_path / "one").trials()
        (optuna,) = stage._storage.get_all_trials(stage._study_id)
        assert (trial.state, read_attributes(optuna)["state"]) == (state, state)


@pytest.mark.parametrize("kept", [1, 20, 60])
def test_a_line_that_a_kill_cut_off_is_dropped_and_writing_goes_on(tmp_path: Path, kept: int) -> None:
    stage = begin(tmp_path / "one")
    space = load_text(SPEC).space
    stage.start(space, CONFIG, seed=0)
    journal = tmp_path / "one" / JOURNAL
    whole = journal.read_bytes()
    stage.start(space, CONFIG, seed=1)
    journal.write_bytes(whole + journal.read_bytes()[len(whole) : len(whole) + kept])

    stage = reopen(tmp_path / "one")
    assert [trial.seed for trial in stage.trials()] == [0]
    stage.start(space, CONFIG, seed=2)
    assert [trial.seed for trial in reopen(tmp_path / "one").trials()] == [0, 2]


@pytest.mark.parametrize("why", [errno.EACCES, errno.EROFS])
def test_a_ledger_that_one_may_only_read_is_read_and_not_written(
    tmp_path: Path, why: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = begin(tmp_path / "one")
    space = load_text(SPEC).space
    stage.start(space, CONFIG, seed=3)

    def refuse(self: KernelLock) -> bool:
        raise OSError(why, os.strerror(why))

    monkeypatch.setattr(KernelLock, "acquire", refuse)
    stage = reopen(tmp_path / "one")
    assert [trial.seed for trial in stage.trials()] == [3]
    with pytest.raises(LedgerError, match=f"cannot be written .{os.strerror(why)}"):
        stage.start(space, CONFIG, seed=4)


def test_a_damaged_ledger_is_not_taken_for_an_empty_one(tmp_path: Path) -> None:
    begin(tmp_path / "one")
    (tmp_path / "one" / JOURNAL).write_bytes(b"no journal\nat all\n")
    with pytest.raises(LedgerError, match="damaged"):
        Ledger.open(tmp_path / "one")


def test_a_search_that_is_not_there_is_refused_with_those_that_are(tmp_path: Path) -> None:
    begin(tmp_path / "one")
    with pytest.raises(SearchNotFoundError, match="there are: one"):
        Ledger.open(tmp_path / "two")
    assert not (tmp_path / "two").exists()


def test_a_folder_that_cannot_be_written_is_a_ledger_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(LedgerError, match="--results"):
        Ledger.open(tmp_path / "file", create=True)


def test_what_is_written_in_a_batch_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    stage = begin(tmp_path / "one")
    number = stage.start(load_text(SPEC).space, CONFIG, seed=0)
    before = (tmp_path / "one" / JOURNAL).read_bytes()
    with stage.batch():
        stage.record_epoch(number, 1, {"epoch": 1}, 0.5)
        stage.end(number, "complete", "done", 0.5)
        assert (tmp_path / "one" / JOURNAL).read_bytes() == before
    trial = reopen(tmp_path / "one").trials()[0]
    assert (trial.state, trial.value) == ("complete", 0.5)


def test_a_stage_that_was_not_begun_whole_has_not_begun_and_can_be_begun_again(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    ledger = Ledger.open(tmp_path / "one", create=True)
    ledger._storage.create_new_study([StudyDirection.MAXIMIZE], "one/only")  # and then its driver was killed
    assert Ledger.open(tmp_path / "one").stages() == []
    begin(tmp_path / "one")
    assert [stage.name for stage in Ledger.open(tmp_path / "one").stages()] == ["only"]


def test_a_search_in_a_folder_of_another_name_is_read_all_the_same(tmp_path: Path) -> None:
    begin(tmp_path / "one").start(load_text(SPEC).space, CONFIG, seed=5)
    (tmp_path / "one").rename(tmp_path / "one.before")
    stage = reopen(tmp_path / "one.before")
    assert (stage.search, stage.name) == ("one", "only")
    assert [trial.seed for trial in stage.trials()] == [5]


def test_the_disk_is_waited_for_but_not_for_each_of_many_epochs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = begin(tmp_path / "one")
    number = stage.start(load_text(SPEC).space, CONFIG, seed=0)
    synced: list[int] = []
    now = 1e9
    monkeypatch.setattr("tuner.track.journal.os.fsync", synced.append)
    monkeypatch.setattr("tuner.track.journal.time.monotonic", lambda: now)
    for epoch in range(1, 9):
        stage.record_epoch(number, epoch, {"epoch": epoch}, 0.5)
        now += 0.01
    assert len(synced) == 1
    now += 0.1
    stage.record_epoch(number, 9, {"epoch": 9}, 0.5)
    assert len(synced) == 2
    stage.set(opened="now")
    assert len(synced) == 3, "what is no epoch is waited for at once"
    stage.end(number, "complete", "done", 0.5)
    assert len(synced) == 4
    assert reopen(tmp_path / "one").trials()[0].values == (0.5,) * 9


def test_a_full_disk_is_said_and_spoils_nothing(tmp_path: Path) -> None:
    stage = begin(tmp_path / "one")
    space = load_text(SPEC).space
    number = stage.start(space, CONFIG, seed=0)
    journal = tmp_path / "one" / JOURNAL
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (journal.stat().st_size + 20, limits[1]))
        with pytest.raises(LedgerError, match="free space"), stage.batch():
            stage.record_epoch(number, 1, {"epoch": 1}, 0.5)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    stage.record_epoch(number, 1, {"epoch": 1}, 0.5)
    assert reopen(tmp_path / "one").trials()[0].values == (0.5,)
