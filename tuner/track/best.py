"""A search's best trials, and its best configuration."""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path

from tuner.errors import SearchNotFoundError
from tuner.spec import dominance, load_text
from tuner.spec.search import Objective, TrainingSpec
from tuner.track.ledger import Ledger, StageLedger, TrialRecord


def rank_trials(trials: Iterable[TrialRecord], *, maximize: bool) -> list[TrialRecord]:
    """Return the trials that have a result, best first; of equals, the earlier one."""
    finite = [trial for trial in trials if math.isfinite(trial.value)]
    return sorted(finite, key=lambda trial: -trial.value if maximize else trial.value)


def find_source(stages: Sequence[StageLedger]) -> StageLedger | None:
    """Return the stage that whatever follows a search goes on from.

    Parameters
    ----------
    stages : sequence of StageLedger
        In their order.

    Returns
    -------
    StageLedger or None
        The latest in which a trial is complete; if there is none, the latest that has ended and has a result: halving
        may let nothing come to the last epoch. None if there is none such either.
    """
    latest = list(reversed(stages))
    complete = (stage for stage in latest if any(trial.state == "complete" for trial in stage.trials()))
    ended = (stage for stage in latest if stage.attributes.get("ended") and rank_trials(stage.trials(), maximize=True))
    return next(complete, None) or next(ended, None)


def find_front(trials: Sequence[TrialRecord], objective: Objective) -> set[int]:
    """Find the Pareto front: the trials with a result that no other beats in every objective.

    Parameters
    ----------
    trials : sequence of TrialRecord
        Of one stage; each counts with what it measured at its best epoch, however long it trained.
    objective : Objective
        What counts.

    Returns
    -------
    set of int
        The trials' numbers; empty where there is one objective.
    """
    if not objective.also:
        return set()
    sign = 1.0 if objective.mode == "max" else -1.0
    able = [trial for trial in trials if trial.best_epoch]
    results = [(sign * trial.value, *objective.read_also(trial.epochs[trial.best_epoch - 1])) for trial in able]
    return {trial.number for trial, is_member in zip(able, dominance.find_front(results), strict=True) if is_member}


def describe_training(trial: TrialRecord, stage: StageLedger, search: str) -> TrainingSpec:
    """Say how a trial is trained again."""
    spec = load_text(stage.attributes["spec"], "the ledger")
    own = next(s for s in spec.stages if s.name == stage.name)
    return TrainingSpec(
        name=spec.name,
        data=spec.data,
        objective=spec.objective.model_copy(update={"also": ()}),
        config=dict(trial.config),
        epochs=own.max_epochs,
        fidelity=own.fidelity,
        seed=trial.seed,
        origin=f"{search}/{trial.name}",
    )


def find_trial(stage: StageLedger, number: int) -> TrialRecord:
    """Find a trial of a stage by its number.

    Raises
    ------
    SearchNotFoundError
        If there is none.
    """
    trials = stage.trials()
    if number >= len(trials):
        have = f"it has 0 to {len(trials) - 1}" if trials else "it has none yet"
        raise SearchNotFoundError(f"search {stage.search!r} has no trial {number} in stage {stage.name!r}; {have}")
    return trials[number]


def find_best(folder: Path, stage_name: str | None = None, number: int | None = None) -> TrainingSpec:
    """Find the best trial of a search and say how to train it again.

    Parameters
    ----------
    folder : Path
        The search's folder.
    stage_name : str or None
        Its stage; None for all of them; of equals, the later stage's.
    number : int or None
        The trial, of the last stage if none is named; None for the best.

    Raises
    ------
    SearchNotFoundError
        If there is no such search, stage or trial, or none has a result yet.
    """
    stages = Ledger.open(folder).stages()
    chosen: list[tuple[TrialRecord, StageLedger]] = []
    for stage in reversed([stage for stage in stages if stage_name in {None, stage.name}]):
        if number is not None:
            return describe_training(find_trial(stage, number), stage, folder.name)
        chosen += [(trial, stage) for trial in rank_trials(stage.trials(), maximize=stage.maximize)[:1]]
    if not chosen:
        raise SearchNotFoundError(
            f"search {folder.name!r} has no result"
            + (f" in a stage {stage_name!r}" if stage_name else "")
            + f" yet; its stages: {', '.join(stage.name for stage in stages) or 'none'}"
        )
    best = rank_trials((trial for trial, _ in chosen), maximize=chosen[0][1].maximize)[0]
    return describe_training(best, next(stage for trial, stage in chosen if trial is best), folder.name)
