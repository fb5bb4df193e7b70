"""Whether a search can work at all: its images, and of each family the smallest and the largest network.

What the lecture calls babysitting the learning, before any trial is paid for.
"""

import math
from collections.abc import Callable, Iterator

import numpy as np
import torch

from tuner.spec.hyperparameters import build_hyperparameters
from tuner.spec.space import Choice, Config, Space
from tuner.train.checks.finding import Finding, Status
from tuner.train.checks.images import check_images, draw_contact_sheet
from tuner.train.checks.learning import RateRange, check_by_heart, check_carries_over, find_rates, judge_rates
from tuner.train.checks.networks import Network, list_networks
from tuner.train.checks.wiring import WiringCheck
from tuner.train.data import ImageSplits
from tuner.train.memory import release

__all__ = ["Finding", "RateRange", "Status", "check_space", "draw_contact_sheet", "find_ends"]

DEFAULT_RATE = 0.01


def check_space(
    space: Space,
    splits: ImageSplits,
    *,
    seed: int,
    device: str = "cpu",
    is_quick: bool = False,
    see_rates: Callable[[str, RateRange], None] | None = None,
) -> Iterator[Finding]:
    """Check the images, and of each family of a space the smallest and the largest network.

    Parameters
    ----------
    space : Space
        What may vary.
    splits : ImageSplits
        The images to train on and to validate with.
    seed : int, at least 0
        Where weights and the images that are looked at come from.
    device : str
        A device of torch.
    is_quick : bool
        Whether to leave out all that trains.
    see_rates : function or None
        Given each network's name and learning-rate range test.

    Yields
    ------
    Finding
        What each check found, as soon as it has.
    """
    rng = np.random.default_rng(seed)
    yield from check_images(splits, rng)
    for network in list_networks(space, splits.image_shape, splits.num_classes):
        has_failed = False
        for finding in _check_wiring(network, space, splits, rng, seed=seed, device=device):
            has_failed |= finding.status == "fail"
            yield finding
        if not is_quick and not has_failed:
            yield from _check_learning(network, space, splits, see_rates, seed=seed, device=device)
        release(torch.device(device))


def _check_wiring(
    network: Network, space: Space, splits: ImageSplits, rng: np.random.Generator, *, seed: int, device: str
) -> Iterator[Finding]:
    most_l2 = find_ends(space, "l2", network.config, default=0.0)[1]
    given = build_hyperparameters(network.config)
    yield from WiringCheck(network.name, given, splits, rng, seed=seed, device=device, most_l2=most_l2).run()


def _check_learning(
    network: Network,
    space: Space,
    splits: ImageSplits,
    see_rates: Callable[[str, RateRange], None] | None,
    *,
    seed: int,
    device: str,
) -> Iterator[Finding]:
    given = build_hyperparameters(network.config)
    yield check_by_heart(network.name, given, splits, seed=seed, device=device)
    found = find_rates(given, splits, seed=seed, device=device)
    if see_rates is not None:
        see_rates(network.name, found)
    yield judge_rates(network.name, found, *find_ends(space, "learning_rate", network.config))
    # what a noisy range test finds may be far too low
    rates = [math.sqrt(found.low * found.high), found.high] if math.isfinite(found.high) else []
    yield check_carries_over(network.name, given, splits, [*rates, DEFAULT_RATE], seed=seed, device=device)


def find_ends(
    space: Space, key: str, config: Config | None = None, default: float = DEFAULT_RATE
) -> tuple[float, float]:
    """Find the least and the largest value that a number may have in a space.

    Parameters
    ----------
    space : Space
        What may vary.
    key : str
        The hyperparameter's own name.
    config : mapping or None
        Only under these choices; None for all.
    default : float
        What it is where the space does not name it.
    """
    ends: list[float] = []
    for parameter in space.parameters:
        if parameter.key == key and (config is None or parameter.name in config):
            distribution = parameter.distribution
            if isinstance(distribution, Choice):
                ends += [float(option) for option in distribution.options]
            else:
                ends += [distribution.low, distribution.high]
    return min(ends, default=default), max(ends, default=default)
