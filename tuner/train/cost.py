"""What it takes to train a configuration: measured on some batches of the real images, and worked out for others."""

import dataclasses
import functools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from tuner.spec.hyperparameters import Architecture, Sgd, build_hyperparameters
from tuner.spec.space import Config
from tuner.train.data import ImageSplits
from tuner.train.loop import EVALUATION_VALUES, EpochResult, Trainer
from tuner.train.models.summary import summarise_architecture

FEW_STEPS = 4  # of an epoch of the first look, which says how many more are worth their time
LOOK_S, EPOCHS = 0.4, 4  # that an epoch of the second look is to last, and how many there are, one to warm up
LOW_RATE = 1e-6


@dataclass(frozen=True)
class Cost:
    """What one configuration takes.

    Attributes
    ----------
    begin_s : float
        From when a worker takes it up until it trains at its usual pace.
    train_s : float
        Of training once on all training images.
    rest_s : float
        Of all else in an epoch: validation, and writing what is kept.
    memory_bytes : int
        At the peak: of tensors on a GPU, or of the whole process.
    state_bytes, model_bytes : int
        On disk: what it takes to go on, and the model alone.
    """

    begin_s: float
    train_s: float
    rest_s: float
    memory_bytes: float
    state_bytes: float
    model_bytes: float


@dataclass(frozen=True)
class Images:
    """What must be known of the images to say what a network costs on them.

    Attributes
    ----------
    shape : tuple of int
        Height, width, channels.
    num_classes, num_train, num_validation : int
        How many.
    """

    shape: tuple[int, int, int]
    num_classes: int
    num_train: int
    num_validation: int

    @classmethod
    def of(cls, splits: ImageSplits) -> "Images":
        """Take it from the images."""
        return cls(splits.image_shape, splits.num_classes, len(splits.train), len(splits.validation))


@dataclass(frozen=True)
class Size:
    """A network's size, for one image.

    Attributes
    ----------
    parameters, multiply_adds, layers, values : int
        Weights and biases; products that are added up; layers that hold weights or change the shape; numbers that the
        layers put out.
    """

    parameters: int
    multiply_adds: int
    layers: int
    values: int


@functools.lru_cache(maxsize=4096)
def measure_size(architecture: Architecture, image_shape: tuple[int, int, int], num_classes: int) -> Size:
    """Measure a network without computing anything."""
    layers = summarise_architecture(architecture, image_shape, num_classes)
    return Size(
        sum(layer.num_parameters for layer in layers),
        sum(layer.num_multiply_adds for layer in layers),
        len(layers),
        sum(layer.memory_bytes for layer in layers) // 4,
    )


def measure_cost(
    config: Config,
    splits: ImageSplits,
    *,
    folder: Path,
    seed: int,
    device: str = "cpu",
    workers: int = 1,
    clock: Callable[[], float] = time.perf_counter,
) -> Cost:
    """Train a configuration on some of the images for a few epochs, and work out what all of them take.

    Parameters
    ----------
    config : mapping
        A point of a space.
    splits : ImageSplits
        The images.
    folder : Path
        Where what a trial keeps is written.
    seed : int
        Where weights and the like come from.
    device : str
        A device of torch.
    workers : int, at least 1
        Of how many that train together the share of one is measured; what they say to each other is left out.
    clock : function
        Seconds that only grow.

    Raises
    ------
    TunerError
        If a trial with this configuration would fail.
    """
    given = build_hyperparameters(config)
    # what takes as long at any learning rate, and diverges at none so low: a training that does ends early
    given = given.model_copy(update={"batch_size": math.ceil(given.batch_size / workers), "learning_rate": LOW_RATE})
    num_train, num_validation = (math.ceil(len(rows) / workers) for rows in (splits.train, splits.validation))

    def look(num_steps: int, num_epochs: int) -> tuple[Trainer, float, list[EpochResult]]:
        some = dataclasses.replace(
            splits,
            train=splits.train[: max(2, min(num_train, num_steps * given.batch_size))],
            validation=splits.validation[:most_validated],
            order=None,
        )
        began = clock()
        trainer = Trainer(given, some, max_epochs=num_epochs, seed=seed, device=device, clock=clock)
        return trainer, clock() - began, list(trainer.epochs())

    at_once = max(1, EVALUATION_VALUES[device.partition(":")[0]] // math.prod(splits.image_shape))
    most_validated = min(num_validation, at_once)
    trainer, build_s, results = look(FEW_STEPS, 2)
    slow_s = max(0.0, results[0].seconds - results[-1].seconds)  # what is done once for shapes that are new
    peak = results[-1].peak_memory_bytes
    num_steps = max(FEW_STEPS, int(FEW_STEPS * LOOK_S / results[-1].seconds))
    num_seen = min(num_train, num_steps * given.batch_size)
    if results[-1].seconds < EPOCHS * LOOK_S:  # one look is enough at what takes long
        trainer, build_s, results = look(num_steps, EPOCHS)
        peak = max(peak, results[-1].peak_memory_bytes)
    trained_s = [num_seen / result.images_per_second for result in results[1:]]
    validated_s = [result.seconds - seconds for result, seconds in zip(results[1:], trained_s, strict=True)]
    began = clock()
    trainer.save(folder / "last.pt")
    trainer.save_model(folder / "model.pt")
    save_s = clock() - began
    return Cost(
        begin_s=build_s + slow_s,
        train_s=float(np.median(trained_s)) * num_train / num_seen,
        rest_s=float(np.median(validated_s)) * num_validation / most_validated + save_s,
        memory_bytes=peak,
        state_bytes=(folder / "last.pt").stat().st_size,
        model_bytes=(folder / "model.pt").stat().st_size,
    )


class CostModel:
    """Says what any configuration of a space takes, by those that were measured.

    Parameters
    ----------
    measured : sequence of (config, Cost), not empty
        What was measured.
    images : Images
        On what.
    workers : int
        How many train each together.

    Attributes
    ----------
    spread : float
        The standard deviation of the logarithm of ``train_s`` from what the others say of each that was measured.
    ends : (int, int)
        The fewest and the most multiply-adds of those that were measured.

    Notes
    -----
    Each number is a sum of parts that cannot be negative, fitted to the measured ones of the same family by least
    squares of the relative errors: the seconds of training have a part for each step, for each step and layer, for each
    image, for each number that a layer puts out, and for each multiply-add.
    """

    def __init__(self, measured: Sequence[tuple[Config, Cost]], images: Images, workers: int = 1) -> None:
        self._images = images
        self._workers = workers
        self._by_family: dict[str, dict[str, NDArray[np.float64]]] = {}
        sizes = [max(1, self.size(config).multiply_adds) for config, _ in measured]
        self.ends = min(sizes), max(sizes)
        parts = [self._split(config) for config, _ in measured]
        costs = [dataclasses.asdict(cost) for _, cost in measured]
        families = [str(config["architecture"]) for config, _ in measured]
        self._overall = self._fit(parts, costs)
        misses: list[float] = []
        for family in dict.fromkeys(families):
            own = [row for row, name in enumerate(families) if name == family]
            self._by_family[family] = self._fit([parts[row] for row in own], [costs[row] for row in own])
            for row in own if len(own) > 2 else ():
                others = [other for other in own if other != row]
                fit = self._fit([parts[other] for other in others], [costs[other] for other in others])
                foretold = float(parts[row]["train_s"] @ fit["train_s"])
                misses.append(abs(math.log(max(foretold, 1e-9) / max(costs[row]["train_s"], 1e-9))))
        self.spread = float(np.median(misses)) / 0.6745 if misses else 0.0  # of a normal distribution, robustly

    def foretell(self, config: Config) -> Cost:
        """Say what a configuration takes."""
        fit = self._by_family.get(str(config["architecture"]), self._overall)
        return Cost(**{name: float(parts @ fit[name]) for name, parts in self._split(config).items()})

    def size(self, config: Config) -> Size:
        """Say how large a configuration's network is."""
        return measure_size(build_hyperparameters(config).architecture, self._images.shape, self._images.num_classes)

    @staticmethod
    def _fit(
        parts: Sequence[Mapping[str, NDArray[np.float64]]], costs: Sequence[Mapping[str, float]]
    ) -> dict[str, NDArray[np.float64]]:
        fitted = {}
        for name in parts[0]:
            values = np.array([max(cost[name], 1e-9) for cost in costs])
            rows = np.array([part[name] for part in parts]) / values[:, None]
            scale = np.abs(rows).max(axis=0)
            scale[scale == 0] = 1.0
            fitted[name] = nnls(rows / scale, np.ones(len(rows)))[0] / scale
        return fitted

    def _split(self, config: Config) -> dict[str, NDArray[np.float64]]:
        """Say of what each number is made, as the factors of its parts."""
        given, size = build_hyperparameters(config), self.size(config)
        num_train, num_validation = (
            math.ceil(number / self._workers) for number in (self._images.num_train, self._images.num_validation)
        )
        batch = math.ceil(given.batch_size / self._workers)
        steps = math.ceil(num_train / batch)
        held = min(given.micro_batch or batch, batch)
        others = 0 if isinstance(given.optimizer, Sgd) else size.parameters  # that keep two numbers for a weight
        parts = {
            "begin_s": [1, size.layers, size.parameters],
            "train_s": [
                steps, steps * size.layers, num_train, num_train * size.values, num_train * size.multiply_adds,
                steps * size.parameters,
            ],
            "rest_s": [1, size.layers, num_validation * size.values, num_validation * size.multiply_adds,
                       size.parameters],
            "memory_bytes": [1, size.parameters, held * size.values],
            "state_bytes": [1, size.layers, size.parameters, others],
            "model_bytes": [1, size.layers, size.parameters],
        }  # fmt: skip
        return {name: np.array(values, dtype=float) for name, values in parts.items()}
