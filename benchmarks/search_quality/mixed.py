"""A made-up conditional space that is unlike the others: no method's constants were chosen on it.

Conditions lie three deep. One parameter does nothing. The step that a momentum takes, and the warm-up that a depth
wants, are of two parameters together; two of the best values lie at or near an end of their range. What starts fast
ends low, what ends best starts slowly, early epochs are noisy, and what is too bold diverges, late if only a little.
"""

import math

import numpy as np

from tuner.spec.space import Choice, Config, Int, LogInt, LogUniform, Parameter, Space, Uniform

_DEEP, _WIDE, _NORM = ("kind", "deep"), ("kind", "wide"), "kind.deep.norm"
SPACE = Space(
    (
        Parameter("kind", Choice(options=("plain", "deep", "wide"))),
        Parameter("kind.deep.blocks", Int(low=1, high=12), _DEEP),
        Parameter(_NORM, Choice(options=("none", "layer", "batch")), _DEEP),
        Parameter(f"{_NORM}.layer.scale", LogUniform(low=1e-2, high=10), (_NORM, "layer")),
        Parameter(f"{_NORM}.batch.momentum", Uniform(low=0.5, high=0.99), (_NORM, "batch")),
        Parameter("kind.wide.width", LogInt(low=16, high=4096), _WIDE),
        Parameter("kind.wide.heads", Choice(options=(1, 2, 4, 8)), _WIDE),
        Parameter("rule", Choice(options=("momentum", "adaptive", "sign"))),
        Parameter("rule.momentum.momentum", Uniform(low=0.0, high=0.99), ("rule", "momentum")),
        Parameter("rule.adaptive.forget", LogUniform(low=1e-3, high=0.5), ("rule", "adaptive")),
        Parameter("learning_rate", LogUniform(low=1e-6, high=1.0)),
        Parameter("batch_size", LogInt(low=8, high=2048)),
        Parameter("warm_up", Uniform(low=0.0, high=0.5)),
        Parameter("smoothing", Uniform(low=0.0, high=0.4)),
        Parameter("shuffle", Int(low=0, high=99)),
    )
)
BEST: Config = {
    "kind": "deep",
    "kind.deep.blocks": 9,
    _NORM: "batch",
    f"{_NORM}.batch.momentum": 0.9,
    "rule": "momentum",
    "rule.momentum.momentum": 0.9,
    "learning_rate": 10**-1.5,
    "batch_size": 32,
    "warm_up": 0.18,
    "smoothing": 0.012,
    "shuffle": 50,
}
CHANCE = 0.1  # what is guessed right without training


def find_end(config: Config) -> tuple[float, float, float]:
    """Return what a config's training ends at, how many epochs it takes to get near, and how much it is too bold by.

    The error is the best's and what each part adds; the last is above 0 where the training diverges.
    """
    error, slowness, margin = _judge_kind(config)
    added, haste, off = _judge_rule(config)
    error += 0.04 + added + 0.12 * abs(float(config["smoothing"]) - 0.012)
    slowness *= haste * (1 + 0.5 * max(0.0, -off))
    return 1 - min(error, 1 - CHANCE), slowness, off - margin


def _judge_kind(config: Config) -> tuple[float, float, float]:
    """Return what a kind of network adds to the error, its slowness, and how bold a step it bears."""
    log_batch, warm_up = math.log2(int(config["batch_size"])), float(config["warm_up"])
    match config["kind"]:
        case "plain":
            return 0.1 + 0.002 * (log_batch - 6) ** 2 + 0.15 * (warm_up - 0.05) ** 2, 0.9, 1.2
        case "wide":
            error = 0.02 + 0.012 * (12 - math.log2(int(config["kind.wide.width"])))
            error += {1: 0.02, 2: 0.01, 4: 0.0, 8: 0.004}[int(config["kind.wide.heads"])]
            return error + 0.004 * (log_batch - 9) ** 2 + 0.15 * (warm_up - 0.05) ** 2, 2.5, 1.0
    blocks = int(config["kind.deep.blocks"])
    error = 0.0015 * (blocks - 9) ** 2 + 0.003 * (log_batch - 5) ** 2 + 1.2 * (warm_up - 0.02 * blocks) ** 2
    match config[_NORM]:
        case "none":
            error += 0.03
        case "layer":
            error += 0.008 + 0.006 * math.log10(float(config[f"{_NORM}.layer.scale"])) ** 2
        case _:
            error += 0.2 * (float(config[f"{_NORM}.batch.momentum"]) - 0.9) ** 2
    return error, 2.0 * (1 + blocks / 12), 0.3 if config[_NORM] == "none" else 0.9


def _judge_rule(config: Config) -> tuple[float, float, float]:
    """Return what a rule adds to the error, how its slowness differs, and the step's logarithm from the best one."""
    log_rate = math.log10(float(config["learning_rate"]))
    match config["rule"]:
        case "momentum":
            momentum = float(config["rule.momentum.momentum"])
            off = log_rate - math.log10(1 - momentum) + 0.5
            return 0.05 * off**2 + 0.1 * (momentum - 0.9) ** 2, 1.0, off
        case "adaptive":
            off = log_rate + 2.5 - 0.15 * (math.log2(int(config["batch_size"])) - 5)
            return 0.01 + 0.05 * off**2 + 0.01 * (math.log10(float(config["rule.adaptive.forget"])) + 2) ** 2, 0.8, off
    off = log_rate + 4
    return 0.03 + 0.06 * off**2, 0.4, off


def draw_curve(config: Config, epochs: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return what each epoch measures; NaN from where the training diverges, the later the less it is too bold."""
    end, slowness, excess = find_end(config)
    left = (np.exp(-epochs / slowness) - math.exp(-epochs[-1] / slowness)) / (1 - math.exp(-epochs[-1] / slowness))
    values = end - (end - CHANCE) * left + (0.005 + 0.05 * np.exp(-epochs / 3)) * rng.normal(size=len(epochs))
    return np.where((excess > 0) & (epochs * excess > 2), np.nan, values)
