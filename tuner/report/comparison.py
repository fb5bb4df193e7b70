"""Two searches beside each other."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tuner.errors import InputError, SearchNotFoundError
from tuner.report.figures import PALETTE, Figure, StageView
from tuner.report.leaderboard import format_objective, format_seconds
from tuner.report.page import Panel, Section, Table, build_page
from tuner.report.search_report import list_openings, view_stage
from tuner.spec import load_text
from tuner.spec.space import Space
from tuner.strategy.narrow import describe
from tuner.track.best import rank_trials
from tuner.track.ledger import Ledger


@dataclass(frozen=True)
class Progress:
    """The best objective of a search after so many of its epochs.

    Attributes
    ----------
    epochs : tuple of int
        Epochs trained in all, where the best one changed.
    values : tuple of float
        The objective from there on.
    """

    epochs: tuple[int, ...]
    values: tuple[float, ...]

    def at(self, epochs: int) -> float | None:
        """Return the best objective once so many epochs were trained; None before the first."""
        reached = [value for epoch, value in zip(self.epochs, self.values, strict=True) if epoch <= epochs]
        return reached[-1] if reached else None


def trace_progress(stages: Sequence[StageView]) -> Progress:
    """Follow the best objective of a search over the epochs of all its trials, in the order of their times."""
    sign = 1.0 if stages[0].maximize else -1.0
    events = sorted(
        (epoch.get("timestamp", 0.0), value)
        for stage in stages
        for trial in stage.trials
        for epoch, value in zip(trial.epochs, trial.values, strict=False)
    )
    epochs: list[int] = []
    values: list[float] = []
    for count, (_, value) in enumerate(events, start=1):
        if value == value and (not values or sign * value > sign * values[-1]):  # noqa: PLR0124 never so for NaN
            epochs.append(count)
            values.append(value)
    return Progress(tuple(epochs), tuple(values))


def count_epochs(stages: Sequence[StageView]) -> int:
    """Count the epochs that all trials of a search trained."""
    return sum(len(trial.epochs) for stage in stages for trial in stage.trials)


def draw_progress(searches: dict[str, tuple[Progress, int]], metric: str) -> Figure:
    """Draw the best objective of each search over the epochs that it trained, with how many these were in all."""
    data = []
    for i, (name, (progress, total)) in enumerate(searches.items()):
        if progress.values:
            data.append(
                {
                    "type": "scatter",
                    "mode": "lines",
                    "name": name,
                    "x": [*progress.epochs, total],
                    "y": [*progress.values, progress.values[-1]],
                    "line": {"shape": "hv", "width": 2, "color": PALETTE[i % len(PALETTE)]},
                }
            )
    layout: dict[str, Any] = {
        "xaxis": {"title": {"text": "epochs trained, over all trials"}, "automargin": True},
        "yaxis": {"title": {"text": f"best {metric}"}, "automargin": True},
        "showlegend": True,
        "height": 420,
        "margin": {"l": 50, "r": 20, "t": 30, "b": 50},
    }
    return {"data": data, "layout": layout}


def list_differences(first: Space, second: Space) -> list[tuple[str, str, str]]:
    """Return what two spaces have otherwise: a name, and what it is in each; empty where it is not."""
    told = [
        {parameter.name: describe(parameter.distribution) for parameter in space.parameters}
        for space in (first, second)
    ]
    names = dict.fromkeys([*told[0], *told[1]])
    rows = [(name, told[0].get(name, ""), told[1].get(name, "")) for name in names]
    return [row for row in rows if row[1] != row[2]]


@dataclass(frozen=True)
class Comparison:
    """Two searches beside each other.

    Attributes
    ----------
    metric : str
        Their objective; where they differ, that of each.
    figures : dict from names to dict
        Of each search, its ``metric``, and what it found and cost: numbers by their names, None where there are none.
        The names are those of the folders, or their paths where both have one name.
    progress : dict from names to (Progress, int)
        Of each, the best over its epochs, and how many these were.
    differences : list of (str, str, str)
        Where their spaces differ: the name, and what it is in each.
    warnings : tuple of str
        Why they may not be comparable.
    """

    metric: str
    figures: dict[str, dict[str, Any]]
    progress: dict[str, tuple[Progress, int]]
    differences: list[tuple[str, str, str]]
    warnings: tuple[str, ...]

    def rows(self) -> list[tuple[str, ...]]:
        """Return a table: a name, and what each search has."""
        titles = {"best": f"best {self.metric}", "at_equal_epochs": f"best {self.metric} after equally many epochs"}
        rows = []
        for key in next(iter(self.figures.values())):
            values = [(figures[key], figures["metric"]) for figures in self.figures.values()]
            if key != "metric" and any(value is not None for value, _ in values):
                shown = (
                    "-"
                    if v is None
                    else format_objective(v, metric)
                    if key in {"best", "at_equal_epochs"}
                    else format_objective(v, "val_accuracy")
                    if key == "test_accuracy"
                    else format_seconds(v)
                    if key == "time"
                    else f"{v:,}"
                    if isinstance(v, int)
                    else str(v)
                    for v, metric in values
                )
                rows.append((titles.get(key, key.replace("_", " ")), *shown))
        return rows


def compare_searches(first: Path, second: Path) -> Comparison:
    """Set two searches beside each other, by their ledgers.

    Parameters
    ----------
    first, second : Path
        Their folders.

    Raises
    ------
    SearchNotFoundError
        If one of them is none, or has begun no stage.
    InputError
        If they are one and the same.
    """
    if first.resolve() == second.resolve():
        raise InputError(f"search {first.name!r} is compared with itself; name another one")
    names = (first.name, second.name) if first.name != second.name else (str(first), str(second))
    ledgers = {name: Ledger.open(folder) for name, folder in zip(names, (first, second), strict=True)}
    stages = {name: ledger.stages() for name, ledger in ledgers.items()}
    for name, begun in stages.items():
        if not begun:
            raise SearchNotFoundError(f"search {name!r} has begun no stage yet; start it with: tuner run SPEC")
    views = {name: [view_stage(stage) for stage in begun] for name, begun in stages.items()}
    progress = {name: (trace_progress(own), count_epochs(own)) for name, own in views.items()}
    fewest = min(total for _, total in progress.values())
    figures = {}
    for name, own in views.items():
        trials = [trial for view in own for trial in view.trials]
        found, total = progress[name]
        openings = list_openings(ledgers[name])
        best = rank_trials(trials, maximize=own[0].maximize)[:1]
        figures[name] = {
            "metric": own[0].metric,
            "best": best[0].value if best else None,
            "of": f"{best[0].name}: {best[0].config.get('architecture', '')}" if best else None,
            "at_equal_epochs": found.at(fewest),
            "trials": len(trials),
            "epochs": total,
            "epochs_to_the_best": found.epochs[-1] if found.epochs else None,
            "time": sum(stage.attributes.get("elapsed_s", 0.0) for stage in stages[name]),
            "test_accuracy": openings[-1]["outcome"]["test"]["accuracy"] if openings else None,
            "ended": stages[name][-1].attributes.get("ended") or "not yet",
        }
    specs = [load_text(begun[-1].attributes["asked"], "the ledger") for begun in stages.values()]
    warnings = [
        f"they differ in {key}, so their values do not compare"
        for key in ("data", "objective")
        if getattr(specs[0], key) != getattr(specs[1], key)
    ]
    spaces = [own[0].space for own in views.values()]
    metric = " | ".join(dict.fromkeys(own[0].metric for own in views.values()))
    return Comparison(metric, figures, progress, list_differences(*spaces), tuple(warnings))


def write_comparison(found: Comparison) -> str:
    """Write two searches as a page, as HTML that needs nothing else."""
    names = list(found.figures)
    figure = draw_progress(found.progress, found.metric)
    table = Table(("", *names), found.rows())
    panels = [
        Panel("The best over the epochs", figure, "Every epoch of every trial counts once.", is_wide=True),
        Panel("What each found, and what it cost", table, is_wide=True),
    ]
    if found.differences:
        panels.append(Panel("Where their spaces differ", Table(("", *names), found.differences), is_wide=True))
    return build_page(" and ".join(names), found.warnings, [Section("Comparison", panels)])
