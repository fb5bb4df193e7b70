"""A search's best configuration."""

from pathlib import Path

from tuner.errors import SearchNotFoundError
from tuner.report.leaderboard import rank
from tuner.spec import load_text
from tuner.spec.search import TrainingSpec
from tuner.track.ledger import Ledger


def find_best(folder: Path, stage_name: str | None = None, number: int | None = None) -> TrainingSpec:
    """Find the best trial of a search and say how to train it again.

    Parameters
    ----------
    folder : Path
        The search's folder.
    stage_name : str or None
        Its stage; None for the last one with a result.
    number : int or None
        The trial; None for the best.

    Returns
    -------
    TrainingSpec
        The trial's config, data, length and seed.

    Raises
    ------
    SearchNotFoundError
        If there is no such search, stage or trial, or none has a result yet.
    """
    stages = Ledger.open(folder).stages()
    names = ", ".join(stage.name for stage in stages) or "none"
    for stage in reversed(stages):
        if stage_name not in {None, stage.name}:
            continue
        trials = stage.trials()
        ranked = rank([trial.value for trial in trials], maximize=stage.maximize)
        if number is not None:
            chosen = [trial for trial in trials if trial.number == number]
            if not chosen:
                raise SearchNotFoundError(
                    f"search {folder.name!r} has no trial {number} in stage {stage.name!r}; it has 0 to {len(trials) - 1}"
                )
        elif ranked:
            chosen = [trials[ranked[0]]]
        else:
            continue
        spec = load_text(stage.attributes["spec"], stage.name)
        return TrainingSpec(
            name=spec.name,
            data=spec.data,
            objective=spec.objective,
            config=dict(chosen[0].config),
            epochs=next(s.max_epochs for s in spec.stages if s.name == stage.name),
            seed=chosen[0].seed,
            origin=f"{folder.name}/{chosen[0].name}",
        )
    raise SearchNotFoundError(
        f"search {folder.name!r} has no result" + (f" in a stage {stage_name!r}" if stage_name else "") + f"; its stages: {names}"
    )
