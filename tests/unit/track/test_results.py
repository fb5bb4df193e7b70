"""The table of trials."""

import csv
import dataclasses
import json
import math
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tuner.spec import load_text
from tuner.spec.search import Objective
from tuner.track.artifacts import describe_narrowing, write_artifacts
from tuner.track.best import find_best, find_front, rank_trials
from tuner.track.ledger import Ledger
from tuner.track.results import build_table, write_table

SPEC = """\
name: one
data: digits
objective: val_loss
space:
  architecture: {choice: {lenet: {}, simple_cnn: {depth: {int: [1, 4]}}}}
  learning_rate: {loguniform: [1e-3, 0.3]}
stages: {only: {trials: 3, max_epochs: 3, halving: none}}
"""


def record(folder: Path) -> Ledger:
    """A search of three trials, the second the best, the last without a result."""
    folder.mkdir()
    ledger = Ledger.open(folder, create=True)
    stage = ledger.begin_stage("only", maximize=False, spec=SPEC, asked=SPEC, metric="val_loss", narrowing=[])
    space = load_text(SPEC).space
    for number, loss in enumerate([0.5, 0.2]):
        config = {"architecture": "simple_cnn", "architecture.simple_cnn.depth": 2, "learning_rate": 0.1 + number / 10}
        stage.start(space, config, seed=number)
        stage.record_epoch(number, 1, {"epoch": 1, "val_loss": loss + 1, "seconds": 2.0}, loss + 1)
        stage.record_epoch(number, 2, {"epoch": 2, "val_loss": loss, "seconds": 1.0}, loss)
        stage.end(number, "complete", "reached the last epoch", loss)
    stage.start(space, {"architecture": "lenet", "learning_rate": 0.2}, seed=2)
    return ledger


def test_a_table_has_a_row_a_trial_with_its_best_epoch(tmp_path: Path) -> None:
    rows = build_table(record(tmp_path / "one").stages()[0].trials()).to_pylist()
    assert [row["trial"] for row in rows] == [0, 1, 2]
    assert rows[1]["val_loss"] == rows[1]["value"] == 0.2
    assert (rows[1]["best_epoch"], rows[1]["epochs"], rows[1]["seconds"]) == (2, 2, 3.0)
    assert rows[2]["config.architecture.simple_cnn.depth"] is None
    assert rows[2]["state"] == "running"


def test_every_format_holds_the_same_trials(tmp_path: Path) -> None:
    table = build_table(record(tmp_path / "one").stages()[0].trials())
    for kind in ("parquet", "csv", "json"):
        write_table(table, tmp_path / f"trials.{kind}", kind)
    assert pq.read_table(tmp_path / "trials.parquet").num_rows == 3
    with (tmp_path / "trials.csv").open() as file:
        assert [row["config.learning_rate"] for row in csv.DictReader(file)] == ["0.1", "0.2", "0.2"]
    assert [row["seed"] for row in json.loads((tmp_path / "trials.json").read_text())] == [0, 1, 2]


def test_what_is_not_a_number_is_null_in_json(tmp_path: Path) -> None:
    (stage,) = record(tmp_path / "one").stages()
    stage.record_epoch(2, 1, {"epoch": 1, "val_loss": 0.7, "seconds": 1.0, "gradient_norm": math.nan}, 0.7)
    write_table(build_table(stage.trials()), tmp_path / "trials.json", "json")
    rows = json.loads((tmp_path / "trials.json").read_text(), parse_constant=pytest.fail)
    assert (rows[2]["val_loss"], rows[2]["gradient_norm"]) == (0.7, None)


def test_the_smallest_loss_is_the_best_where_it_is_minimised(tmp_path: Path) -> None:
    stage = record(tmp_path / "one").stages()[0]
    assert [trial.number for trial in rank_trials(stage.trials(), maximize=stage.maximize)] == [1, 0]
    best = find_best(tmp_path / "one")
    assert best.origin == "one/only-1"
    assert best.config["learning_rate"] == 0.2
    assert (best.epochs, best.seed) == (3, 1)


def test_a_stage_is_written_with_its_best_model(tmp_path: Path) -> None:
    stage = record(tmp_path / "one").stages()[0]
    model = tmp_path / "one/checkpoints/only-1/model.pt"
    model.parent.mkdir(parents=True)
    model.write_bytes(b"weights")
    target = write_artifacts(tmp_path / "one", stage, lambda trial: tmp_path / "one/checkpoints" / trial / "model.pt")
    assert (target / "best/model.pt").read_bytes() == b"weights"
    assert "origin: one/only-1" in (target / "best/config.yaml").read_text()
    assert (target / "spec.yaml").read_text() == SPEC


def test_a_narrowing_is_written_with_a_line_a_reason() -> None:
    reason = {"name": "l2", "before": "a", "after": "b", "action": "narrowed", "text": "because", "num_trials": 9}
    assert "| l2 | a | b | narrowed | because | 9 |" in describe_narrowing([reason]).splitlines()


def test_the_front_is_of_what_trials_measured_at_their_best_epochs(tmp_path: Path) -> None:
    trials = record(tmp_path / "one").stages()[0].trials()
    assert find_front(trials, load_text(SPEC).objective) == set()
    slower = Objective(metric="val_loss", mode="min", also=("seconds",))
    assert find_front(trials, slower) == {1}
    quick = {**trials[0].epochs[1], "seconds": 0.5}
    first = dataclasses.replace(trials[0], epochs=(trials[0].epochs[0], quick))
    assert find_front([first, *trials[1:]], slower) == {0, 1}


def test_a_training_again_has_the_first_objective(tmp_path: Path) -> None:
    stage = record(tmp_path / "one").stages()[0]
    stage.set(spec=SPEC.replace("val_loss", "[val_loss, seconds]"))
    assert find_best(tmp_path / "one").objective == Objective(metric="val_loss", mode="min")
