"""The end of a search: its best configurations once more, and one look at the test set.

Nothing of the test set is known while anything is chosen: configurations are ranked, and the model is chosen, by
validation alone. Then the ledger gets the record that the test set is opened, and only then it is read.
"""

import functools
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tuner.errors import InputError, RunError, SearchNotFoundError
from tuner.execute.experiment import Surroundings, Watcher, mirrored, run_stages
from tuner.execute.notify import Event, notifying
from tuner.execute.scoring import scoring
from tuner.execute.task import Manner, TrainFunction
from tuner.spec import load_text
from tuner.spec.search import Limits, SearchSpec, Stage
from tuner.spec.space import Scalar
from tuner.strategy.contenders import draw_baselines, enclose
from tuner.track.best import find_source, rank_trials
from tuner.track.lease import Lease
from tuner.track.ledger import FINAL, Ledger, StageLedger, TrialRecord
from tuner.track.store import find_store
from tuner.train.data.folder import refuse_no_split

BASELINE = "baseline"  # in the record of a contender that there would be without a search: which one it is
RETRAINED = "-retrained"  # what follows a final's name in that of its last training of all


@dataclass(frozen=True)
class Request:
    """What is asked of the end of a search.

    Attributes
    ----------
    top : int, at least 1
        How many of its best configurations contend.
    seeds : int, at least 1
        How often each is trained.
    retrain : bool
        Whether the winner is trained once more, on the validation images too.
    again : bool
        Whether the test set may be opened although it was before.
    """

    top: int = 3
    seeds: int = 3
    retrain: bool = False
    again: bool = False


def finalize_search(
    name: str, request: Request, around: Surroundings, watcher: Watcher, *, train: TrainFunction | None = None
) -> str:
    """Train a search's best configurations over several seeds, rank them, and open the test set once.

    An interruption is gone on from by the same call.

    Parameters
    ----------
    name : str
        The search's.
    request : Request
        What is asked.
    around, watcher, train
        As for ``run_search``.

    Returns
    -------
    str
        ``complete`` or ``interrupted``.

    Raises
    ------
    InputError
        If there is no such search, too few of its configurations have a result, its data has no test split by the look
        of the training images, or the test set was opened before.
    RunError
        If it was begun and failed.
    """
    folder = around.results / name
    Ledger.open(folder)  # before a folder is made for what is no search
    with find_store(folder).claimed(watcher.say) as lease:
        ledger = Ledger.open(folder, lease=lease)
        spec, record = plan(ledger, request)
        known = find_final(ledger, record)
        refuse_second_opening(ledger, known, is_allowed=request.again)
        if spec.data.name in {"folder", "imagenet"} and spec.data.path and Path(spec.data.path).is_dir():
            refuse_no_split(Path(spec.data.path), "val" if spec.data.name == "imagenet" else "test")
        spec = name_stage(spec, ledger, known)
        stage = spec.stages[0]
        watcher.say(
            f"{stage.name}: the best {request.top} configurations and {len(spec.first) - request.top} that no search "
            f"chose, {request.seeds} times each: {stage.trials} trainings of {stage.max_epochs} epochs"
        )
        manner = Manner(repeats=request.seeds, models_kept=stage.trials)
        find = functools.partial(find_verdict, ledger, stage.name)
        left_by = None if known is None else lease.left_by
        with notifying(spec, around.webhook, find, watcher.say, left_by) as tell_all:

            def tell(event: Event) -> None:
                if event.kind == "failure":  # the first of the final trainings to end would be a new best
                    tell_all(event)

            if known is None or not known.attributes.get("ended"):
                own: dict[str, Any] = {"record": {FINAL: record}, "manner": manner, "tell": tell, "train": train}
                if run_stages(spec, ledger, lease, folder, around, watcher, **own) == "interrupted":
                    return "interrupted"
            final = ledger.stage(stage.name)
            assert final is not None, "it was just trained"
            retrained = None
            if request.retrain:
                if retrain(spec, final, ledger, lease, folder, around, watcher, tell, train) == "interrupted":
                    return "interrupted"
                retrained = ledger.stage(f"{final.name}{RETRAINED}")
            with mirrored(spec, folder, around, watcher) as mirror:
                with scoring(spec, final, folder, around) as score:
                    from tuner.execute.verdict import reach_verdict  # torch takes seconds to import

                    reach_verdict(
                        spec,
                        ledger,
                        final,
                        retrained,
                        folder,
                        around.cache,
                        score,
                        is_again=request.again,
                        say=watcher.say,
                    )
                mirror.notice()
    return "complete"


def find_verdict(ledger: Ledger, name: str, problem: str) -> Event:
    """Return how the end of a search went, for whoever is told of it.

    Parameters
    ----------
    ledger : Ledger
        The search's.
    name : str
        That of the final trainings.
    problem : str
        What it failed with; empty if it did not.
    """
    final = None if problem else ledger.stage(name)
    openings = [] if final is None else final.attributes.get("openings", [])
    if not openings or "outcome" not in openings[-1]:
        return Event("end", f"tuner finalize: {problem or 'interrupted'}")
    outcome = openings[-1]["outcome"]
    stage, _, number = outcome["model"]["trial"].rpartition("-")
    reason = f"finalized, with {outcome['test']['accuracy']:.2%} of {outcome['data']['num_test']:,} test images right"
    return Event("end", reason, stage, int(number), config=outcome["model"]["config"])


def plan(ledger: Ledger, request: Request) -> tuple[SearchSpec, dict[str, Any]]:
    """Choose who contends.

    Returns
    -------
    SearchSpec
        Their training, as the one stage of a search without a name yet.
    dict
        What is recorded of it.

    Raises
    ------
    SearchNotFoundError
        If no trial is complete, or fewer configurations than are asked for have a result.
    """
    stages = ledger.stages()
    trials = [(trial, stage) for stage in reversed(stages) for trial in stage.trials()]
    if find_source(stages) is None:
        raise SearchNotFoundError(
            f"search {ledger.search!r} has no complete trial yet; let it go on with tuner run SPEC"
        )
    ranked = rank_trials((trial for trial, _ in trials), maximize=stages[0].maximize)
    different: dict[frozenset[tuple[str, Scalar]], TrialRecord] = {}
    for trial in ranked:
        different.setdefault(frozenset(trial.config.items()), trial)
    if request.top > len(different):
        raise SearchNotFoundError(
            f"--top: search {ledger.search!r} has {len(different)} configurations with a result, found {request.top}; "
            "ask for fewer, or let the search go on"
        )
    best = list(different.values())[: request.top]
    asked = load_text(stages[-1].attributes["asked"], f"the ledger of search {ledger.search!r}")
    baselines = draw_baselines(stages[0].space, asked.seed)
    taken = [dict(trial.config) for trial in best]
    contenders = [{"name": trial.name, "config": dict(trial.config), "value": trial.value} for trial in best]
    for name, config in baselines.items():
        if config in taken:  # the search tries the middle itself
            contenders[taken.index(config)][BASELINE] = name
        else:
            taken.append(config)
            contenders.append({"name": name, "config": config, "value": None, BASELINE: name})
    last = asked.stages[-1]
    stage = Stage(
        name=FINAL,
        trials=len(taken) * request.seeds,
        max_epochs=last.max_epochs,
        halving=None,
        sampler="random",
        fidelity=last.fidelity,
    )
    spec = asked.model_copy(
        update={
            "objective": asked.objective.model_copy(update={"also": ()}),
            "space": enclose(stages[0].space, taken),
            "stages": (stage,),
            "limits": Limits(),
            "seed": int(np.random.SeedSequence([asked.seed, *FINAL.encode()]).generate_state(1)[0]),
            "first": tuple(taken),
            "warm_start": (),
        }
    )
    return spec, {"contenders": contenders, "top": request.top, "seeds": request.seeds}


def find_final(ledger: Ledger, record: Mapping[str, Any]) -> StageLedger | None:
    """Find what was begun with the same contenders and seeds."""
    return next((final for final in ledger.finals() if final.attributes[FINAL] == record), None)


def name_stage(spec: SearchSpec, ledger: Ledger, known: StageLedger | None) -> SearchSpec:
    """Give the stage the name of what is gone on with, or the next that no stage has: final-1, final-2."""
    taken = {stage.name for stage in ledger.everything()}
    number = 1
    while f"{FINAL}-{number}" in taken:
        number += 1
    name = f"{FINAL}-{number}" if known is None else known.name
    return spec.model_copy(update={"stages": (spec.stages[0].model_copy(update={"name": name}),)})


def refuse_second_opening(ledger: Ledger, known: StageLedger | None, *, is_allowed: bool) -> None:
    """See that the test set was not opened before; what an opening was cut short of may be gone on with.

    Raises
    ------
    InputError
        If it was, and that is not allowed.
    """
    for final in ledger.finals():
        for opening in final.attributes.get("openings", []):
            is_cut_short = known is not None and final.name == known.name and "outcome" not in opening
            if not is_allowed and not is_cut_short:
                raise InputError(
                    f"search {ledger.search!r}: its test set was opened at {opening['time']}; what it said is on "
                    f"record, see tuner report {ledger.search}. Whoever chooses by a test set has none any more, so "
                    "it is opened once; --again opens it all the same, and marks that in the ledger"
                )


def rank_contenders(final: StageLedger) -> list[tuple[dict[str, Any], list[TrialRecord]]]:
    """Return who contends, with the trials that have a result: those of the search by their mean, then the others."""
    record = final.attributes[FINAL]
    contenders, trials = record["contenders"], final.trials()
    grouped = [
        (contender, [t for t in trials if t.number % len(contenders) == i and t.best_epoch])
        for i, contender in enumerate(contenders)
    ]
    sign = 1.0 if final.maximize else -1.0

    def place(one: tuple[dict[str, Any], list[TrialRecord]]) -> tuple[bool, float]:
        contender, own = one
        mean = statistics.fmean(trial.value for trial in own) if own else -sign * np.inf
        return contender["value"] is None, -sign * mean

    return sorted(grouped, key=place)


def retrain(
    spec: SearchSpec,
    final: StageLedger,
    ledger: Ledger,
    lease: Lease,
    folder: Path,
    around: Surroundings,
    watcher: Watcher,
    tell: Callable[[Event], None],
    train: TrainFunction | None,
) -> str:
    """Train the winner once more, on the validation images too, for as long as was best: the median of its seeds.

    The learning rate's decay is that of the whole length, which is only left earlier.

    Returns
    -------
    str
        Why it ended, as ``run_search`` says.

    Raises
    ------
    RunError
        If no training of the winner has a result.
    """
    (winner, trials), *_ = rank_contenders(final)
    refuse_no_result(trials, final)
    num_epochs = round(statistics.median(trial.best_epoch for trial in trials))
    stage = spec.stages[0].model_copy(update={"name": f"{final.name}{RETRAINED}", "trials": 1})
    earlier = ledger.stage(stage.name)
    if earlier is not None and earlier.attributes.get("ended"):
        return "complete"
    own = spec.model_copy(
        update={
            "space": enclose(final.space, [winner["config"]]),
            "stages": (stage,),
            "limits": Limits(epochs=num_epochs),
            "first": (winner["config"],),
        }
    )
    record = {FINAL: {"contenders": [winner], "retrained": True, "epochs": num_epochs}}
    watcher.say(f"{winner['name']} is trained on all images, those for validation too, for {num_epochs} epochs")
    manner = Manner(is_whole=True)
    return run_stages(own, ledger, lease, folder, around, watcher, record=record, manner=manner, tell=tell, train=train)


def refuse_no_result(trials: Sequence[TrialRecord], final: StageLedger) -> None:
    """See that there is a model to go on with.

    Raises
    ------
    RunError
        If no training of the best configurations has a result.
    """
    if not trials:
        raise RunError(
            f"{final.name}: none of the trainings of the best configurations has a result, so there is no model; "
            f"tuner export {final.search} has the reasons"
        )
