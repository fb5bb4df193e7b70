"""Ray Tune under a search: every lane works, errors end trials and not searches, dead workers are replaced."""

import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tuner.errors import LedgerError, RunError
from tuner.execute.adapters import Lanes
from tuner.execute.experiment import Surroundings, run_search
from tuner.execute.search_run import SearchRun
from tuner.execute.task import TrainFunction, TrialTask
from tuner.spec import load_text
from tuner.track.lease import claim_folder
from tuner.track.ledger import Ledger, TrialRecord

SPEC = """\
name: played
data: digits
space: {architecture: lenet, learning_rate: {loguniform: [1e-3, 1.0]}}
stages:
  coarse: {trials: 12, max_epochs: 2, halving: none}
  fine: {trials: 6, max_epochs: 2, halving: none, narrow: none}
resources: {trials_at_once: 2, gpus: 0}
tensorboard: {scalars: false}
"""


class Watched:
    """Keeps what was said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def begin(self, run: SearchRun) -> None:
        """Nothing to draw."""

    def say(self, line: str) -> None:
        """Keep a line."""
        self.lines.append(line)

    def end(self) -> None:
        """Nothing to clear."""


def play(folder: Path, cache: Path, train: TrainFunction) -> dict[str, TrialRecord]:
    """Run the search with another training, and read its trials."""
    run_search(load_text(SPEC), Surroundings(folder, cache), Watched(), train=train)
    return {trial.name: trial for stage in Ledger.open(folder / "played").stages() for trial in stage.trials()}


def make_sleeper(bad: str = "", late: Path | None = None) -> TrainFunction:
    """Make a training that sleeps, and in one trial does something bad; nested, so that workers get it by value.

    With ``late``, a file to be made, every process but the first takes a second to begin.
    """

    def sleep(task: TrialTask | None) -> Iterator[dict[str, float]]:
        if late is not None and "PLAYED_BEFORE" not in os.environ:
            os.environ["PLAYED_BEFORE"] = "yes"
            if late.exists():
                time.sleep(1.0)
            late.touch()
        if task is None:
            return
        for epoch in range(task.epochs_recorded + 1, 3):
            time.sleep(0.02)
            marker = task.folder / "killed"
            if bad == "raise" and task.stage == "coarse" and task.number == 4:
                raise ZeroDivisionError("a bug in the network")
            if bad == "raise always":
                raise ZeroDivisionError("a bug in every network")
            if bad == "die" and task.stage == "coarse" and task.number == 4 and epoch == 2 and not marker.exists():
                task.folder.mkdir(parents=True, exist_ok=True)
                marker.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            yield {"epoch": epoch, "pid": os.getpid(), "train_loss": 1.0, "val_loss": 1.0, "val_accuracy": 0.5}

    return sleep


def test_short_trials_use_every_lane_and_keep_their_processes_between_stages(tmp_path: Path, cache: Path) -> None:
    trials = play(tmp_path, cache, make_sleeper(late=tmp_path / "late"))
    assert {trial.state for trial in trials.values()} == {"complete"}
    for stage, least in (("coarse", 3), ("fine", 1)):
        processes = Counter(trial.epochs[0]["pid"] for trial in trials.values() if trial.stage == stage)
        assert len(processes) == 2
        assert min(processes.values()) >= least
    assert len({epoch["pid"] for trial in trials.values() for epoch in trial.epochs}) == 2


def test_an_error_in_a_training_ends_that_trial_alone(tmp_path: Path, cache: Path) -> None:
    trials = play(tmp_path, cache, make_sleeper("raise"))
    failed = trials.pop("coarse-4")
    assert failed.state == "failed"
    assert "ZeroDivisionError: a bug in the network" in failed.reason
    assert "Traceback" in failed.error
    assert {trial.state for trial in trials.values()} == {"complete"}
    assert len({trial.epochs[0]["pid"] for trial in trials.values()}) == 2, (
        "the worker of the failed trial is good for more"
    )


def test_a_search_in_which_every_trial_fails_stops_at_once_and_shows_the_error(tmp_path: Path, cache: Path) -> None:
    with pytest.raises(RunError, match="a bug in every network"):
        play(tmp_path, cache, make_sleeper("raise always"))
    trials = Ledger.open(tmp_path / "played").stages()[0].trials()
    assert len(trials) <= 5


def test_a_trial_whose_worker_is_killed_goes_on_in_another(tmp_path: Path, cache: Path) -> None:
    trials = play(tmp_path, cache, make_sleeper("die"))
    killed = trials["coarse-4"]
    assert killed.state == "complete", killed.reason + killed.error
    assert [epoch["epoch"] for epoch in killed.epochs] == [1, 2]
    assert len(trials) == 18
    assert {trial.state for trial in trials.values()} == {"complete"}


def test_a_lane_whose_disk_is_full_fails_no_trial_while_another_lane_works(tmp_path: Path, cache: Path) -> None:
    def train(task: TrialTask | None) -> Iterator[dict[str, float]]:
        for epoch in range(1 if task is None else task.epochs_recorded + 1, 1 if task is None else 3):
            assert task is not None
            time.sleep(0.05)
            first = task.folder.parent.parent / "first"
            if not first.exists():
                first.write_text(f"{os.getpid()}")
            if first.read_text() == f"{os.getpid()}" and epoch == 2:
                with Path("/dev/full").open("wb", buffering=0) as full:
                    full.write(b"a checkpoint")
            yield {"epoch": epoch, "train_loss": 1.0, "val_loss": 1.0, "val_accuracy": 0.5}

    watched = Watched()
    run_search(load_text(SPEC), Surroundings(tmp_path, cache), watched, train=train)
    trials = [trial for stage in Ledger.open(tmp_path / "played").stages() for trial in stage.trials()]
    assert len(trials) == 18
    assert {trial.state for trial in trials} == {"complete"}
    assert all([epoch["epoch"] for epoch in trial.epochs] == [1, 2] for trial in trials)
    said = [line for line in watched.lines if "No space left on device; it is tried again" in line]
    assert 1 <= len(said) <= 3


def test_a_second_driver_of_one_search_is_refused_and_told_of_the_first(tmp_path: Path) -> None:
    with (
        claim_folder(tmp_path / "search"),
        pytest.raises(LedgerError, match=f"process {os.getpid()}"),
        claim_folder(tmp_path / "search"),
    ):
        pytest.fail("two drivers at once")
    with claim_folder(tmp_path / "search"):
        pass


def test_a_search_goes_on_by_itself_where_ray_tune_gives_up(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_result, calls = Lanes.on_result, 0

    def fail_once(self: Lanes, trial: Any, result: dict[str, Any]) -> str:
        nonlocal calls
        calls += 1
        if calls == 8:
            raise RuntimeError("Caught unexpected exception: RPC error: CANCELLED")  # as Tune's actor manager has it
        return on_result(self, trial, result)

    monkeypatch.setattr(Lanes, "on_result", fail_once)
    watched = Watched()
    run_search(load_text(SPEC), Surroundings(tmp_path, cache), watched, train=make_sleeper())
    trials = [trial for stage in Ledger.open(tmp_path / "played").stages() for trial in stage.trials()]
    assert len(trials) == 18
    assert {trial.state for trial in trials} == {"complete"}
    assert all([epoch["epoch"] for epoch in trial.epochs] == [1, 2] for trial in trials)
    assert sum("Ray Tune gave up" in line and line.endswith("going on with it") for line in watched.lines) == 1


def test_a_search_that_was_interrupted_does_not_go_on_where_ray_tune_gives_up(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(self: Lanes, trial: Any, result: dict[str, Any]) -> str:
        self.run.interrupt()
        raise RuntimeError("Caught unexpected exception: RPC error: CANCELLED")

    monkeypatch.setattr(Lanes, "on_result", interrupt)
    watched = Watched()
    spec = load_text(SPEC)
    assert run_search(spec, Surroundings(tmp_path, cache), watched, train=make_sleeper()) == "interrupted"
    assert not [line for line in watched.lines if "Ray Tune gave up" in line]
