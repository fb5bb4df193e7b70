"""A finished search under other settings of halving, by its ledger."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tuner.errors import InputError, SearchNotFoundError
from tuner.execute.stage_run import AUDITED
from tuner.execute.views import view_record
from tuner.spec import load_text
from tuner.spec.search import Halving
from tuner.strategy.halving import find_rungs
from tuner.strategy.replay import Outcome, replay_stage
from tuner.strategy.stage_search import derive_stage_seed
from tuner.track.ledger import Ledger

REPLAYS = 10


@dataclass(frozen=True)
class Replay:
    """A stage as it was, and what it would have been.

    Attributes
    ----------
    stage, metric : str, str
        Whose, and of what.
    sign : float
        What the metric was multiplied with so that larger is better.
    num_trials : int
        How many.
    rungs : tuple of int
        With the other settings.
    recorded : Outcome
        What happened.
    replayed : tuple of Outcome
        What would have, each with other guesses of what is not on record.
    """

    stage: str
    metric: str
    sign: float
    num_trials: int
    rungs: tuple[int, ...]
    recorded: Outcome
    replayed: tuple[Outcome, ...]


def replay_search(
    folder: Path, settings: dict[str, object], *, stage_name: str | None, workers: int, seed: int
) -> Replay:
    """Replay a stage of a search.

    Parameters
    ----------
    folder : Path
        The search's.
    settings : dict
        What is other in its section ``halving``.
    stage_name : str or None
        Which stage; None for the last one.
    workers : int
        How many trials train at once.
    seed : int
        What guesses are drawn from.

    Raises
    ------
    SearchNotFoundError
        If there is no such search or stage, or it has not ended.
    InputError
        If the settings are none that halving has.
    """
    stages = Ledger.open(folder).stages()
    if not stages:
        raise SearchNotFoundError(f"search {folder.name!r} has begun no stage yet; start it with: tuner run SPEC")
    chosen = [stage for stage in stages if stage_name in {None, stage.name}]
    names = ", ".join(stage.name for stage in stages)
    if not chosen:
        raise SearchNotFoundError(f"search {folder.name!r} has no stage {stage_name!r}; it has: {names}")
    ledger = chosen[-1]
    records = ledger.trials()
    if not ledger.attributes.get("ended") or not any(record.state == "complete" for record in records):
        raise SearchNotFoundError(
            f"search {folder.name!r}: stage {ledger.name!r} has not ended, or with no complete trial; let it go on, or "
            f"name another with --stage (there are: {names})"
        )
    spec = load_text(ledger.attributes["spec"], "the ledger")
    stage = next(one for one in spec.stages if one.name == ledger.name)
    own = (stage.halving or Halving()).model_dump()
    if stage.halving is not None and AUDITED in ledger.attributes:  # as drawn, though there may be more trials now
        own["audit"] = ledger.attributes[AUDITED]
    halving = Halving.model_validate(own | settings)
    if halving.min_epochs > stage.max_epochs:
        raise InputError(
            f"--min-epochs: must be at most the stage's max_epochs, {stage.max_epochs}, found {halving.min_epochs}"
        )
    sign = 1.0 if ledger.maximize else -1.0
    views = [view_record(record, sign, spec.objective, halving.axis) for record in records]
    spent = [[epoch.get("seconds", 1.0) for epoch in record.epochs] for record in records]
    usual = float(np.median([second for each in spent for second in each]))
    seconds = [float(np.mean(each)) if each else usual for each in spent]
    usual_cost = float(np.median([view.cost for view in views if view.values]))
    views = [view if view.values else dataclasses.replace(view, cost=usual_cost) for view in views]
    recorded = Outcome(
        epochs=sum(map(len, spent)),
        seconds=sum(map(sum, spent)),
        best=max(view.best for view in views),
        is_best_known=True,
        num_complete=sum(view.state == "complete" for view in views),
        num_guessed=0,
    )
    other = stage.model_copy(update={"halving": halving})
    replayed = tuple(
        replay_stage(
            views,
            seconds,
            other,
            ledger.space,
            workers=workers,
            seed=derive_stage_seed(spec.seed, ledger.attributes.get("index", 0)),
            rng=np.random.default_rng((seed, draw)),
            num_objectives=1 + len(spec.objective.also),
        )
        for draw in range(REPLAYS)
    )
    rungs = find_rungs(halving, stage.max_epochs)
    return Replay(ledger.name, ledger.attributes["metric"], sign, len(views), rungs, recorded, replayed)
