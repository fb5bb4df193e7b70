"""The networks of a space that are looked at: of each family the smallest and the largest."""

import dataclasses
import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from tuner.errors import TunerError
from tuner.spec.hyperparameters import build_hyperparameters
from tuner.spec.space import Choice, Config, Distribution, LogInt, LogUniform, Parameter, Scalar, Space, Uniform
from tuner.train.models import Randomness, build_model

MOST_CORNERS = 64  # of a family; more are looked at by one hyperparameter after the other


@dataclass(frozen=True)
class Network:
    """One network of a space, with all else in the middle.

    Attributes
    ----------
    name : str
        Its family, and which one it is if there are several.
    config : mapping
        A point of the space.
    num_parameters : int
        Weights and biases.
    """

    name: str
    config: Config
    num_parameters: int


def find_middle(distribution: Distribution) -> Scalar:
    """Find the value in the middle of a range, on its own scale and grid; of a choice, the first option."""
    if isinstance(distribution, Choice):
        return distribution.options[0]
    low, high = distribution.low, distribution.high
    if isinstance(distribution, LogUniform):
        return math.sqrt(low * high)
    if isinstance(distribution, LogInt):
        return round(math.sqrt(low * high))
    if isinstance(distribution, Uniform) and distribution.step is None:
        return (low + high) / 2
    step = distribution.step
    assert step is not None, "integers have one"
    return low + step * int((high - low) / step / 2)


def list_networks(space: Space, image_shape: tuple[int, int, int], num_classes: int) -> tuple[Network, ...]:
    """Find the smallest and the largest network of each family of a space.

    Parameters
    ----------
    space : Space
        What may vary; ``architecture`` is in it.
    image_shape : tuple of int
        Height, width, channels.
    num_classes : int
        How many scores come out.

    Returns
    -------
    tuple of Network
        One of a family whose size does not vary. All other hyperparameters are in the middle of their ranges.
    """
    families = space["architecture"].distribution
    assert isinstance(families, Choice), "a checked space has families to choose from"
    found: list[Network] = []
    for family in families.options:
        own = [p for p in space.parameters if p.name.startswith(f"architecture.{family}.") and not p.is_constant]
        sized: dict[int, Network] = {}
        for corner in _list_corners(own):
            config = _fill(space, {"architecture": family, **corner})
            network = _build(str(family), config, image_shape, num_classes)
            if network is not None:
                sized[network.num_parameters] = sized.get(network.num_parameters, network)
        for size in sorted({min(sized), max(sized)}) if sized else ():
            name = f"{family}, {'smallest' if size == min(sized) else 'largest'}" if len(sized) > 1 else str(family)
            found.append(dataclasses.replace(sized[size], name=name))
    return tuple(found)


def _list_corners(parameters: list[Parameter]) -> list[dict[str, Scalar]]:
    """List all combinations of the ends of ranges and of options, or, if they are too many, one change at a time."""
    ends = {p.name: _list_ends(p.distribution) for p in parameters}
    if math.prod(len(values) for values in ends.values()) <= MOST_CORNERS:
        return [dict(zip(ends, values, strict=True)) for values in itertools.product(*ends.values())]
    middle = {p.name: find_middle(p.distribution) for p in parameters}
    low, high = ({name: values[end] for name, values in ends.items()} for end in (0, -1))
    return [low, high, *({**middle, name: value} for name, values in ends.items() for value in values)]


def _list_ends(distribution: Distribution) -> tuple[Scalar, ...]:
    return distribution.options if isinstance(distribution, Choice) else (distribution.low, distribution.high)


def _fill(space: Space, given: Mapping[str, Scalar]) -> dict[str, Scalar]:
    return space.walk(lambda parameter: given.get(parameter.name, find_middle(parameter.distribution)))


def _build(family: str, config: Config, image_shape: tuple[int, int, int], num_classes: int) -> Network | None:
    """Measure a network; None if there is none, as a trial with such a config would fail."""
    randomness = Randomness(torch.Generator(), torch.Generator())
    try:
        with torch.device("meta"):  # shapes and no weights; to send an image through it would take seconds to load
            network = build_model(build_hyperparameters(config), image_shape, num_classes, randomness)
    except TunerError:
        return None
    return Network(family, config, sum(parameter.numel() for parameter in network.parameters()))
