"""Charts as SVG, without a library: lines over shares of the budget, and bars."""

import html
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

COLOURS = ("#0b62c4", "#d95f02", "#1b9e77", "#8e44ad", "#b8860b", "#c2185b", "#5d4037", "#00838f")
GREY = "#b9bec4"
INK = "#333333"
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 330, 250, 56, 16, 30, 34
BAR, NAME = 17, 190


@dataclass(frozen=True)
class Panel:
    """One pair of axes.

    Attributes
    ----------
    title : str
        Stands above.
    series : mapping from names to numbers above 0
        A line each, or a bar each of the first number.
    """

    title: str
    series: Mapping[str, Sequence[float]] = field(default_factory=dict)


def draw_lines(
    panels: Sequence[Panel], shares: Sequence[float], highlighted: Sequence[str], note: str, num_columns: int = 3
) -> str:
    """Draw panels of lines over shares of the budget, the numbers on a logarithmic scale, as SVG.

    Parameters
    ----------
    panels : sequence of Panel
        Beside and below each other.
    shares : sequence of float, in [0, 1]
        Where the numbers of a line stand.
    highlighted : sequence of str
        The lines that get a colour and a name; the others are grey.
    note : str
        What the numbers are.
    """
    columns = min(num_columns, len(panels))
    rows = math.ceil(len(panels) / columns)
    parts = [_key(panels, highlighted, note)]
    for i, panel in enumerate(panels):
        x, y = (i % columns) * WIDTH, 46 + (i // columns) * HEIGHT
        parts.append(f'<g transform="translate({x},{y})">{_draw_axes(panel, shares, highlighted)}</g>')
    return _wrap(parts, max(columns * WIDTH, 2 * WIDTH), 46 + rows * HEIGHT)


def draw_bars(panels: Sequence[Panel], highlighted: Sequence[str], note: str, num_columns: int = 3) -> str:
    """Draw panels of bars, the shortest first, as SVG."""
    width, height = WIDTH + 20, max(len(panel.series) for panel in panels) * BAR + TOP + 14
    columns = min(num_columns, len(panels))
    parts = [_text(10, 18, note)]
    for i, panel in enumerate(panels):
        longest = max(numbers[0] for numbers in panel.series.values())
        drawn = [_text(10, 20, panel.title, weight="bold")]
        for k, (name, (number, *_)) in enumerate(sorted(panel.series.items(), key=lambda item: item[1][0])):
            y, length = TOP + k * BAR, 120 * number / longest
            colour = _colour(name, highlighted)
            drawn.append(_text(NAME - 6, y + 10, name, anchor="end"))
            drawn.append(f'<rect x="{NAME}" y="{y}" width="{length:.1f}" height="{BAR - 5}" fill="{colour}"/>')
            drawn.append(_text(NAME + length + 5, y + 10, f"{number:.1f}"))
        x, y = (i % columns) * width, 24 + (i // columns) * height
        parts.append(f'<g transform="translate({x},{y})">{"".join(drawn)}</g>')
    return _wrap(parts, max(columns, 2) * width, 24 + math.ceil(len(panels) / columns) * height)


def _draw_axes(panel: Panel, shares: Sequence[float], highlighted: Sequence[str]) -> str:
    numbers = [number for line in panel.series.values() for number in line if number > 0]
    low, high = math.log10(min(numbers, default=0.1)), math.log10(max(numbers, default=1.0))
    low, high = low - 0.05, max(high + 0.05, low + 0.1)

    def right(share: float) -> float:
        return LEFT + 10 + (share - shares[0]) / (shares[-1] - shares[0]) * (WIDTH - LEFT - RIGHT - 20)

    def down(number: float) -> float:
        place = (math.log10(max(number, 10**low)) - low) / (high - low)
        return HEIGHT - BOTTOM - place * (HEIGHT - TOP - BOTTOM)

    parts = [_text(LEFT, 18, panel.title, weight="bold")]
    for tick in _choose_ticks(low, high):
        y = down(tick)
        parts.append(f'<path d="M{LEFT},{y:.1f}H{WIDTH - RIGHT}" stroke="#e4e7ea"/>')
        parts.append(_text(LEFT - 5, y + 4, f"{tick:g}", anchor="end"))
    parts.extend(_text(right(share), HEIGHT - BOTTOM + 16, f"{share:.0%}", anchor="middle") for share in shares)
    order = sorted(panel.series, key=lambda name: (name in highlighted, -_place(name, highlighted)))
    parts.extend(_draw_line(panel.series[name], shares, name, highlighted, right, down) for name in order)
    return "".join(parts)


def _draw_line(
    line: Sequence[float],
    shares: Sequence[float],
    name: str,
    highlighted: Sequence[str],
    right: Callable[[float], float],
    down: Callable[[float], float],
) -> str:
    places = " ".join(f"{right(share):.1f},{down(number):.1f}" for share, number in zip(shares, line, strict=True))
    width = 2.5 if name in highlighted else 1
    colour = _colour(name, highlighted)
    title = f"<title>{html.escape(name)}</title>"
    return f'<polyline points="{places}" fill="none" stroke="{colour}" stroke-width="{width}">{title}</polyline>'


def _choose_ticks(low: float, high: float) -> list[float]:
    """Return powers of ten between two logarithms, with steps between where they are few."""
    for steps in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9)):
        ticks = [step * 10.0**power for power in range(math.floor(low), math.ceil(high) + 1) for step in steps]
        inside = [tick for tick in ticks if low <= math.log10(tick) <= high]
        if len(inside) >= 3:
            break
    return inside


def _key(panels: Sequence[Panel], highlighted: Sequence[str], note: str) -> str:
    parts, x = [_text(10, 18, note)], 10.0
    drawn = {name for panel in panels for name in panel.series}
    others = ["others"] if drawn - {*highlighted} else []
    for name in [*(name for name in highlighted if name in drawn), *others]:
        parts.append(f'<rect x="{x:.0f}" y="29" width="14" height="4" fill="{_colour(name, highlighted)}"/>')
        parts.append(_text(x + 19, 35, name))
        x += 34 + 6.6 * len(name)
    return "".join(parts)


def _place(name: str, highlighted: Sequence[str]) -> int:
    return list(highlighted).index(name) if name in highlighted else len(highlighted)


def _colour(name: str, highlighted: Sequence[str]) -> str:
    return COLOURS[_place(name, highlighted) % len(COLOURS)] if name in highlighted else GREY


def _text(x: float, y: float, text: str, *, anchor: str = "start", weight: str = "normal") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}">{html.escape(text)}</text>'


def _wrap(parts: Sequence[str], width: float, height: float) -> str:
    opening = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" '
        f'height="{height:.0f}" font-family="sans-serif" font-size="11" fill="{INK}">'
    )
    return "\n".join([opening, '<rect width="100%" height="100%" fill="white"/>', *parts, "</svg>\n"])
