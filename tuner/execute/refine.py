"""From what a search has found to a search that follows it, written down and not run."""

from dataclasses import dataclass
from pathlib import Path

from tuner.errors import SearchNotFoundError
from tuner.execute.views import read_kinds, view_records
from tuner.spec import load_text
from tuner.spec.annotate import dump_annotated_spec
from tuner.spec.search import Narrow, SearchSpec, Stage
from tuner.spec.space import Space
from tuner.strategy.findings import describe_unfinished
from tuner.strategy.importance import MIN_TRIALS
from tuner.strategy.narrow import Narrowing, narrow
from tuner.strategy.ranking import rank_trials
from tuner.track.best import find_source
from tuner.track.ledger import Ledger, StageLedger

MOST_EPOCHS = 100_000  # that a stage may have


@dataclass(frozen=True)
class Refinement:
    """A search that follows another one.

    Attributes
    ----------
    spec : SearchSpec
        The search.
    narrowing : Narrowing
        Its space, and why it is so.
    text : str
        The search as YAML, with the reasons as comments.
    """

    spec: SearchSpec
    narrowing: Narrowing
    text: str


def refine_search(
    folder: Path, name: str, *, stage_name: str | None = None, keep: float | None = None, margin: float | None = None
) -> Refinement:
    """Narrow the space of a stage, and write the search that goes on from there.

    It has all that the earlier search has, but of its stages only the last, what was tried first no more, and it
    learns from the earlier search. That stage is longer if half or more of the trials that came to its end were still
    improving there.

    Parameters
    ----------
    folder : Path
        The earlier search's; it may still be running.
    name : str
        The new search's.
    stage_name : str or None
        Whose trials tell how to narrow; None for the last stage that has begun.
    keep, margin : float or None
        As in `Narrow`; None for what the earlier search's last stage has.

    Raises
    ------
    SearchNotFoundError
        If there is no such search or stage, or too few of its trials have a result.
    SpecError
        If what comes out is no search.
    """
    stages = Ledger.open(folder).stages()
    stage = _choose_stage(folder.name, stages, stage_name)
    asked = load_text(stages[-1].attributes["asked"], f"the ledger of search {folder.name!r}")
    last = asked.stages[-1]
    given = {key: value for key, value in (("keep", keep), ("margin", margin)) if value is not None}
    how = (last.narrow or Narrow()).model_copy(update=given)
    resting = [record for record in stage.trials() if record.state != "running"]  # those that wait at a rung too
    trials = view_records(resting, asked.objective, maximize=stage.maximize)
    if (num_ranked := len(rank_trials(trials))) < MIN_TRIALS:
        raise SearchNotFoundError(
            f"search {folder.name!r}: of stage {stage.name!r} {num_ranked} trials have ended or wait with a result, "
            f"and {MIN_TRIALS} are needed to narrow its space; let it go on, or name another stage with --stage"
        )
    if find_source(stages) is None:
        raise SearchNotFoundError(
            f"search {folder.name!r} has no complete trial yet, so none that the next search could learn from; let "
            "it go on"
        )
    kinds = read_kinds(resting)
    narrowing = narrow(stage.space, trials, how, kinds)
    own = next((one for one in asked.stages if one.name == stage.name), last)
    unfinished = describe_unfinished(trials, kinds) if own.max_epochs >= last.max_epochs else ""
    longer = last.max_epochs * (last.halving.reduction if last.halving is not None else 2) if unfinished else 0
    again = last.model_copy(update={"max_epochs": min(longer, MOST_EPOCHS) or last.max_epochs})
    spec = asked.model_copy(
        update={
            "name": name,
            "space": narrowing.space,
            "stages": (_repeat(again, narrowing.space),),
            "first": (),
            "warm_start": (folder.name,),
        }
    )
    heading = (
        f"Search {folder.name} goes on here, in its space as {len(trials)} trials of its stage {stage.name} narrow "
        f"it (keep {how.keep:g}, margin {how.margin:g}). Above each hyperparameter stands what became of it, "
        "and why."
    )
    comments = {
        reason.name: f"{reason.action}, from {reason.num_trials} trials: {reason.change}; {reason.text}"
        for reason in narrowing.reasons
    }
    if again != last:
        comments[f"stages.{last.name}"] = (
            f"max_epochs {last.max_epochs} -> {again.max_epochs}, one rung more: {unfinished}"
        )
    text = dump_annotated_spec(spec, heading, comments)
    return Refinement(load_text(text, f"what follows on search {folder.name!r}"), narrowing, text)


def _choose_stage(search: str, stages: list[StageLedger], stage_name: str | None) -> StageLedger:
    """Return the named stage, or the last.

    Raises
    ------
    SearchNotFoundError
        If there is none.
    """
    if not stages:
        raise SearchNotFoundError(f"search {search!r} has begun no stage yet; start it with: tuner run SPEC")
    chosen = [stage for stage in stages if stage_name in {None, stage.name}]
    if not chosen:
        names = ", ".join(stage.name for stage in stages)
        raise SearchNotFoundError(f"search {search!r} has no stage {stage_name!r}; it has: {names}")
    return chosen[-1]


def _repeat(stage: Stage, space: Space) -> Stage:
    """Return a stage as the only one of a search with that space, which a grid may be done with sooner."""
    points = space.count_points() if stage.sampler == "grid" else None
    return stage.model_copy(update={"trials": min(stage.trials, points or stage.trials)})
