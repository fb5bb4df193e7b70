"""What came out of a search, as one page: from its ledger and from nothing else."""

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tuner.errors import SearchNotFoundError
from tuner.report.explain import describe_audit, describe_diagnoses
from tuner.report.figures import (
    StageView,
    draw_best_losses,
    draw_calibration,
    draw_complexity,
    draw_confusion,
    draw_contour,
    draw_curves,
    draw_importances,
    draw_overfitting,
    draw_parallel,
    draw_recalls,
    draw_slice,
    draw_spaces,
    draw_survival,
    draw_timeline,
    find_segments,
    measure_idle,
    place_segments,
)
from tuner.report.leaderboard import describe_config, format_objective, format_seconds
from tuner.report.page import Panel, Section, Table, build_page
from tuner.spec import load_text
from tuner.spec.space import Choice
from tuner.strategy.importance import Importance, find_importances
from tuner.strategy.ranking import rank_trials as rank_views
from tuner.strategy.trial_view import TrialView
from tuner.track.best import rank_trials
from tuner.track.ledger import Ledger, StageLedger

LISTED = 100  # trials in the table of the best
WEIGHED, SLICED = 20, 12  # hyperparameters, the most important ones
STATES = ("complete", "stopped", "diverged", "failed", "running", "paused")


def build_report(folder: Path) -> str:
    """Write a search's page, also of one that still runs.

    Parameters
    ----------
    folder : Path
        The search's.

    Returns
    -------
    str
        The HTML.

    Raises
    ------
    SearchNotFoundError
        If there is no such search, or it has begun no stage.
    """
    ledger = Ledger.open(folder)
    stages = ledger.stages()
    if not stages:
        raise SearchNotFoundError(f"search {folder.name!r} has begun no stage yet; start it with: tuner run SPEC")
    views = [view_stage(stage) for stage in stages]
    openings = list_openings(ledger)
    sections = [_overview(stages, views)]
    if openings:
        sections.append(_outcome(openings))
    for stage, view in zip(reversed(stages), reversed(views), strict=True):
        sections.append(_stage(stage, view))
    sections += [_space(stages, views), _cost(views), _workers(views)]
    return build_page(f"Search {folder.name}", _lead(stages, views, openings), sections)


def view_stage(stage: StageLedger) -> StageView:
    """Show a stage to the figures."""
    return StageView(stage.name, stage.attributes["metric"], stage.maximize, stage.space, tuple(stage.trials()))


def list_openings(ledger: Ledger) -> list[dict[str, Any]]:
    """Return what each opening of the test set said, the first one first."""
    openings = [opening for final in ledger.finals() for opening in final.attributes.get("openings", [])]
    return sorted((opening for opening in openings if "outcome" in opening), key=lambda opening: opening["number"])


def weigh_parameters(view: StageView) -> dict[str, Importance]:
    """Find how much each hyperparameter explains of which trials of a stage are good."""
    sign = 1.0 if view.maximize else -1.0
    trials = [TrialView(t.number, t.config, tuple(sign * value for value in t.values), t.state) for t in view.trials]
    losers = [trial for trial in trials if trial.state in {"diverged", "failed"}]
    return find_importances(view.space, rank_views(trials), losers)


def _lead(stages: Sequence[StageLedger], views: Sequence[StageView], openings: Sequence[Any]) -> list[str]:
    asked = load_text(stages[-1].attributes["asked"], "the ledger")
    running = [stage.name for stage in stages if not stage.attributes.get("ended")]
    waiting = [stage.name for stage in asked.stages[len(stages) :]]
    lead, ended = [], stages[-1].attributes.get("ended")
    if not running and ended != "complete":
        left = f", before stage {waiting[0]} began" if waiting else ""
        lead.append(f"This search ended early: {ended}{left}.")
    elif running or waiting:
        state = f"stage {running[-1]} has not ended" if running else f"stage {waiting[0]} has not begun"
        lead.append(f"This search is not over: {state}. What follows is what it has so far.")
    best = [(view, rank_trials(view.trials, maximize=view.maximize)[:1]) for view in reversed(views)]
    found = [(view, ranked[0]) for view, ranked in best if ranked]
    if found:
        sign = 1.0 if views[0].maximize else -1.0
        view, trial = max(found, key=lambda one: sign * one[1].value)
        config = describe_config(trial.config, [parameter.name for parameter in view.searched])
        lead.append(
            f"On {asked.data.name}, the best {view.metric} is {format_objective(trial.value, view.metric)}, of trial "
            f"{trial.name} at epoch {trial.best_epoch}: {config}."
        )
    if openings:
        test = openings[-1]["outcome"]["test"]
        lead.append(
            f"The test set was opened {len(openings)} time{'s' if len(openings) > 1 else ''}; the model that was "
            f"chosen finds {test['accuracy']:.2%} of it ({test['interval']['low']:.2%} to "
            f"{test['interval']['high']:.2%})."
        )
    else:
        lead.append("The test set has not been opened: every figure here is of validation images.")
    return lead


def _overview(stages: Sequence[StageLedger], views: Sequence[StageView]) -> Section:
    rows = []
    for stage, view in zip(stages, views, strict=True):
        counts: Counter[str] = Counter(trial.state for trial in view.trials)
        ranked = rank_trials(view.trials, maximize=view.maximize)
        rows.append(
            [
                view.name,
                str(len(view.trials)),
                *(str(counts[state]) for state in STATES),
                f"{sum(len(trial.epochs) for trial in view.trials):,}",
                format_seconds(stage.attributes.get("elapsed_s", 0.0)),
                format_objective(ranked[0].value, view.metric) if ranked else "",
                stage.attributes.get("ended") or "not yet",
            ]
        )
    head = ("stage", "trials", *STATES, "epochs", "time", f"best {views[0].metric}", "ended")
    return Section("Overview", [Panel("Stages", Table(head, rows), is_wide=True)])


def _stage(stage: StageLedger, view: StageView) -> Section:
    ranked = rank_trials(view.trials, maximize=view.maximize)
    searched = [parameter.name for parameter in view.searched]
    rows = [
        [
            str(trial.number),
            format_objective(trial.value, view.metric),
            str(trial.best_epoch),
            str(len(trial.epochs)),
            trial.state,
            str(trial.diagnosis.get("kind", "")),
            describe_config(trial.config, searched),
        ]
        for trial in ranked[:LISTED]
    ]
    board = Table(("trial", view.metric, "at epoch", "of", "state", "its curves", "config"), rows)
    panels = [Panel("Learning curves", draw_curves(view), "Each trial, coloured by how it ended.", is_wide=True)]
    if ranked and searched:
        weights = weigh_parameters(view)
        panels.append(
            Panel(
                "All hyperparameters at once",
                draw_parallel(view),
                "Drag along an axis to see only the trials that pass there; drag a name to move its axis.",
                is_wide=True,
            )
        )
        panels += _explain(view, weights)
    panels.append(Panel("How long trials trained", draw_survival(view), "Each step down is a rung that stopped some."))
    panels.append(
        Panel(
            "Validation against training",
            draw_overfitting(view),
            "Below the dotted line a trial does better on what it trained on: the further, the more it overfits. Above "
            "it, dropout and augmentation make training the harder task.",
        )
    )
    if ranked:
        panels.append(Panel("Losses of the best trial", draw_best_losses(view, ranked[0])))
    panels.append(Panel(f"The best {len(rows)} of {len(view.trials)} trials", board, is_wide=True))
    text = [line.strip() for line in (*describe_diagnoses(view.trials), *describe_audit(stage.attributes.get("audit")))]
    return Section(f"Stage {view.name}", panels, text)


def _explain(view: StageView, weights: Mapping[str, Importance]) -> list[Panel]:
    """Draw what matters, and each hyperparameter by itself, the most important one first."""
    shares = {name: weight.share for name, weight in list(weights.items())[:WEIGHED]}
    clear = [name for name, weight in weights.items() if weight.is_clear]
    left_out = f" The {len(weights) - WEIGHED} that explain least are left out." if len(weights) > WEIGHED else ""
    panels = [
        Panel(
            "What matters",
            draw_importances(view, shares, clear),
            "The share of the differences between trials' places that each hyperparameter explains, less what chance "
            f"would; what more important ones explain was taken off before it was judged.{left_out}",
        )
    ]
    order = [view.space[name] for name in weights]
    ranges = [parameter for parameter in order if not isinstance(parameter.distribution, Choice)]
    for first, second in itertools.combinations(ranges, 2):
        if (contour := draw_contour(view, first, second)) is not None:
            text = "A local mean over the two ranges that matter most together; between the trials it is a guess."
            panels.append(Panel(f"{first.name} and {second.name}", contour, text))
            break
    return panels + [Panel(parameter.name, draw_slice(view, parameter)) for parameter in order[:SLICED]]


def _space(stages: Sequence[StageLedger], views: Sequence[StageView]) -> Section:
    panels = []
    if (figure := draw_spaces(views)) is not None:
        panels.append(Panel("Ranges, stage by stage", figure, is_wide=True))
    for stage in stages:
        reasons = stage.attributes["narrowing"]
        rows = [[r["name"], r["before"], r["after"], r["action"], r["text"], str(r["num_trials"])] for r in reasons]
        if rows:
            head = ("hyperparameter", "before", "now", "", "why", "trials")
            panels.append(Panel(f"What stage {stage.name} searches, and why", Table(head, rows), is_wide=True))
    return Section("The space", panels)


def _cost(views: Sequence[StageView]) -> Section:
    text = "The dotted line is the best for its cost."
    return Section(
        "Accuracy and complexity",
        [
            Panel(title, draw_complexity(views, cost), text)
            for title, cost in (("Against parameters", "parameters"), ("Against multiply-adds", "multiply_adds"))
        ],
    )


def _workers(views: Sequence[StageView]) -> Section:
    segments = find_segments(trial for view in views for trial in view.trials)
    lanes = place_segments(segments)
    idle = measure_idle(segments, max(lanes, default=0) + 1)
    text = (
        f"{max(lanes, default=-1) + 1} workers, {idle:.1%} of their time without a training, from the first epoch to "
        "the last; that includes the starts, the ends of stages and the pauses between sittings. The ledger has when "
        "each epoch was trained, not by which worker, so that rows are worked out."
    )
    return Section("Workers", [Panel("Who trained when", draw_timeline(segments, lanes), text, is_wide=True)])


def _outcome(openings: Sequence[Mapping[str, Any]]) -> Section:
    outcome = openings[-1]["outcome"]
    metric, test, data = outcome["metric"], outcome["test"], outcome["data"]
    rows = []
    for one in outcome["contenders"]:
        mean, on_test = one["mean"], one["test_mean"]
        rows.append(
            [
                one["name"],
                format_objective(mean["estimate"], metric),
                ""
                if mean["low"] is None
                else f"{format_objective(mean['low'], metric)} to {format_objective(mean['high'], metric)}",
                "" if one["value"] is None else format_objective(one["value"], metric),
                f"{on_test['estimate']:.2%}",
                str(len(one["validation"])),
                describe_config(one["config"], one["config"]),
            ]
        )
    head = ("configuration", f"mean {metric}", "95% interval", "in the search", "mean test accuracy", "seeds", "config")
    figures = [
        ("accuracy", f"{test['accuracy']:.2%}", f"{test['interval']['low']:.2%} to {test['interval']['high']:.2%}"),
        ("top-5 accuracy", _percent(test["top5_accuracy"]), ""),
        ("superclass accuracy", _percent(test["superclass_accuracy"]), ""),
        ("loss", f"{test['loss']:.4f}", ""),
        ("expected calibration error", f"{test['calibration_error']:.2%}", ""),
        *(
            (f"gain over the {gain['over']} configuration", "none: it is the best one", "")
            if gain.get("is_winner")
            else (f"gain over the {gain['over']} configuration", f"{100 * gain['estimate']:+.2f} points", _points(gain))
            for gain in outcome["gains"]
        ),
        *(
            (
                f"{kind} vote of {len(outcome['ensemble']['members'])}, gain over the best single",
                f"{100 * outcome['ensemble'][kind]['gain']['estimate']:+.2f} points",
                _points(outcome["ensemble"][kind]["gain"]),
            )
            for kind in ("soft", "hard")
        ),
    ]
    table = Table(("", "", "95% interval"), [row for row in figures if row[1]])
    opened = [f"Opening {one['number']} at {one['time']}{', again' if one['again'] else ''}." for one in openings]
    model = outcome["model"]
    text = [
        f"The model is {model['trial']}, trained for {model['epochs']} epochs on {data['num_train']:,} images"
        f"{', those for validation among them' if model['is_retrained'] else ''}; SHA-256 {model['sha256']}.",
        *outcome["warnings"],
        *opened,
    ]
    num_test = f"{data['num_test']:,} images"
    panels = [
        Panel("The best over several seeds, and what no search chose", Table(head, rows), is_wide=True),
        Panel(f"On {num_test}", table),
        Panel("Calibration", draw_calibration(test), "Below the dotted line the model is surer than it is right."),
        Panel("Which class is taken for which", draw_confusion(test["confusion"], outcome["class_names"])),
        Panel("Class by class", draw_recalls(outcome)),
    ]
    return Section("The test set", panels, text)


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.2%}"


def _points(gain: Mapping[str, float]) -> str:
    return f"{100 * gain['low']:+.2f} to {100 * gain['high']:+.2f} points"
