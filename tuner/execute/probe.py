"""A worker's process as a trial has it, which measures configurations and rehearses the search."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tuner.errors import TunerError
from tuner.execute.placement import Placement
from tuner.spec.search import DataSpec
from tuner.spec.space import Config, Space
from tuner.train.data import ImageSplits

if TYPE_CHECKING:  # torch takes seconds to import, which only workers should pay
    from tuner.execute.rehearsal import Rehearsal, Stakes
    from tuner.train.cost import Cost


class Probe:
    """Measures configurations, then rehearses.

    Parameters
    ----------
    placement : Placement
        What it gets.
    """

    def __init__(self, placement: Placement) -> None:
        from tuner.train.run import use_threads

        use_threads(placement.cpus)
        self._device = "cuda" if placement.gpus > 0 else "cpu"
        self._splits: ImageSplits | None = None

    def is_ready(self) -> bool:
        """Answer as soon as the process can train."""
        return True

    def load(self, data: DataSpec, cache: Path) -> float:
        """Load the images; return the memory of its GPU, in bytes."""
        import torch

        from tuner.train.data import load_splits

        self._splits = load_splits(data, cache)
        return float(torch.cuda.get_device_properties(0).total_memory) if self._device == "cuda" else 0.0

    def list_networks(self, space: Space) -> list[tuple[str, Config]]:
        """List the smallest and the largest network of each family."""
        from tuner.train.checks.networks import list_networks

        assert self._splits is not None
        found = list_networks(space, self._splits.image_shape, self._splits.num_classes)
        return [(network.name, network.config) for network in found]

    def measure(self, config: Config, workers: int, seed: int) -> "Cost | str":
        """Measure a configuration; return what is wrong if a trial with it would fail."""
        from tuner.train.cost import measure_cost

        assert self._splits is not None
        with tempfile.TemporaryDirectory(prefix="tuner-plan-") as folder:
            try:
                return measure_cost(
                    config, self._splits, folder=Path(folder), seed=seed, device=self._device, workers=workers
                )
            except TunerError as error:
                return str(error)

    def fit(self, measured: Sequence[tuple[Config, "Cost"]], workers: int, **stakes: Any) -> "Stakes":
        """Put together what rehearsals need."""
        from tuner.execute.rehearsal import Stakes
        from tuner.train.cost import CostModel, Images

        assert self._splits is not None
        return Stakes(costs=CostModel(measured, Images.of(self._splits), workers), **stakes)

    def read_spread(self, stakes: "Stakes") -> float:
        """Return how far off what is foretold of a configuration is."""
        return stakes.costs.spread

    def rehearse(self, stakes: "Stakes", seed: Sequence[int]) -> "Rehearsal":
        """Simulate the search once."""
        from tuner.execute.rehearsal import rehearse

        return rehearse(stakes, np.random.default_rng(seed))
