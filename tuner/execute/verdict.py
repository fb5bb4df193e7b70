"""What the test set says: of the model, of the search, and of choosing by validation."""

import dataclasses
import datetime
import json
import math
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tuner.errors import RunError
from tuner.execute.checkpoints import Checkpoints
from tuner.execute.finalize import BASELINE, rank_contenders, refuse_no_result
from tuner.execute.remote import publish
from tuner.execute.scoring import Score
from tuner.execute.task import MODEL
from tuner.spec.search import SearchSpec
from tuner.track.artifacts import CARD, OUTCOME, hash_file, write_model_card
from tuner.track.export_model import export_model
from tuner.track.ledger import Ledger, StageLedger, TrialRecord
from tuner.track.plain import make_plain
from tuner.train.checkpoint import load_model
from tuner.train.data import LabelledImages, Opening, load_splits, open_images, prepare, prepare_test
from tuner.train.measures import (
    WITHIN,
    Interval,
    Measures,
    bound_accuracy,
    bound_mean,
    compare_paired,
    measure,
    vote_hard,
    vote_softly,
)

Hits = NDArray[np.bool_]
NORMAL = 1.959963984540054  # how many deviations lie to each side of 95%


def reach_verdict(
    spec: SearchSpec,
    ledger: Ledger,
    final: StageLedger,
    retrained: StageLedger | None,
    folder: Path,
    cache: Path,
    score: Score,
    *,
    is_again: bool,
    say: Callable[[str], None],
) -> None:
    """Choose the model, open the test set, record what it says, and write the model's files.

    Parameters
    ----------
    spec : SearchSpec
        That of the final trainings.
    ledger : Ledger
        The search's.
    final, retrained : StageLedger, StageLedger or None
        The trainings over several seeds; and the one on all images, if there is one.
    folder, cache : Path
        The search's folder and that of decoded images.
    score : function of names of trials and an Opening
        Yields what their models make of the test images.
    is_again : bool
        Whether the test set may have been opened before.
    say : function
        Told, in one line, what is worth telling.

    Raises
    ------
    RunError
        If no training has a result.
    """
    ranked = [(contender, trials) for contender, trials in rank_contenders(final) if trials]
    best = [(contender, trials) for contender, trials in ranked if contender["value"] is not None]
    refuse_no_result([trial for _, trials in best for trial in trials], final)
    sign = 1.0 if final.maximize else -1.0
    members = [max(trials, key=lambda trial: sign * trial.value) for _, trials in best]
    chosen = members[0] if retrained is None else _find_retrained(retrained)
    train_data = prepare(spec.data, cache)
    splits = load_splits(spec.data, cache)
    opening = Opening(lambda: _record_opening(ledger, final, is_again=is_again))
    say("the test set is opened, and the ledger says so")
    test_data = prepare_test(spec.data, cache, train_data, opening)
    test = open_images(test_data, opening)
    names = dict.fromkeys(trial.name for trial in (*(trial for _, trials in ranked for trial in trials), chosen))
    kept: dict[str, NDArray[np.float64]] = {}  # all else is let go of at once: a large test set's take a while to hold
    right: dict[str, NDArray[np.bool_]] = {}
    where: set[str] = set()
    for scored in score(tuple(names), opening):
        right[scored.trial] = scored.probabilities.argmax(axis=1) == test.labels
        where.add(scored.where)
        if scored.trial in {trial.name for trial in (*members, chosen)}:
            kept[scored.trial] = scored.probabilities
    say(f"{len(names)} models have scored its {len(test.labels):,} images, on {'; '.join(sorted(where))}")
    hits = {contender["name"]: np.array([right[trial.name] for trial in trials]) for contender, trials in ranked}
    measures = measure(kept[chosen.name], test.labels, splits.superclasses)
    own_hits = right[chosen.name]
    generator = np.random.default_rng(spec.seed)
    winner = best[0][0]["name"]
    outcome = make_plain(
        {
            "winner": winner,
            "model": {
                "trial": chosen.name,
                "seed": chosen.seed,
                "epochs": chosen.best_epoch if retrained is None else len(chosen.epochs),
                "is_retrained": retrained is not None,
                "config": dict(chosen.config),
                "sha256": hash_file(_model_path(folder, chosen)),
            },
            "metric": spec.objective.metric,
            "contenders": [
                _describe(contender, trials, hits[contender["name"]], spec.objective.metric)
                for contender, trials in ranked
            ],
            "class_names": list(test.class_names),
            "data": {
                "name": spec.data.name,
                "train": train_data.content,
                "test": test_data.content,
                "num_train": len(splits.train) + (0 if retrained is None else len(splits.validation)),
                "num_validation": len(splits.validation),
                "num_test": len(test.labels),
            },
            "scored_on": sorted(where),
            "test": _describe_measures(measures) | {"interval": bound_accuracy(own_hits)},
            "gains": [
                {
                    "over": contender[BASELINE],
                    "is_winner": contender["name"] == winner,
                    **dataclasses.asdict(compare_paired(hits[winner], hits[contender["name"]], generator)),
                }
                for contender, _ in ranked
                if BASELINE in contender
            ],
            "ensemble": {
                "members": [member.name for member in members],
                **_let_vote([kept[member.name] for member in members], test, generator),
            },
            "warnings": [
                *_warn_of_disagreement(best[0][1], hits[winner], len(splits.validation), winner),
                *_warn_of_order(best, hits, generator),
            ],
        }
    )
    write_final_files(folder, final, chosen, outcome)
    openings = final.attributes["openings"]
    final.set(openings=[*openings[:-1], {**openings[-1], "outcome": outcome}])


def write_final_files(folder: Path, final: StageLedger, chosen: TrialRecord, outcome: Mapping[str, Any]) -> None:
    """Write the model, its card, what was measured, and the model as MLflow has models.

    Raises
    ------
    RunError
        If they cannot be written.
    """
    target = folder / "artifacts" / final.name
    try:
        target.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(_model_path(folder, chosen), target / MODEL)
        (target / OUTCOME).write_text(json.dumps(outcome, indent=2) + "\n")
        write_model_card(target / CARD, final, outcome)
        classifier, description = load_model(target / MODEL)
        height, width, channels = description.image_shape
        example = np.full((2, channels, height, width), 128, dtype=np.float32)
        card = {"search": final.search, "trial": chosen.name, "sha256": outcome["model"]["sha256"]}
        export_model(classifier, example, target / "mlflow_model", card, [target / MODEL, target / CARD])
        publish(folder, target)
    except OSError as error:
        raise RunError(
            f"{target}: the model's files cannot be written ({error.strerror}); free space there, then run the same "
            "command again"
        ) from error


def _let_vote(
    members: list[NDArray[np.float64]], test: LabelledImages, generator: np.random.Generator
) -> dict[str, Any]:
    """Measure what an ensemble gains over its first member, by each kind of vote."""
    alone = (members[0].argmax(axis=1) == test.labels)[None]
    votes = {"soft": vote_softly(members), "hard": vote_hard(members)}
    right = {kind: (vote.argmax(axis=1) == test.labels)[None] for kind, vote in votes.items()}
    return {
        kind: {"accuracy": float(hits.mean()), "gain": compare_paired(hits, alone, generator)}
        for kind, hits in right.items()
    }


def _model_path(folder: Path, trial: TrialRecord) -> Path:
    return Checkpoints(folder).fetch_model(trial.name)


def _find_retrained(retrained: StageLedger) -> TrialRecord:
    """Return the training on all images.

    Raises
    ------
    RunError
        If it has no result.
    """
    (trial,) = retrained.trials()
    if not trial.epochs or not math.isfinite(trial.values[-1]):
        raise RunError(
            f"{trial.name}: the training on all images has no result ({trial.reason}); leave --retrain out to have "
            "the best model of the others"
        )
    return trial


def _record_opening(ledger: Ledger, final: StageLedger, *, is_again: bool) -> None:
    """Record that the test set is opened now, and whether it was before."""
    earlier = [one for other in ledger.finals() for one in other.attributes.get("openings", [])]
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    own = final.attributes.get("openings", [])
    final.set(openings=[*own, {"time": now, "number": len(earlier) + 1, "again": is_again and bool(earlier)}])


def _describe(contender: Mapping[str, Any], trials: list[TrialRecord], hits: Hits, metric: str) -> dict[str, Any]:
    values = [trial.value for trial in trials]
    return {
        **contender,
        "validation": values,
        "mean": bound_mean(values, WITHIN[metric]),
        "test": hits.mean(axis=1).tolist(),
        "test_mean": bound_mean(hits.mean(axis=1).tolist(), WITHIN["val_accuracy"]),
    }


def _describe_measures(measures: Measures) -> dict[str, Any]:
    rows, columns = np.nonzero(measures.confusion)
    cells = [[int(r), int(c), int(measures.confusion[r, c])] for r, c in zip(rows, columns, strict=True)]
    return {**dataclasses.asdict(measures), "confusion": cells}


def _warn_of_disagreement(trials: list[TrialRecord], hits: Hits, num_validation: int, winner: str) -> list[str]:
    """Say so if the test images are found less often than validation promised, by more than chance."""
    promised = float(np.mean([trial.epochs[trial.best_epoch - 1]["val_accuracy"] for trial in trials]))
    found = float(hits.mean())
    pooled = (promised * num_validation + found * hits.shape[1]) / (num_validation + hits.shape[1])
    error = math.sqrt(pooled * (1 - pooled) * (1 / num_validation + 1 / hits.shape[1]))
    if promised - found <= NORMAL * error:
        return []
    return [
        f"validation promised {promised:.2%} of {winner} and the test images give {found:.2%}: more of a fall than "
        "chance explains. The search has fitted its validation images, or the test images are of another kind; set "
        "aside more for validation (data.validation), or search less"
    ]


def _warn_of_order(
    best: list[tuple[dict[str, Any], list[TrialRecord]]], hits: Mapping[str, Hits], generator: np.random.Generator
) -> list[str]:
    """Say so if another of the best is clearly better on the test images than the one that validation chose."""
    warnings = []
    winner = best[0][0]["name"]
    for contender, _ in best[1:]:
        lead: Interval = compare_paired(hits[contender["name"]], hits[winner], generator)
        if lead.low > 0:
            warnings.append(
                f"{contender['name']} finds {lead.estimate:.2%} more of the test images than {winner}, which "
                "validation chose; the choice stays, for a figure by which one chooses is no test any more"
            )
    return warnings
