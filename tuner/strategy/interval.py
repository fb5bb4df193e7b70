"""Fitting a numeric range to the best values seen in it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Context
from fractions import Fraction
from typing import Literal, TypeAlias

from tuner.spec.domain import find_domain
from tuner.spec.hyperparameters import find_owner
from tuner.spec.space import Int, LogInt, LogUniform, Uniform

Range: TypeAlias = Uniform | LogUniform | Int | LogInt
End: TypeAlias = Literal["cut", "kept", "widened", "at its limit"]

EDGE = 0.25
"""What counts as near an end, and how far a range is widened there: as a share of its length."""
MIN_SHARE = 0.1
"""The least that is left of a range, as a share: a few lucky neighbours are no proof."""


@dataclass(frozen=True)
class Fit:
    """A new range and what became of each end of the old one.

    Attributes
    ----------
    range : distribution
        Of the same kind as the old one; where that has a step, on the same grid.
    low, high : str
        cut; kept; widened: it moved outward; at its limit: it would have, but the hyperparameter may not go
        further.
    """

    range: Range
    low: End
    high: End


def fit_range(old: Range, values: Sequence[float], *, margin: float, limits: tuple[float, float]) -> Fit:
    """Fit a range to the values of the best trials.

    The new range holds all the values and a margin, and does not leave the old one: except where more than
    half of the values crowd in a quarter of it at one end, up to that end or within two of their own mean
    spacings of it. Then the optimum may lie beyond, and a quarter of the range is added. All shares are
    measured on the logarithm where the range is logarithmic.

    Parameters
    ----------
    old : distribution
        The range that the values were drawn from.
    values : sequence of float, not empty
        All inside the old range.
    margin : float, at least 0
        Added at each end, as a share of the values' own spread.
    limits : (float, float)
        Between which the range may be widened, both included; infinite where there is no limit.
    """
    if old.low == old.high:
        return Fit(old, "kept", "kept")
    is_log = isinstance(old, LogUniform | LogInt)
    axis = [math.log(value) if is_log else float(value) for value in (old.low, old.high, *values)]
    low, high, seen = axis[0], axis[1], axis[2:]
    length, spread = high - low, max(seen) - min(seen)
    pad = max(margin * spread, (MIN_SHARE * length - spread) / 2)
    reach = max(pad, 2 * spread / max(1, len(seen) - 1))
    wants_low = min(seen) - reach <= low and _is_crowded(seen, low, length)
    wants_high = max(seen) + reach >= high and _is_crowded(seen, high, length)
    new_low = low - EDGE * length if wants_low else max(low, min(seen) - pad)
    new_high = high + EDGE * length if wants_high else min(high, max(seen) + pad)
    if is_log:
        new_low, new_high = math.exp(new_low), math.exp(new_high)
    fitted = _round_outward(
        old,
        new_low if wants_low else max(new_low, old.low),
        new_high if wants_high else min(new_high, old.high),
        limits=(limits[0] if wants_low else old.low, limits[1] if wants_high else old.high),
    )
    return Fit(
        fitted,
        _describe_end(fitted.low - old.low, wants_low),
        _describe_end(old.high - fitted.high, wants_high),
    )


def extend_range(old: Range, fitted: Range, end: Literal["lower", "upper"], limits: tuple[float, float]) -> Range:
    """Move one end of a fitted range outward by a quarter of the old range, on its own scale and within limits."""
    is_log = isinstance(old, LogUniform | LogInt)
    low, high = float(fitted.low), float(fitted.high)
    if is_log:
        factor = (old.high / old.low) ** EDGE
        low, high = (low / factor, high) if end == "lower" else (low, high * factor)
    else:
        more = EDGE * (old.high - old.low)
        low, high = (low - more, high) if end == "lower" else (low, high + more)
    within = (limits[0], fitted.high) if end == "lower" else (fitted.low, limits[1])
    return _round_outward(old, max(low, within[0]), min(high, within[1]), limits=within)


def find_limits(name: str, old: Range) -> tuple[float, float]:
    """Say how far a parameter's range may be widened.

    Parameters
    ----------
    name : str
        The parameter's dotted name.
    old : distribution
        Its present range.

    Returns
    -------
    (float, float)
        Lowest and highest value, both allowed. Where the hyperparameter's own bound is excluded, half of the
        way to it. The old ends where there is no such hyperparameter, or its values are a list. Of whole numbers a
        range above 0 stays there: 0 often stands for something else, such as no layer, or what a paper has.
    """
    owner = find_owner(name)
    if owner is None:
        return old.low, old.high
    domain = find_domain(owner[0], name.rpartition(".")[2])
    if domain.kind is None:
        return old.low, old.high
    lowest = -math.inf if domain.low is None else domain.low
    if isinstance(old, Int | LogInt) and old.low > 0:
        lowest = max(lowest, 1)
    highest = math.inf if domain.high is None else domain.high
    return (
        _halve(old, lowest, old.low) if domain.is_low_open else lowest,
        _halve(old, highest, old.high) if domain.is_high_open else highest,
    )


def _halve(old: Range, bound: float, end: float) -> float:
    """Return what is half of the way between a bound and an end, on the range's own axis."""
    return math.sqrt(max(0, bound) * end) if isinstance(old, LogUniform | LogInt) else (bound + end) / 2


def _is_crowded(seen: Sequence[float], end: float, length: float) -> bool:
    return sum(abs(value - end) <= EDGE * length for value in seen) > len(seen) / 2


def _describe_end(moved_inward: float, wants_out: bool) -> End:
    if moved_inward:
        return "cut" if moved_inward > 0 else "widened"
    return "at its limit" if wants_out else "kept"


def _round_outward(old: Range, low: float, high: float, *, limits: tuple[float, float]) -> Range:
    """Make the ends readable, or points of the old grid, without losing anything between them."""
    step = 1 if isinstance(old, LogInt) else None if isinstance(old, LogUniform) else old.step
    if step is not None:
        return _snap(old, low, high, step, limits)
    width = high - low
    return _between(
        old,
        max(_round(low, width, ROUND_FLOOR), limits[0]),
        min(_round(high, width, ROUND_CEILING), limits[1]),
    )


def _snap(old: Range, low: float, high: float, step: float, limits: tuple[float, float]) -> Range:
    tolerance = 1e-9
    first = math.floor((low - old.low) / step + tolerance)
    last = math.ceil((high - old.low) / step - tolerance)
    if last - first < 2:
        first, last = first - 1, last + 1
    if math.isfinite(limits[0]):
        first = max(first, math.ceil((limits[0] - old.low) / step - tolerance))
    if math.isfinite(limits[1]):
        last = min(last, math.floor((limits[1] - old.low) / step + tolerance))
    # As written, where 0.3 is three times 0.1: a checked space has steps that divide its ranges exactly.
    kind = float if isinstance(old, Uniform) else int
    return _between(old, *(kind(Fraction(str(old.low)) + n * Fraction(str(step))) for n in (first, last)))


def _between(old: Range, low: float, high: float) -> Range:
    return type(old)(**{**old.model_dump(), "low": low, "high": high})


def _round(value: float, width: float, rounding: str) -> float:
    """Round so that the error is below a hundredth of a range's width and of the value itself."""
    if value == 0:
        return 0.0
    extra = math.floor(math.log10(abs(value))) - math.floor(math.log10(width))
    return float(Context(prec=3 + max(0, extra), rounding=rounding).create_decimal(str(value)))
