"""What is searched: spaces with the learning curve of every point in them.

Every method sees the same values: the objective of the best epoch so far, larger being better.
"""

import functools
import itertools
import math
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from search_quality import mixed as mixed_space
from search_quality.curve_surrogate import load_space, load_surrogate
from tuner.spec.space import Choice, Config, Int, LogInt, LogUniform, Parameter, Space, Uniform

MAX_EPOCHS = 27


@dataclass(frozen=True)
class Problem:
    """A space and its learning curves.

    Attributes
    ----------
    name : str
        Its name.
    space : Space
        What is searched.
    curve : function from config to array of MAX_EPOCHS floats
        The best value so far after each epoch, larger is better; NaN from where the training diverges.
    truth : function from config to float
        What a config reaches at the end, without noise; NaN if it diverges.
    optimum : float
        The best truth of all configs.
    """

    name: str
    space: Space
    curve: Callable[[Config], np.ndarray]
    truth: Callable[[Config], float]
    optimum: float

    def regret(self, config: Config) -> float:
        """Return how far a config stays below the best one, when both are trained to the end."""
        truth = self.truth(config)
        return self.optimum - truth if math.isfinite(truth) else self.optimum


# Hartmann's functions made dependent on the fidelity, with the constants of mf-prior-bench. At low fidelity the four
# peaks are lower, or turned into pits, and noise is taken off: the same each time for the same point and fidelity.
_P3 = np.array([[3689, 1170, 2673], [4699, 4387, 7470], [1091, 8732, 5547], [381, 5743, 8828]]) * 1e-4
_A3 = np.array([[3.0, 10, 30], [0.1, 10, 35], [3.0, 10, 30], [0.1, 10, 35]])
_P6 = 1e-4 * np.array(
    [
        [1312, 1696, 5569, 124, 8283, 5886],
        [2329, 4135, 8307, 3736, 1004, 9991],
        [2348, 1451, 3522, 2883, 3047, 6650],
        [4047, 8828, 8732, 5743, 1091, 381],
    ]
)
_A6 = np.array(
    [[10, 3, 17, 3.5, 1.7, 8], [0.05, 10, 17, 0.1, 8, 14], [3, 3.5, 1.7, 10, 17, 8], [17, 8, 0.05, 10, 0.1, 14]]
)
_ALPHA = np.array([1.0, 1.2, 3.0, 3.2])
_HARTMANN = {3: (_A3, _P3, 3.86278), 6: (_A6, _P6, 3.32237)}
BIAS_AND_NOISE = {"good": (2.5, 2.0), "moderate": (3.0, 3.0), "bad": (3.5, 4.0), "terrible": (4.0, 5.0)}


def hartmann(dimensions: int, correlation: str) -> Problem:
    """Make a Hartmann function of 3 or 6 dimensions whose low fidelities tell more, or less, about the last."""
    steep, peaks, optimum = _HARTMANN[dimensions]
    bias, noise = BIAS_AND_NOISE[correlation]
    lacking = 1 - np.log(np.arange(1, MAX_EPOCHS + 1)) / np.log(MAX_EPOCHS)
    space = Space(tuple(Parameter(f"x{i}", Uniform(low=0.0, high=1.0)) for i in range(dimensions)))

    def curve(config: Config) -> np.ndarray:
        point = np.array([config[f"x{i}"] for i in range(dimensions)], dtype=float)
        shape = np.exp(-(steep * (point - peaks) ** 2).sum(axis=1))
        values = (_ALPHA - bias * lacking[:, None]) @ shape
        draws = np.random.default_rng(list(point.view(np.uint32))).normal(size=MAX_EPOCHS)
        return np.maximum.accumulate(values - noise * lacking * np.abs(draws))

    return Problem(
        f"hartmann{dimensions}-{correlation}", space, curve, lambda config: float(curve(config)[-1]), optimum
    )


_CONDITIONAL = Space(
    (
        Parameter("architecture", Choice(options=("simple_cnn", "resnet", "lenet"))),
        Parameter("architecture.simple_cnn.depth", Int(low=1, high=8), ("architecture", "simple_cnn")),
        Parameter("architecture.simple_cnn.width", LogInt(low=8, high=128), ("architecture", "simple_cnn")),
        Parameter("architecture.resnet.depth", Choice(options=(8, 14, 20)), ("architecture", "resnet")),
        Parameter("architecture.resnet.width", Int(low=8, high=64, step=8), ("architecture", "resnet")),
        Parameter("optimizer", Choice(options=("sgd", "adamw"))),
        Parameter("optimizer.sgd.learning_rate", LogUniform(low=1e-3, high=1.0), ("optimizer", "sgd")),
        Parameter("optimizer.adamw.learning_rate", LogUniform(low=1e-5, high=1e-1), ("optimizer", "adamw")),
        Parameter("optimizer.adamw.weight_decay", LogUniform(low=1e-4, high=1.0), ("optimizer", "adamw")),
        Parameter("l2", LogUniform(low=1e-7, high=1e-2)),
        Parameter("dropout", Uniform(low=0.0, high=0.6)),
        Parameter("batch_size", LogInt(low=16, high=1024)),
        Parameter("learning_rate_decay", Choice(options=("constant", "step", "cosine"))),
    )
)


BEST: Config = {
    "architecture": "resnet",
    "architecture.resnet.depth": 20,
    "architecture.resnet.width": 64,
    "optimizer": "sgd",
    "optimizer.sgd.learning_rate": 10**-1.2,
    "l2": 1e-4,
    "dropout": 0.25,
    "batch_size": 64,
    "learning_rate_decay": "cosine",
}


def _error(config: Config, slow_resnet: float) -> tuple[float, float]:
    """Return the error that a made-up training ends near, and how many epochs it takes; NaN if it diverges."""
    is_sgd = config["optimizer"] == "sgd"
    log_rate = math.log10(float(config[f"optimizer.{config['optimizer']}.learning_rate"]))
    off = log_rate + (1.2 if is_sgd else 3.0) - 0.3 * math.log2(int(config["batch_size"]) / 64) / 3
    if off > 1.0:
        return math.nan, 1.0
    error = 0.05 + 0.04 * off**2 + 0.006 * (math.log10(float(config["l2"])) + 4) ** 2
    error += 0.5 * (float(config["dropout"]) - 0.25) ** 2 + 0.004 * (math.log2(int(config["batch_size"])) - 6) ** 2
    error += {"constant": 0.03, "step": 0.01, "cosine": 0.0}[str(config["learning_rate_decay"])]
    if not is_sgd:
        error += 0.015 + 0.005 * (math.log10(float(config["optimizer.adamw.weight_decay"])) + 2) ** 2
    slowness = 2.0 + 1.5 * max(0.0, -off)
    match config["architecture"]:
        case "simple_cnn":
            error += 0.08 + 0.006 * abs(int(config["architecture.simple_cnn.depth"]) - 4)
            error += 0.01 * (math.log2(int(config["architecture.simple_cnn.width"])) - 6) ** 2 / 4
        case "resnet":
            error += {8: 0.03, 14: 0.012, 20: 0.0}[int(config["architecture.resnet.depth"])]
            error += 0.04 * (1 - int(config["architecture.resnet.width"]) / 64)
            slowness *= slow_resnet
        case _:
            error += 0.15
            slowness *= 0.5
    return error, slowness


def conditional(*, crossing: bool) -> Problem:
    """Make a conditional space with made-up curves; if crossing, the best family is the slowest to start."""
    slow = 4.0 if crossing else 1.0
    epochs = np.arange(1, MAX_EPOCHS + 1)

    def curve(config: Config) -> np.ndarray:
        error, slowness = _error(config, slow)
        if math.isnan(error):
            return np.full(MAX_EPOCHS, np.nan)
        draws = np.random.default_rng(zlib.crc32(repr(sorted(config.items())).encode())).normal(size=MAX_EPOCHS)
        values = 1 - error - (0.9 - error) * np.exp(-epochs / slowness) + 0.008 * draws
        return np.maximum.accumulate(values)

    def truth(config: Config) -> float:
        error, slowness = _error(config, slow)
        return 1 - error - (0.9 - error) * math.exp(-MAX_EPOCHS / slowness)

    assert _CONDITIONAL.contains(BEST)
    return Problem("crossing" if crossing else "conditional", _CONDITIONAL, curve, truth, truth(BEST))


_NUM_VALIDATION = {"curves": 1800, "digits": 360}  # images that a table's accuracies were measured on


def real_curves(name: str) -> Problem:
    """Make a problem of the curves of real trainings, with the noise that their validation images leave."""
    surrogate, optimum = load_surrogate(name)

    def predict(config: Config) -> np.ndarray:
        return surrogate.predict(surrogate.inputs.encoding.encode([config]))[0]

    def curve(config: Config) -> np.ndarray:
        mean = predict(config)
        draws = np.random.default_rng(zlib.crc32(repr(sorted(config.items())).encode())).normal(size=MAX_EPOCHS)
        return np.maximum.accumulate(mean + np.sqrt(mean * (1 - mean) / _NUM_VALIDATION[name]) * draws)

    return Problem(name, load_space(name), curve, lambda config: float(predict(config)[-1]), optimum)


def mixed() -> Problem:
    """Make the made-up conditional space of `mixed`; where training diverges there is no truth."""
    epochs = np.arange(1, MAX_EPOCHS + 1)

    def curve(config: Config) -> np.ndarray:
        rng = np.random.default_rng(zlib.crc32(repr(sorted(config.items())).encode()))
        return np.maximum.accumulate(mixed_space.draw_curve(config, epochs, rng))

    def truth(config: Config) -> float:
        end, _, excess = mixed_space.find_end(config)
        return math.nan if excess * MAX_EPOCHS > 2 else end

    assert mixed_space.SPACE.contains(mixed_space.BEST)
    return Problem("mixed", mixed_space.SPACE, curve, truth, truth(mixed_space.BEST))


_BOREHOLE = {
    "radius": (0.05, 0.15),
    "reach": (100, 50_000),
    "upper_flow": (63_070, 115_600),
    "upper_head": (990, 1110),
    "lower_flow": (63.1, 116),
    "lower_head": (700, 820),
    "length": (1120, 1680),
    "conductivity": (9855, 12_045),
}


def borehole() -> Problem:
    """Make the flow through a borehole, of which low fidelities see Xiong's coarser formula, and noise is taken off.

    References
    ----------
    .. [1] Xiong et al., "Sequential Design and Analysis of High-Accuracy and Low-Accuracy Computer Codes",
       Technometrics 55(1), 2013.
    """
    lacking = 1 - np.log(np.arange(1, MAX_EPOCHS + 1)) / np.log(MAX_EPOCHS)
    space = Space(tuple(Parameter(name, Uniform(low=low, high=high)) for name, (low, high) in _BOREHOLE.items()))

    def flow(config: Config, factor: float, offset: float) -> float:
        radius, reach, upper, upper_head, lower, lower_head, length, conductivity = (
            float(config[name]) for name in _BOREHOLE
        )
        log = math.log(reach / radius)
        resistance = offset + 2 * length * upper / (log * radius**2 * conductivity) + upper / lower
        return factor * upper * (upper_head - lower_head) / (log * resistance)

    def truth(config: Config) -> float:
        return flow(config, 2 * math.pi, 1.0)

    def curve(config: Config) -> np.ndarray:
        draws = np.random.default_rng(zlib.crc32(repr(sorted(config.items())).encode())).normal(size=MAX_EPOCHS)
        missing = truth(config) - flow(config, 5.0, 1.5) + 40 * np.abs(draws)
        return np.maximum.accumulate(truth(config) - missing * lacking)

    corners = (dict(zip(_BOREHOLE, ends, strict=True)) for ends in itertools.product(*_BOREHOLE.values()))
    return Problem("borehole", space, curve, truth, max(map(truth, corners)))


PROBLEMS: Mapping[str, Callable[[], Problem]] = {
    **{
        f"hartmann{dimensions}-{correlation}": functools.partial(hartmann, dimensions, correlation)
        for dimensions in _HARTMANN
        for correlation in BIAS_AND_NOISE
    },
    "conditional": functools.partial(conditional, crossing=False),
    "crossing": functools.partial(conditional, crossing=True),
    "curves": functools.partial(real_curves, "curves"),
    "digits": functools.partial(real_curves, "digits"),
    "mixed": mixed,
    "borehole": borehole,
}

HELD_OUT = ("digits", "mixed", "borehole")
"""Those on which nothing was chosen: no constant of ours may be tried on them."""
