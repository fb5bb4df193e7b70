"""TensorBoard's files as an image of the ledger, read by TensorBoard itself."""

import math
from pathlib import Path

import pytest
from made_up import SPEC, make_up
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.metadata import (
    parse_experiment_plugin_data,
    parse_session_end_info_plugin_data,
    parse_session_start_info_plugin_data,
)

from tuner.errors import TrackingError
from tuner.spec import dump_spec, load_text
from tuner.track.board import SCALARS, Board
from tuner.track.ledger import Ledger

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # TensorBoard's own


def read(folder: Path) -> EventAccumulator:
    """What TensorBoard sees of a run."""
    return EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()


def read_steps(folder: Path, tag: str = "val_accuracy") -> list[int]:
    """The steps of a run's scalar."""
    return [event.step for event in read(folder).Scalars(tag)]


def open_board(folder: Path) -> Board:
    """A board that knows nothing yet, as after a restart."""
    return Board(Ledger.open(folder), folder)


def test_tensorboard_reads_what_the_ledger_has(tmp_path: Path) -> None:
    (stage,) = make_up(tmp_path / "made-up", 5, "coarse").stages()
    open_board(tmp_path / "made-up").sync()
    for trial in stage.trials():
        run = read(tmp_path / "made-up/tensorboard" / trial.name)
        values = [(event.step, event.value, event.wall_time) for event in run.Scalars("val_accuracy")]
        expected = [(e["epoch"], pytest.approx(e["val_accuracy"]), e["timestamp"]) for e in trial.epochs]
        assert values == expected
        assert run.Scalars("best_val_accuracy")[-1].value == pytest.approx(trial.value)
        content = run.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
        start = parse_session_start_info_plugin_data(content)
        learning_rate, kind = start.hparams["learning_rate"].number_value, start.hparams["architecture"].string_value
        assert (learning_rate, kind) == (trial.config["learning_rate"], trial.config["architecture"])
        assert ("architecture.simple_cnn.depth" in start.hparams) == (kind == "simple_cnn")
        content = run.SummaryMetadata("_hparams_/session_end_info").plugin_data.content
        assert parse_session_end_info_plugin_data(content).status == (2 if trial.state == "diverged" else 1)
        assert parse_session_end_info_plugin_data(content).end_time_secs == trial.ended.timestamp()
        assert start.start_time_secs == trial.started.timestamp()
        assert "timestamp" not in run.Tags()["scalars"]
    experiment = read(tmp_path / "made-up/tensorboard").SummaryMetadata("_hparams_/experiment")
    compared = {one.name: one for one in parse_experiment_plugin_data(experiment.plugin_data.content).hparam_infos}
    assert {"stage", "architecture", "learning_rate", "l2"} < set(compared)
    assert list(compared["architecture"].domain_discrete) == ["simple_cnn", "lenet"]
    assert len(compared) == len(parse_experiment_plugin_data(experiment.plugin_data.content).hparam_infos), "each once"


def test_what_a_later_stage_has_fixed_has_its_value_in_its_trials(tmp_path: Path) -> None:
    ledger = make_up(tmp_path / "made-up", 2, "coarse")
    fixed = dump_spec(load_text(SPEC, overrides=("space.architecture=lenet", "space.dropout=0.25")))
    stage = ledger.begin_stage("fine", maximize=True, index=1, metric="val_accuracy", spec=fixed, asked=fixed)
    config = {"architecture": "lenet", "learning_rate": 0.1, "l2": 1e-3, "dropout": 0.25}
    number = stage.start(stage.space, config, 0)
    stage.record_epoch(number, 1, {"epoch": 1, "val_accuracy": 0.5}, 0.5)
    open_board(tmp_path / "made-up").sync()
    content = read(tmp_path / "made-up/tensorboard" / f"fine-{number}").SummaryMetadata("_hparams_/session_start_info")
    start = parse_session_start_info_plugin_data(content.plugin_data.content)
    assert start.hparams["stage"].string_value == "fine"
    assert (start.hparams["architecture"].string_value, start.hparams["dropout"].number_value) == ("lenet", 0.25)


def test_true_and_false_are_compared_by_the_words_that_trials_have(tmp_path: Path) -> None:
    varied = "space.architecture.choice.lenet.batch_norm={choice: [false, true]}"
    ledger = make_up(tmp_path / "made-up", 20, "coarse", overrides=(varied,))
    open_board(tmp_path / "made-up").sync()
    content = read(tmp_path / "made-up/tensorboard").SummaryMetadata("_hparams_/experiment").plugin_data.content
    (info,) = [one for one in parse_experiment_plugin_data(content).hparam_infos if "batch_norm" in one.name]
    assert (info.type, list(info.domain_discrete)) == (1, ["false", "true"]), "1 is TensorBoard's word for text"
    had = set()
    for trial in ledger.stages()[0].trials():
        run = read(tmp_path / "made-up/tensorboard" / trial.name)
        content = run.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
        start = parse_session_start_info_plugin_data(content)
        if info.name in start.hparams:
            had.add(start.hparams[info.name].string_value)
    assert had == set(info.domain_discrete)


def test_a_trial_that_waits_at_its_rung_has_not_ended(tmp_path: Path) -> None:
    (stage,) = make_up(tmp_path / "made-up", 2, "coarse").stages()
    number = stage.start(stage.space, stage.trials()[0].config, 0)
    stage.record_epoch(number, 1, {"epoch": 1, "val_accuracy": 0.5}, 0.5)
    stage.pause(number, 1, "waits")
    open_board(tmp_path / "made-up").sync()
    folder = tmp_path / "made-up/tensorboard" / f"coarse-{number}"
    assert "_hparams_/session_end_info" not in read(folder).summary_metadata
    stage.end(number, "stopped", "enough", 0.5)
    open_board(tmp_path / "made-up").sync()
    assert "_hparams_/session_end_info" in read(folder).summary_metadata


def test_whoever_goes_on_adds_what_is_missing_and_nothing_twice(tmp_path: Path) -> None:
    (stage,) = make_up(tmp_path / "made-up", 2, "coarse").stages()
    number = stage.start(stage.space, stage.trials()[0].config, 0)
    folder = tmp_path / "made-up/tensorboard" / f"coarse-{number}"
    for epoch in range(1, 7):
        stage.record_epoch(number, epoch, {"epoch": epoch, "val_accuracy": epoch / 10}, epoch / 10)
        if epoch % 2:  # it restarts before every second one
            board = open_board(tmp_path / "made-up")
        board.sync()
        assert read_steps(folder) == list(range(1, epoch + 1))
    stage.end(number, "stopped", "enough", 0.6)
    board.sync()
    size = (folder / SCALARS).stat().st_size
    for again in (board, open_board(tmp_path / "made-up")):
        again.sync(settle=True)
        assert (folder / SCALARS).stat().st_size == size


@pytest.mark.parametrize("share", [0.0, 0.01, 0.1, 0.35, 0.6, 0.85, 0.99])
def test_a_file_that_a_kill_cut_off_is_made_whole(tmp_path: Path, share: float) -> None:
    (stage,) = make_up(tmp_path / "made-up", 20, "coarse").stages()
    longest = max(stage.trials(), key=lambda trial: len(trial.epochs))
    open_board(tmp_path / "made-up").sync()
    folder = tmp_path / "made-up/tensorboard" / longest.name
    whole = (folder / SCALARS).read_bytes()
    (folder / SCALARS).write_bytes(whole[: math.ceil(len(whole) * share)])
    open_board(tmp_path / "made-up").sync()
    assert read_steps(folder) == list(range(1, len(longest.epochs) + 1))
    assert len((folder / SCALARS).read_bytes()) == len(whole)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    make_up(tmp_path / "made-up", 1, "coarse")
    (tmp_path / "made-up/tensorboard").write_text("in the way")
    with pytest.raises(TrackingError, match="tensorboard: cannot be written"):
        open_board(tmp_path / "made-up").sync()
