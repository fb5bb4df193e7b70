"""Trials as people compare them: a line each, the best first."""

import math
from collections.abc import Iterable, Mapping

from tuner.spec.search import COSTS
from tuner.spec.space import Scalar


def describe_config(config: Mapping[str, Scalar], searched: Iterable[str]) -> str:
    """Write a config in one line.

    Parameters
    ----------
    config : mapping
        A point of a space.
    searched : iterable of str
        The names to write; constants say nothing.

    Returns
    -------
    str
        The architecture and what belongs to it first: ``resnet(depth=14, width=16) learning_rate=0.031 l2=1e-05``.
    """
    wanted = [name for name in searched if name in config]
    nested: dict[str, list[str]] = {}
    for name in wanted:
        if "." in name:
            nested.setdefault(name.split(".")[0], []).append(f"{name.rpartition('.')[2]}={format_value(config[name])}")
    heads = list(dict.fromkeys([*(["architecture"] if "architecture" in config else []), *nested]))
    words = [
        f"{config[head]}({', '.join(nested[head])})" if head in nested else f"{config[head]}"
        for head in heads
        if head in config
    ]
    return " ".join(words + [f"{n}={format_value(config[n])}" for n in wanted if "." not in n and n not in heads])


def format_value(value: Scalar) -> str:
    """Write a hyperparameter with as many digits as one looks at."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def format_objective(value: float, metric: str) -> str:
    """Write an accuracy in percent, a loss in nats, a time in seconds and a count whole; a dash for none."""
    if not math.isfinite(value):
        return "-"
    if metric == "seconds":
        return f"{value:.3g} s"
    if metric in COSTS:
        return f"{value:,.0f}"
    return f"{value:.2%}" if metric.endswith("accuracy") else f"{value:.4f}"


def format_bytes(size_bytes: float) -> str:
    """Write a size in the unit that leaves one to three digits before the point."""
    for unit in ("B", "kB", "MB", "GB"):
        if size_bytes < 1000:
            return f"{size_bytes:.0f} {unit}" if unit == "B" else f"{size_bytes:.1f} {unit}"
        size_bytes /= 1000
    return f"{size_bytes:.1f} TB"


def format_seconds(seconds: float) -> str:
    """Write a duration with its two largest units."""
    whole = round(seconds)
    for size, unit, smaller_size, smaller in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            return f"{whole // size} {unit} {whole % size // smaller_size} {smaller}"
    return f"{whole} s"
