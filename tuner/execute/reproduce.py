"""A trial trained again, to see whether the same comes out."""

import dataclasses
import math
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tuner.errors import SearchNotFoundError
from tuner.spec import load_text
from tuner.track.best import describe_training, rank_trials
from tuner.track.ledger import FINAL, Ledger, StageLedger, TrialRecord
from tuner.train.run import run_training, use_threads
from tuner.train.usage import PREFIX as USAGE

NOT_NUMBERS_OF_THE_TRAINING = {"seconds", "images_per_second", "peak_memory_bytes", "timestamp", "gpu_seconds"}


@dataclass(frozen=True)
class Reproduction:
    """What came out the second time.

    Attributes
    ----------
    trial : str
        Stage and number.
    epochs : int
        How many were trained again.
    then, now : float
        The objective at the best epoch.
    objective_difference : float
        The largest between two epochs of the same number.
    differences : dict from names to float
        Of each number that differs in any epoch, the largest difference; infinite where one has none.
    surroundings : tuple of str
        What is not as it was: versions, the commit, the device.
    """

    trial: str
    epochs: int
    then: float
    now: float
    objective_difference: float
    differences: dict[str, float]
    surroundings: tuple[str, ...]


def find_trial(folder: Path, stage_name: str | None, number: int | None) -> tuple[StageLedger, TrialRecord]:
    """Find a trial that has an epoch on record, of a search's stages or of what came after.

    Parameters
    ----------
    folder : Path
        The search's.
    stage_name : str or None
        Its stage; None for the last of the search.
    number : int or None
        None for the best.

    Raises
    ------
    SearchNotFoundError
        If there is none.
    """
    ledger = Ledger.open(folder)
    begun = ledger.everything()
    if not begun:
        raise SearchNotFoundError(f"search {folder.name!r} has begun no stage yet; start it with: tuner run SPEC")
    stages = ledger.stages()[-1:] if stage_name is None else [s for s in begun if s.name == stage_name]
    if not stages:
        names = ", ".join(stage.name for stage in begun)
        raise SearchNotFoundError(f"search {folder.name!r} has no stage {stage_name!r}; it has: {names}")
    (stage,) = stages
    trials = stage.trials()
    chosen = rank_trials(trials, maximize=stage.maximize)[:1] if number is None else trials[number : number + 1]
    if not chosen:
        have = f"it has 0 to {len(trials) - 1}" if trials else "it has none yet"
        what = "no trial with a result" if number is None else f"no trial {number}"
        raise SearchNotFoundError(f"search {folder.name!r} has {what} in stage {stage.name!r}; {have}")
    if not chosen[0].epochs:
        raise SearchNotFoundError(f"{chosen[0].name}: it has no epoch on record to compare with ({chosen[0].state})")
    return stage, chosen[0]


def reproduce_trial(
    stage: StageLedger, trial: TrialRecord, cache: Path, device: str, provenance: Mapping[str, Any]
) -> Reproduction:
    """Train a trial again, for as many epochs as are on record, and compare every number.

    Parameters
    ----------
    stage, trial : StageLedger, TrialRecord
        The trial.
    cache : Path
        The folder of decoded images.
    device : str
        A device of torch; ``auto`` for a GPU if the trial had one and there is one here.
    provenance : mapping
        Versions and commit of now.
    """
    training = describe_training(trial, stage, stage.search)
    attributes = stage.attributes
    if device == "auto":
        had_gpu = not str(trial.execution.get("device", "cpu")).startswith("cpu")
        device = "cuda" if had_gpu and torch.cuda.is_available() else "cpu"
    use_threads(load_text(attributes["spec"], "the ledger").resources.cpus)
    progress = run_training(
        training.config,
        training.data,
        training.objective,
        max_epochs=training.epochs,
        seed=training.seed,
        cache=cache,
        device=device,
        is_growing=training.fidelity == "data",
        is_whole=bool(attributes.get(FINAL, {}).get("retrained")),
    )
    metric, sign = training.objective.metric, 1.0 if stage.maximize else -1.0
    differences: dict[str, float] = {}
    objective_difference, best, execution = 0.0, -math.inf, {}
    for then, (result, _, _, trainer) in zip(trial.epochs, progress, strict=False):
        execution = dataclasses.asdict(trainer.acceleration) | {"workers": 1, "host": socket.gethostname()}
        now = {name: value for name, value in dataclasses.asdict(result).items() if value is not None}
        for name in sorted(then.keys() | now.keys()):
            if name in NOT_NUMBERS_OF_THE_TRAINING or name.startswith(USAGE):
                continue
            difference = _subtract(then.get(name), now.get(name))
            if difference > 0:
                differences[name] = max(differences.get(name, 0.0), difference)
            if name == metric:
                objective_difference = max(objective_difference, difference)
        value = sign * now[metric]
        best = max(best, value)
    return Reproduction(
        trial.name,
        len(trial.epochs),
        trial.value,
        sign * best if math.isfinite(best) else math.nan,
        objective_difference,
        differences,
        tuple(_compare(attributes, provenance, trial.execution, execution)),
    )


def _subtract(then: float | None, now: float | None) -> float:
    if then is None or now is None:
        return math.inf
    if math.isnan(then) and math.isnan(now):
        return 0.0
    difference = abs(then - now)
    return math.inf if math.isnan(difference) else difference


def _compare(
    attributes: Mapping[str, Any],
    provenance: Mapping[str, Any],
    execution_then: Mapping[str, Any],
    execution_now: Mapping[str, Any],
) -> list[str]:
    """Say what is not as it was."""
    versions_then, versions_now = attributes.get("versions", {}), provenance.get("versions", {})
    pairs = [(f"{name}", versions_then.get(name), versions_now.get(name)) for name in versions_then]
    pairs.append(("the commit", attributes.get("git_commit"), provenance.get("git_commit")))
    pairs += [(name, value, execution_now.get(name)) for name, value in execution_then.items()]
    return [f"{name} was {then}, is {now}" for name, then, now in pairs if then != now]
