"""What the rehearsals of a search say together, and what there is no room for."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tuner.execute.placement import Placement
from tuner.spec.space import Config

if TYPE_CHECKING:  # torch takes seconds to import
    from tuner.execute.rehearsal import Rehearsal
    from tuner.train.cost import Cost

PERCENTILES = (10, 50, 90)

Band = tuple[float, float, float]  # the three percentiles


@dataclass(frozen=True)
class MeasuredNetwork:
    """A configuration that was measured.

    Attributes
    ----------
    name : str
        The network's.
    config : mapping
        The point of the space.
    cost : Cost or None
        What it takes; None if a trial with it fails.
    fault : str
        Why it does.
    is_drawn : bool
        Whether it was drawn from the space, and is not an end of its family.
    """

    name: str
    config: Config
    cost: "Cost | None"
    fault: str = ""
    is_drawn: bool = False


@dataclass(frozen=True)
class Room:
    """What there is for trials to take.

    Attributes
    ----------
    per_node : tuple of (int, float)
        Of each node, how many workers may run there at once, and its free memory in bytes.
    gpu_bytes : float
        Memory of a GPU; 0 where no trial gets one.
    disk_bytes : float
        Free where checkpoints are kept.
    """

    per_node: tuple[tuple[int, float], ...]
    gpu_bytes: float
    disk_bytes: float


@dataclass(frozen=True)
class Plan:
    """What a search will take.

    Attributes
    ----------
    placement : Placement
        What each trial gets, and how many run at once.
    start_up_s : float
        From the command to the first trial, as measured.
    networks : tuple of MeasuredNetwork
        What was measured.
    spread : float
        How far, as a share, what is foretold of a configuration is from what is measured.
    unsteadiness : float
        How far, as a share, the same network's epochs are from each other within a minute.
    rehearsals : tuple of Rehearsal
        The simulated searches.
    misfits : tuple of str
        What will not fit or fail, in a sentence each.
    """

    placement: Placement
    start_up_s: float
    networks: tuple[MeasuredNetwork, ...]
    spread: float
    unsteadiness: float
    rehearsals: tuple["Rehearsal", ...]
    misfits: tuple[str, ...]

    @property
    def bands(self) -> dict[str, Band]:
        """The three percentiles of each number; ``wall_s`` is that of the whole command, start-up included."""
        names = ("trials", "epochs", "seconds", "gpu_hours", "disk_bytes", "memory_bytes")
        found = {name: find_band([float(getattr(one, name)) for one in self.rehearsals]) for name in names}
        return {**found, "wall_s": find_band([one.seconds + one.slowness * self.start_up_s for one in self.rehearsals])}

    @property
    def ended(self) -> Counter[str]:
        """How the rehearsals ended."""
        return Counter(one.ended for one in self.rehearsals)


@dataclass(frozen=True)
class PlannedStage:
    """One stage over all rehearsals; one that was not begun counts with zeros.

    Attributes
    ----------
    name : str
        Its name.
    num_begun : int
        In how many rehearsals it was begun.
    trials, epochs, seconds : Band
        The percentiles.
    rungs : mapping from int to Band
        By the epoch of each rung, the trials that come to it.
    """

    name: str
    num_begun: int
    trials: Band
    epochs: Band
    seconds: Band
    rungs: Mapping[int, Band]


def find_band(values: Sequence[float]) -> Band:
    """Return the 10th, 50th and 90th percentile."""
    low, middle, high = np.percentile(values, PERCENTILES).tolist()
    return low, middle, high


def list_stages(rehearsals: Sequence["Rehearsal"], names: Iterable[str]) -> tuple[PlannedStage, ...]:
    """Put the stages of all rehearsals beside each other."""
    planned = []
    for name in names:
        own = [stage for one in rehearsals for stage in one.stages if stage.name == name]
        missing = [0.0] * (len(rehearsals) - len(own))
        numbers = {
            key: find_band([*(float(getattr(stage, key)) for stage in own), *missing])
            for key in ("trials", "epochs", "seconds")
        }
        rungs = sorted({rung for stage in own for rung in stage.rungs})
        counts = {rung: find_band([*(float(stage.rungs.get(rung, 0)) for stage in own), *missing]) for rung in rungs}
        planned.append(PlannedStage(name, len(own), **numbers, rungs=counts))
    return tuple(planned)


def find_misfits(
    networks: Sequence[MeasuredNetwork], rehearsals: Sequence["Rehearsal"], placement: Placement, room: Room
) -> list[str]:
    """Say what fails, and what there is no room for.

    Parameters
    ----------
    networks : sequence of MeasuredNetwork
        What was measured.
    rehearsals : sequence of Rehearsal
        The simulated searches.
    placement : Placement
        What each trial gets.
    room : Room
        What there is.
    """
    misfits = [f"{network.name}: a trial with it fails: {network.fault}" for network in networks if network.fault]
    largest = max((network.cost.memory_bytes for network in networks if network.cost is not None), default=0.0)
    if placement.gpus == 0:
        for num_workers, memory_bytes in room.per_node:
            if num_workers * largest > memory_bytes:
                misfits.append(
                    f"memory: {num_workers} workers at once on a node take up to {num_workers * largest / 1e9:.2f} GB, "
                    f"and it has {memory_bytes / 1e9:.2f} GB free; set resources.trials_at_once lower, or a smaller "
                    "batch_size or micro_batch"
                )
    elif placement.gpus < 1 and (sharing := int(1 / placement.gpus + 1e-9)) * largest > room.gpu_bytes:
        misfits.append(
            f"GPU memory: {sharing} trials share a GPU and take up to {sharing * largest / 1e9:.2f} GB, and it has "
            f"{room.gpu_bytes / 1e9:.2f} GB; set resources.gpus higher"
        )
    disk_bytes = find_band([one.disk_bytes for one in rehearsals])[-1] if rehearsals else 0.0
    if disk_bytes > room.disk_bytes:
        misfits.append(
            f"disk: checkpoints take up to {disk_bytes / 1e9:.2f} GB at once, and {room.disk_bytes / 1e9:.2f} GB are "
            "free; free some, or keep results elsewhere with --results"
        )
    return misfits
