"""Trials as one Arrow table: for Parquet, CSV and JSON, and for whoever reads them."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from tuner.track.ledger import TrialRecord
from tuner.track.plain import make_plain


def build_table(trials: Iterable[TrialRecord]) -> pa.Table:
    """Make a table with a row a trial.

    Parameters
    ----------
    trials : iterable of TrialRecord
        In any order.

    Returns
    -------
    pyarrow.Table
        Columns: stage, trial, state, reason, diagnosis (what its curves look like), value (the objective at the best
        epoch), best_epoch, epochs, seconds, seed, started, ended; ``config.NAME`` for every hyperparameter, null where
        the trial has none such; ``execution.NAME`` for how the device was used; and what was measured at the best epoch
        under its own name.
    """
    rows = [_row(trial) for trial in trials]
    columns = dict.fromkeys(key for row in rows for key in row)
    return pa.table({key: _column([row.get(key) for row in rows]) for key in columns})


def write_table(table: pa.Table, path: Path, kind: Literal["parquet", "csv", "json"] = "parquet") -> None:
    """Write a table as Parquet, as CSV or as a JSON list of rows, in which what is not a number is null."""
    if kind == "parquet":
        pq.write_table(table, path)
    elif kind == "csv":
        pa_csv.write_csv(table, path)
    else:
        path.write_text(json.dumps(make_plain(table.to_pylist()), indent=2, default=str) + "\n")


def _row(trial: TrialRecord) -> dict[str, Any]:
    best = trial.epochs[trial.best_epoch - 1] if trial.best_epoch else {}
    return {
        "stage": trial.stage,
        "trial": trial.number,
        "state": trial.state,
        "reason": trial.reason,
        "diagnosis": trial.diagnosis.get("kind"),
        "value": trial.value if trial.best_epoch else None,
        "best_epoch": trial.best_epoch,
        "epochs": len(trial.epochs),
        "seconds": sum(epoch.get("seconds", 0.0) for epoch in trial.epochs),
        "seed": trial.seed,
        "started": trial.started,
        "ended": trial.ended,
        **{f"config.{name}": value for name, value in trial.config.items()},
        **{f"execution.{name}": value for name, value in trial.execution.items()},
        **{name: value for name, value in best.items() if name not in {"epoch", "seconds", "timestamp"}},
    }


def _column(values: Sequence[Any]) -> pa.Array:
    """Build a column; where the trials of a search mix kinds, as text."""
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return pa.array([None if value is None else str(value) for value in values])
