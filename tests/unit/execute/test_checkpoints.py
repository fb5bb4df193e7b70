"""Whose a trial's checkpoints are: of two workers that have it, the later one's."""

from pathlib import Path

import pytest

from tuner.execute.checkpoints import Checkpoints, reached
from tuner.execute.task import LAST, MODEL, TrialTask
from tuner.spec.search import DataSpec, Objective


def build_task(folder: Path, store: str = "") -> TrialTask:
    """A trial that is not trained."""
    return TrialTask(
        stage="only",
        number=0,
        config={},
        seed=0,
        max_epochs=4,
        objective=Objective(),
        data=DataSpec(name="digits"),
        folder=folder,
        cache=folder,
        store=store,
    )


def test_a_worker_that_was_cut_off_stores_nothing_once_another_has_its_trial(tmp_path: Path) -> None:
    place = Checkpoints(tmp_path)
    folder, _ = place.find_place("only-0")
    task = build_task(folder)
    with reached(task) as (first, send_first):
        (first / LAST).write_text("epoch 1")
        send_first()
        (first / MODEL).write_text("epoch 2, cut off before it was sent")
        with reached(task) as (second, send_second):
            assert (second / LAST).read_text() == "epoch 1"
            (second / LAST).write_text("epoch 3")
            (second / MODEL).write_text("epoch 3")
            send_second()
            send_first()
            with pytest.raises(FileNotFoundError):
                (first / LAST).write_text("epoch 2, too late")
        assert {name: (folder / name).read_text() for name in (LAST, MODEL)} == dict.fromkeys((LAST, MODEL), "epoch 3")
    assert sorted(path.name for path in folder.rglob("*")) == [LAST, MODEL], "neither leaves anything else"


def test_a_worker_that_only_reads_takes_nothing_from_the_one_that_writes(tmp_path: Path) -> None:
    task = build_task(tmp_path / "trial")
    with reached(task) as (first, send), reached(task, writes=False) as (second, _):
        (first / LAST).write_text("epoch 1")
        send()
        assert (second / LAST).read_text() == "epoch 1"


def test_what_a_worker_that_was_killed_left_goes_when_its_trial_is_settled(tmp_path: Path) -> None:
    place = Checkpoints(tmp_path)
    folder, _ = place.find_place("only-0")
    (folder / "tuner-trial-killed.partial").mkdir(parents=True)
    for name in (LAST, MODEL, "tuner-trial-killed.partial/half"):
        (folder / name).write_text("x")
    assert list(place.list()) == [f"only-0/{LAST}", f"only-0/{MODEL}"]
    place.settle("only-0")
    assert [path.name for path in folder.rglob("*")] == [MODEL]
