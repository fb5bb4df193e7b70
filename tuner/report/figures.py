"""Figures of a search, each a mapping as plotly's script draws it. All numbers are the ledger's.

Colours are left to the page, which knows whether it is light or dark, but where a colour tells something.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tuner.report.leaderboard import describe_config, format_objective, format_value
from tuner.spec.space import Choice, LogInt, LogUniform, Parameter, Scalar, Space
from tuner.track.ledger import TrialRecord

Figure: TypeAlias = dict[str, Any]

# told apart by those who see fewer colours too: Okabe and Ito's palette
ENDINGS = {
    "complete": "#009e73",
    "stopped": "#56b4e9",
    "paused": "#0072b2",
    "running": "#f0e442",
    "diverged": "#d55e00",
    "failed": "#cc79a7",
}
PALETTE = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442", "#999999")
SCALE = "Viridis"
MOST_AXES = 12  # of parallel coordinates
GRID = 40  # points a side of a contour
LEAST_SHOWN = 5  # trials that have both of its ranges
BREAK_S = 60.0  # a longer pause between two epochs of a trial is no training


@dataclass(frozen=True)
class StageView:
    """What a figure needs to know of a stage.

    Attributes
    ----------
    name, metric : str
        Its name, and its objective's.
    maximize : bool
        Whether a larger objective is better.
    space : Space
        What it searched.
    trials : tuple of TrialRecord
        All of it.
    """

    name: str
    metric: str
    maximize: bool
    space: Space
    trials: tuple[TrialRecord, ...]

    @property
    def searched(self) -> tuple[Parameter, ...]:
        """The parameters that vary."""
        return tuple(parameter for parameter in self.space.parameters if not parameter.is_constant)

    @property
    def able(self) -> tuple[TrialRecord, ...]:
        """The trials that have a result."""
        return tuple(trial for trial in self.trials if math.isfinite(trial.value))

    def describe(self, trial: TrialRecord) -> str:
        """Say in a few words which trial it is and how it did."""
        config = describe_config(trial.config, [parameter.name for parameter in self.searched])
        return f"{trial.name}, {format_objective(trial.value, self.metric)}, {trial.state}<br>{_wrap(config)}"


def draw_curves(stage: StageView) -> Figure:
    """Draw every trial's objective from epoch to epoch, one colour for each way to end."""
    data = []
    for state, colour in ENDINGS.items():
        trials = [trial for trial in stage.trials if trial.state == state and trial.epochs]
        x: list[float | None] = []
        y: list[float | None] = []
        text: list[str] = []
        for trial in trials:
            name = stage.describe(trial)
            values = [_finite(epoch.get(stage.metric)) for epoch in trial.epochs]
            x += [*range(1, len(values) + 1), None]
            y += [*values, None]
            text += [name] * (len(values) + 1)
        if trials:
            # few lines are drawn whole, many lightly, so that a hundred on each other still show the rest
            opacity = max(0.15, min(0.8, 20 / len(trials)))
            data.append(
                _lines(x, y, f"{state} ({len(trials)})", colour)
                | {"text": text, "hovertemplate": "%{text}<br>epoch %{x}: %{y:.4f}<extra></extra>", "opacity": opacity}
            )
    return _figure(data, "epoch", stage.metric, legend=True)


def draw_parallel(stage: StageView) -> Figure:
    """Draw each trial as a line through its hyperparameters to its objective; what it has not lies below the axis."""
    trials = stage.able
    axes = [_parallel_axis(parameter, trials) for parameter in _choose_axes(stage)]
    values = [trial.value for trial in trials]
    axes.append({"label": stage.metric, "values": values})
    low, high = _robust_range(values, maximize=stage.maximize)
    line = {"color": values, "colorscale": SCALE, "cmin": low, "cmax": high, "showscale": False}
    line |= {"reversescale": not stage.maximize}
    return {
        "data": [{"type": "parcoords", "dimensions": axes, "line": line, "labelangle": -20, "labelside": "bottom"}],
        "layout": {"height": 440, "margin": {"l": 60, "r": 50, "t": 30, "b": 80}},
        "min_width": 110 * len(axes),
    }


def draw_importances(stage: StageView, shares: Mapping[str, float], clear: Iterable[str]) -> Figure:
    """Draw how much each hyperparameter explains, the clear ones in full colour."""
    names = [name for name, _ in sorted(shares.items(), key=lambda item: item[1])]
    sure = set(clear)
    bars = {
        "type": "bar",
        "orientation": "h",
        "y": names,
        "x": [max(0.0, shares[name]) for name in names],
        "marker": {"color": ["#0072b2" if name in sure else "#a0a0a0" for name in names]},
        "text": ["" if name in sure else "may be chance" for name in names],
        "hovertemplate": "%{y}: %{x:.1%}<extra></extra>",
    }
    figure = _figure([bars], "share of the differences between trials", "")
    figure["layout"]["xaxis"] |= {"tickformat": ".0%", "rangemode": "tozero"}
    figure["layout"]["yaxis"] |= {"automargin": True}
    figure["layout"]["height"] = 120 + 24 * len(names)
    return figure


def draw_slice(stage: StageView, parameter: Parameter) -> Figure:
    """Draw the objective against one hyperparameter."""
    trials = [trial for trial in stage.able if parameter.name in trial.config]
    points = _points(
        [_as_axis_value(parameter, trial.config[parameter.name]) for trial in trials],
        [trial.value for trial in trials],
        [stage.describe(trial) for trial in trials],
    )
    points["marker"] |= {
        "color": [trial.number for trial in trials],
        "colorscale": "Blues",
        "reversescale": False,
        "line": {"width": 0.5, "color": "#808080"},
    }
    figure = _figure([points], parameter.name, stage.metric)
    figure["layout"]["xaxis"] |= _axis_kind(parameter)
    return figure


def draw_contour(stage: StageView, first: Parameter, second: Parameter) -> Figure | None:
    """Draw the objective over two ranges: a local mean, and the trials; None where few trials have both."""
    trials = [trial for trial in stage.able if first.name in trial.config and second.name in trial.config]
    if len(trials) < LEAST_SHOWN or len(trials) < len(stage.able) / 4:
        return None
    axes = []
    for parameter in (first, second):
        values = np.array([float(trial.config[parameter.name]) for trial in trials])
        axes.append(np.log10(values) if _is_log(parameter) else values)
    spans = [np.ptp(axis) or 1.0 for axis in axes]
    grids = [np.linspace(axis.min(), axis.max(), GRID) for axis in axes]
    values = np.array([trial.value for trial in trials])
    low, high = _robust_range(values.tolist(), maximize=stage.maximize)
    surface = _smooth(
        [axis / span for axis, span in zip(axes, spans, strict=True)],
        values.clip(low, high),
        [grid / span for grid, span in zip(grids, spans, strict=True)],
    )
    shown = [10**grid if _is_log(p) else grid for grid, p in zip(grids, (first, second), strict=True)]
    contour = {
        "type": "contour",
        "x": shown[0].tolist(),
        "y": shown[1].tolist(),
        "z": np.round(surface, 5).tolist(),
        "colorscale": SCALE,
        "reversescale": not stage.maximize,
        "contours": {"coloring": "heatmap", "showlines": False},
        "colorbar": {"title": {"text": stage.metric}, "thickness": 12},
        "hoverinfo": "skip",
    }
    points = _points(
        [trial.config[first.name] for trial in trials],
        [trial.config[second.name] for trial in trials],
        [stage.describe(trial) for trial in trials],
    )
    points["marker"] |= {"color": "white", "line": {"width": 1, "color": "black"}, "size": 5}
    figure = _figure([contour, points], first.name, second.name)
    figure["layout"]["xaxis"] |= _axis_kind(first)
    figure["layout"]["yaxis"] |= _axis_kind(second)
    return figure


def draw_survival(stage: StageView) -> Figure:
    """Draw how many trials trained for so many epochs or more."""
    lengths = np.array([len(trial.epochs) for trial in stage.trials])
    longest = int(lengths.max(initial=0))
    epochs = list(range(1, longest + 1))
    counts = [int((lengths >= epoch).sum()) for epoch in epochs]
    line = _lines(epochs, counts, "trials", "#0072b2") | {
        "line": {"shape": "hv", "color": "#0072b2", "width": 2},
        "fill": "tozeroy",
        "hovertemplate": "%{y} trials trained %{x} epochs or more<extra></extra>",
    }
    return _figure([line], "epochs", "trials that got there")


def draw_overfitting(stage: StageView) -> Figure:
    """Draw accuracy on the validation images against that on the training images, each trial at its best epoch."""
    trials = [trial for trial in stage.able if "train_accuracy" in trial.epochs[trial.best_epoch - 1]]
    best = [trial.epochs[trial.best_epoch - 1] for trial in trials]
    data: list[Figure] = []
    for state, colour in ENDINGS.items():
        rows = [i for i, trial in enumerate(trials) if trial.state == state]
        if rows:
            points = _points(
                [_finite(best[i]["train_accuracy"]) for i in rows],
                [_finite(best[i]["val_accuracy"]) for i in rows],
                [stage.describe(trials[i]) for i in rows],
            )
            points["marker"] |= {"color": colour}
            data.append(points | {"name": state})
    low = min((min(b["train_accuracy"], b["val_accuracy"]) for b in best), default=0.0)
    equal = _lines([low, 1], [low, 1], "equal", "#999999")
    data.append(equal | {"line": {"dash": "dot", "color": "#999999"}, "hoverinfo": "skip", "showlegend": False})
    return _figure(data, "training accuracy, with dropout and augmentation", "validation accuracy", legend=True)


def draw_best_losses(stage: StageView, trial: TrialRecord) -> Figure:
    """Draw the training and the validation loss of one trial."""
    epochs = list(range(1, len(trial.epochs) + 1))
    data = [
        _lines(epochs, [_finite(epoch.get(key)) for epoch in trial.epochs], title, colour)
        for key, title, colour in (
            ("train_loss", "training", "#0072b2"),
            ("train_loss_with_l2", "training, with L2", "#56b4e9"),
            ("val_loss", "validation", "#d55e00"),
        )
    ]
    figure = _figure(data, f"epoch of {trial.name}", "loss in nats", legend=True)
    figure["layout"]["yaxis"] |= {"type": "log"}
    return figure


def draw_complexity(stages: Sequence[StageView], cost: str) -> Figure:
    """Draw the objective against what a network costs, its trials of all stages by architecture."""
    groups: dict[str, list[tuple[float, float, str]]] = {}
    for stage in stages:
        for trial in stage.able:
            measured = trial.epochs[trial.best_epoch - 1]
            if measured.get(cost, 0) > 0:
                name = str(trial.config.get("architecture", "network"))
                groups.setdefault(name, []).append((measured[cost], trial.value, stage.describe(trial)))
    data = []
    for i, (name, rows) in enumerate(groups.items()):
        points = _points([row[0] for row in rows], [row[1] for row in rows], [row[2] for row in rows])
        points["marker"] |= {"color": PALETTE[i % len(PALETTE)]}
        data.append(points | {"name": name})
    everyone = sorted(row[:2] for rows in groups.values() for row in rows)
    sign = 1.0 if stages[0].maximize else -1.0
    front: list[tuple[float, float]] = []
    for price, value in everyone:
        if not front or sign * value > sign * front[-1][1]:
            front.append((price, value))
    line = _lines([price for price, _ in front], [value for _, value in front], "best for its cost", "#999999")
    data.append(line | {"line": {"dash": "dot", "shape": "hv", "color": "#999999"}, "hoverinfo": "skip"})
    figure = _figure(data, f"{cost.replace('_', '-')}, logarithmic", stages[0].metric, legend=True)
    figure["layout"]["xaxis"] |= {"type": "log"}
    return figure


@dataclass(frozen=True)
class Segment:
    """A stretch of time in which a trial trained without a long pause, in seconds since the search began.

    Attributes
    ----------
    start, end : float
        From the start of its first epoch to the end of its last.
    busy : float
        Seconds of its epochs alone.
    trial : TrialRecord
        The trial.
    """

    start: float
    end: float
    busy: float
    trial: TrialRecord


def find_segments(trials: Iterable[TrialRecord]) -> list[Segment]:
    """Find when each trial trained, by its epochs' times; in the order of their starts."""
    stretches: list[Segment] = []
    for trial in trials:
        own: list[Segment] = []
        for epoch in trial.epochs:
            if "timestamp" not in epoch:
                continue
            seconds, end = epoch.get("seconds", 0.0), epoch["timestamp"]
            start = end - seconds
            if own and start - own[-1].end < min(BREAK_S, 1 + seconds):
                own[-1] = Segment(own[-1].start, end, own[-1].busy + seconds, trial)
            else:
                own.append(Segment(start, end, seconds, trial))
        stretches += own
    origin = min((one.start for one in stretches), default=0.0)
    segments = [Segment(one.start - origin, one.end - origin, one.busy, one.trial) for one in stretches]
    return sorted(segments, key=lambda segment: segment.start)


def place_segments(segments: Sequence[Segment]) -> list[int]:
    """Give each stretch a worker that is free then, the one that was free last: workers have no names on record."""
    free_at: list[float] = []
    lanes = []
    for segment in segments:
        free = [lane for lane, time in enumerate(free_at) if time <= segment.start + 0.05]
        lane = max(free, key=lambda lane: free_at[lane]) if free else len(free_at)
        if lane == len(free_at):
            free_at.append(0.0)
        free_at[lane] = segment.end
        lanes.append(lane)
    return lanes


def measure_idle(segments: Sequence[Segment], num_lanes: int) -> float:
    """Return the share of the workers' time in which none of them trained, from the first epoch to the last."""
    span = max((segment.end for segment in segments), default=0.0)
    busy = sum(segment.busy for segment in segments)
    return max(0.0, 1 - busy / (span * num_lanes)) if span > 0 else 0.0


def draw_timeline(segments: Sequence[Segment], lanes: Sequence[int]) -> Figure:
    """Draw which worker trained which trial when."""
    data = []
    for state, colour in ENDINGS.items():
        own = [(segment, lane) for segment, lane in zip(segments, lanes, strict=True) if segment.trial.state == state]
        x: list[float | None] = []
        y: list[float | None] = []
        text: list[str] = []
        for segment, lane in own:
            x += [round(segment.start, 2), round(segment.end, 2), None]
            y += [lane + 1, lane + 1, None]
            text += [segment.trial.name] * 3
        if own:
            data.append(
                _lines(x, y, state, colour)
                | {
                    "line": {"color": colour, "width": 10},
                    "text": text,
                    "hovertemplate": "%{text}<br>%{x:.1f} s<extra></extra>",
                }
            )
    figure = _figure(data, "seconds", "worker", legend=True)
    figure["layout"]["yaxis"] |= {"dtick": 1, "range": [0.4, max(lanes, default=0) + 1.6]}
    figure["layout"]["height"] = 200 + 34 * (max(lanes, default=0) + 1)
    return figure


def draw_spaces(stages: Sequence[StageView]) -> Figure | None:
    """Draw each range of the stages, as a part of the first stage's range on its own scale."""
    data: list[Figure] = []
    names = [p.name for p in stages[0].searched if not isinstance(p.distribution, Choice)]
    for i, stage in enumerate(stages):
        x: list[float | None] = []
        y: list[str | None] = []
        text: list[str] = []
        ranges = {p.name: p.distribution for p in stage.space.parameters if not isinstance(p.distribution, Choice)}
        for name in names:
            if name in ranges:
                now, whole = ranges[name], stages[0].space[name].distribution
                ends = [_share(whole, end) for end in (now.low, now.high)]
                x += [*ends, None]
                y += [name, name, None]
                shown = f"{format_value(now.low)} to {format_value(now.high)}"
                text += [f"{stage.name}: {shown}"] * 3
        width = max(3, 14 - 5 * i)
        data.append(
            _lines(x, y, stage.name, PALETTE[i % len(PALETTE)])
            | {
                "line": {"color": PALETTE[i % len(PALETTE)], "width": width},
                "text": text,
                "hovertemplate": "%{y}<br>%{text}<extra></extra>",
            }
        )
    if not names:
        return None
    figure = _figure(data, "part of the first stage's range, on its scale", "", legend=True)
    figure["layout"]["xaxis"] |= {"tickformat": ".0%"}
    figure["layout"]["yaxis"] |= {"automargin": True, "autorange": "reversed"}
    figure["layout"]["height"] = 160 + 26 * len(names)
    return figure


def draw_confusion(cells: Sequence[Sequence[int]], class_names: Sequence[str]) -> Figure:
    """Draw which class is taken for which, each row as shares of its class."""
    size = len(class_names)
    counts = np.zeros((size, size))
    for row, column, count in cells:
        counts[row, column] = count
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    heat = {
        "type": "heatmap",
        "x": list(class_names),
        "y": list(class_names),
        "z": np.round(shares, 4).tolist(),
        "customdata": counts.astype(int).tolist(),
        "colorscale": "Blues",
        "reversescale": True,  # plotly's runs from dark to light
        "zmin": 0,
        "zmax": 1,
        "colorbar": {"tickformat": ".0%", "thickness": 12},
        "hovertemplate": "%{y} taken for %{x}: %{customdata} images, %{z:.1%}<extra></extra>",
    }
    if size <= 20:
        heat |= {"text": counts.astype(int).tolist(), "texttemplate": "%{text}"}
    figure = _figure([heat], "taken for", "class")
    figure["layout"]["yaxis"] |= {"autorange": "reversed", "automargin": True, "type": "category"}
    figure["layout"]["xaxis"] |= {"automargin": True, "type": "category"}
    figure["layout"]["height"] = 480
    return figure


def draw_calibration(test: Mapping[str, Any]) -> Figure:
    """Draw how often the model is right against how sure it is."""
    rows = [
        (sure, right, size)
        for sure, right, size in zip(test["confidence"], test["hit_rate"], test["bin_sizes"], strict=True)
        if size
    ]
    points = {
        "type": "scatter",
        "mode": "markers",
        "x": [row[0] for row in rows],
        "y": [row[1] for row in rows],
        "text": [f"{row[2]} images" for row in rows],
        "marker": {"color": "#0072b2", "size": [6 + 18 * math.sqrt(r[2] / sum(x[2] for x in rows)) for r in rows]},
        "hovertemplate": "%{x:.1%} sure, %{y:.1%} right<br>%{text}<extra></extra>",
        "showlegend": False,
    }
    equal = _lines([0, 1], [0, 1], "equal", "#999999") | {"hoverinfo": "skip", "showlegend": False}
    equal["line"] = {"dash": "dot", "color": "#999999"}
    return _figure([equal, points], "confidence", "accuracy")


def draw_recalls(outcome: Mapping[str, Any]) -> Figure:
    """Draw the share of each class's test images that is found, the worst first."""
    rows = sorted(
        (recall, name)
        for recall, name in zip(outcome["test"]["recall"], outcome["class_names"], strict=True)
        if recall is not None
    )
    bars = {
        "type": "bar",
        "x": [name for _, name in rows],
        "y": [recall for recall, _ in rows],
        "marker": {"color": "#0072b2"},
        "hovertemplate": "%{x}: %{y:.1%}<extra></extra>",
    }
    figure = _figure([bars], "class", "share that is found")
    figure["layout"]["yaxis"] |= {"tickformat": ".0%", "range": [0, 1]}
    figure["layout"]["xaxis"] |= {"type": "category"}
    return figure


def _figure(data: list[Figure], x: str, y: str, *, legend: bool = False) -> Figure:
    layout = {
        "xaxis": {"title": {"text": x}, "automargin": True},
        "yaxis": {"title": {"text": y}, "automargin": True},
        "showlegend": legend,
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        "hovermode": "closest",
        "height": 380,
        "margin": {"l": 50, "r": 20, "t": 40, "b": 50},
    }
    return {"data": data, "layout": layout}


def _lines(x: Sequence[Any], y: Sequence[Any], name: str, colour: str) -> Figure:
    line = {"color": colour, "width": 1.5}
    return {"type": "scatter", "mode": "lines", "x": list(x), "y": list(y), "name": name, "line": line}


def _points(x: Sequence[Any], y: Sequence[Any], text: Sequence[str]) -> Figure:
    return {
        "type": "scatter",
        "mode": "markers",
        "x": [_shorten(value) for value in x],
        "y": [_shorten(value) for value in y],
        "text": list(text),
        "marker": {"size": 7 if len(x) < 300 else 4},
        "hovertemplate": "%{text}<extra></extra>",
        "showlegend": True,
    }


def _choose_axes(stage: StageView) -> list[Parameter]:
    """Return the parameters that most trials have, in the space's order."""
    able = stage.able
    shared = sorted(stage.searched, key=lambda p: -sum(p.name in trial.config for trial in able))[:MOST_AXES]
    return [parameter for parameter in stage.searched if parameter in shared]


def _parallel_axis(parameter: Parameter, trials: Sequence[TrialRecord]) -> Figure:
    label = parameter.name.removeprefix("architecture.")
    if isinstance(parameter.distribution, Choice):
        options = [str(option) for option in parameter.distribution.options]
        places = [
            options.index(str(trial.config[parameter.name])) if parameter.name in trial.config else -1
            for trial in trials
        ]
        ticks = [("none", -1)] if -1 in places else []
        ticks += [(option, i) for i, option in enumerate(options)]
        return {
            "label": label,
            "values": places,
            "tickvals": [place for _, place in ticks],
            "ticktext": [text for text, _ in ticks],
            "range": [min(0, *places, 0) - 0.1, len(options) - 0.9],
        }
    low, high = float(parameter.distribution.low), float(parameter.distribution.high)
    is_log = _is_log(parameter)
    ends = (math.log10(low), math.log10(high)) if is_log else (low, high)
    missing = ends[0] - 0.15 * (ends[1] - ends[0])
    values = []
    for trial in trials:
        value = trial.config.get(parameter.name)
        given = missing if value is None else math.log10(float(value)) if is_log else float(value)
        values.append(round(given, 6))
    shown = np.linspace(*ends, 5)
    texts = [format_value(float(10**tick if is_log else tick)) for tick in shown]
    has_missing = any(parameter.name not in trial.config for trial in trials)
    return {
        "label": label,
        "values": values,
        "tickvals": [*([missing] if has_missing else []), *shown.tolist()],
        "ticktext": [*(["none"] if has_missing else []), *texts],
        "range": [min([ends[0], *values]), max([ends[1], *values])],
    }


def _as_axis_value(parameter: Parameter, value: Scalar) -> Scalar:
    return str(value) if isinstance(parameter.distribution, Choice) else value


def _axis_kind(parameter: Parameter) -> dict[str, Any]:
    """Say how an axis runs: logarithmic, by options, or evenly."""
    if isinstance(parameter.distribution, Choice):
        options = [str(option) for option in parameter.distribution.options]
        return {"type": "category", "categoryorder": "array", "categoryarray": options}
    return {"type": "log" if _is_log(parameter) else "linear"}


def _is_log(parameter: Parameter) -> bool:
    return isinstance(parameter.distribution, LogUniform | LogInt)


def _share(whole: Any, value: float) -> float:
    """Return where a value lies in a range on its own scale: 0 at the lower end and 1 at the upper one."""
    low, high = float(whole.low), float(whole.high)
    if isinstance(whole, LogUniform | LogInt):
        low, high, value = math.log(low), math.log(high), math.log(value)
    return (value - low) / (high - low) if high > low else 0.5


def _robust_range(values: Sequence[float], *, maximize: bool) -> tuple[float, float]:
    """Return the range that colours run over: the worst quarter of the trials shares a colour."""
    if not values:
        return 0.0, 1.0
    low, high = min(values), max(values)
    quarter = float(np.quantile(values, 0.25 if maximize else 0.75))
    low, high = (quarter, high) if maximize else (low, quarter)
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _smooth(
    places: Sequence[NDArray[np.float64]], values: NDArray[np.float64], grids: Sequence[NDArray[np.float64]]
) -> NDArray[np.float64]:
    """Return a local mean over a grid, each trial weighing by a Gaussian of its distance."""
    reach = 0.5 * max(4, len(values)) ** (-1 / 6)  # Scott's rule for two dimensions, of the range for the deviation
    weights = [
        np.exp(-0.5 * ((grid[:, None] - place[None]) / (reach / 2)) ** 2)
        for grid, place in zip(grids, places, strict=True)
    ]
    total = weights[1] @ weights[0].T
    surface: NDArray[np.float64] = (weights[1] * values) @ weights[0].T / np.maximum(total, 1e-12)
    return surface


def _shorten(value: Any) -> Any:
    """Leave no more digits to a number than a screen can show."""
    return float(f"{value:.6g}") if isinstance(value, float) else value


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else round(value, 6)


def _wrap(text: str, width: int = 70) -> str:
    """Break a long line at its blanks."""
    lines = [""]
    for word in text.split(" "):
        if len(lines[-1]) + len(word) > width:
            lines.append("")
        lines[-1] += f" {word}" if lines[-1] else word
    return "<br>".join(lines)
