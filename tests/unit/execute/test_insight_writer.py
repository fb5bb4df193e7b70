"""What a worker writes for TensorBoard while it trains, read by TensorBoard itself."""

from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tuner.execute.insight_writer import InsightWriter
from tuner.execute.task import LAST, TrialTask
from tuner.execute.trial import train_alone
from tuner.spec.search import DataSpec, Objective, TensorBoard

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # TensorBoard's own
ALL = TensorBoard(histograms=True, graph=True, filters=True, embedding=True)


def make_task(folder: Path, cache: Path, wanted: TensorBoard | None, epochs_recorded: int = 0) -> TrialTask:
    """A trial of three short epochs."""
    return TrialTask(
        stage="only",
        number=0,
        config={"architecture": "lenet", "learning_rate": 0.05},
        seed=0,
        max_epochs=3,
        objective=Objective(),
        data=DataSpec(name="digits", fraction=0.1),
        folder=folder / "checkpoints",
        cache=cache,
        tensorboard=wanted,
        insight=folder / "board",
        epochs_recorded=epochs_recorded,
    )


def test_nothing_more_than_scalars_is_written_unless_it_is_asked_for(tmp_path: Path, cache: Path) -> None:
    list(train_alone(make_task(tmp_path, cache, TensorBoard())))
    assert not (tmp_path / "board").exists()


def test_a_trial_that_goes_on_writes_each_step_once_and_trains_as_without(tmp_path: Path, cache: Path) -> None:
    plain = [epoch["train_loss"] for epoch in train_alone(make_task(tmp_path / "plain", cache, None))]
    first = train_alone(make_task(tmp_path, cache, ALL))
    losses = [next(first)["train_loss"], next(first)["train_loss"]]
    first.close()  # its worker dies; the ledger has heard of the first epoch only
    assert (tmp_path / "checkpoints" / LAST).exists()
    losses += [epoch["train_loss"] for epoch in train_alone(make_task(tmp_path, cache, ALL, epochs_recorded=1))][1:]
    assert losses == plain

    run = EventAccumulator(str(tmp_path / "board"), size_guidance={"histograms": 0, "images": 0}).Reload()
    for tag in ("weights/0/weight", "gradients/0/weight"):
        assert [event.step for event in run.Histograms(tag)] == [1, 2, 3]
    assert [event.step for event in run.Images("filters/first_layer")] == [1, 2, 3]
    assert {"Conv2d", "Linear"} <= {node.op for node in run.Graph().node}
    vectors = (tmp_path / "board/embedding.tsv").read_text().splitlines()
    assert len(vectors) + 1 == len((tmp_path / "board/embedding_classes.tsv").read_text().splitlines())
    assert len(vectors[0].split("\t")) == 84, "what the last layer of a LeNet takes"
    assert "embedding.tsv" in (tmp_path / "board/projector_config.pbtxt").read_text()


def test_what_cannot_be_written_does_not_stop_the_training(
    tmp_path: Path, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "board").write_text("in the way")
    assert len(list(train_alone(make_task(tmp_path, cache, ALL)))) == 3
    assert len([record for record in caplog.records if "left out from now on" in record.message]) == 4


def test_where_workers_train_together_none_evaluates_by_itself(tmp_path: Path) -> None:
    writers = InsightWriter(ALL, tmp_path, can_embed=False)._writers
    assert [writer.__name__ for writer in writers] == ["_write_graph", "_write_histograms", "_write_filters"]
