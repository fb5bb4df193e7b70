"""The files that belong to a stage: written when it ends, then sent to MLflow as they are."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tuner.spec import dump_training_spec
from tuner.track.best import describe_training, rank_trials
from tuner.track.ledger import StageLedger
from tuner.track.results import build_table, write_table


def write_artifacts(folder: Path, stage: StageLedger, model: str) -> Path:
    """Write a stage's files.

    Parameters
    ----------
    folder : Path
        The search's folder.
    stage : StageLedger
        The stage.
    model : str
        The name that a trial's model has in its folder of checkpoints.

    Returns
    -------
    Path
        Their folder: ``spec.yaml`` as run, ``narrowing.md``, ``trials.parquet``, and in ``best`` the best trial's
        ``config.yaml`` and its model.
    """
    target = folder / "artifacts" / stage.name
    (target / "best").mkdir(parents=True, exist_ok=True)
    attributes, trials = stage.attributes, stage.trials()
    (target / "spec.yaml").write_text(attributes["spec"])
    (target / "narrowing.md").write_text(describe_narrowing(attributes["narrowing"]))
    write_table(build_table(trials), target / "trials.parquet")
    for best in rank_trials(trials, maximize=stage.maximize)[:1]:
        (target / "best" / "config.yaml").write_text(dump_training_spec(describe_training(best, stage, folder.name)))
        source = folder / "checkpoints" / best.name / model
        if source.exists():
            shutil.copyfile(source, target / "best" / model)
    return target


def describe_narrowing(reasons: Sequence[Mapping[str, Any]]) -> str:
    """Write why a stage's space is what it is, as a Markdown table."""
    if not reasons:
        return "The space is as it was asked for.\n"
    lines = ["| hyperparameter | before | now | | why | trials |", "| --- | --- | --- | --- | --- | ---: |"]
    lines += [
        "| {name} | {before} | {after} | {action} | {text} | {num_trials} |".format(**reason) for reason in reasons
    ]
    return "\n".join(lines) + "\n"
