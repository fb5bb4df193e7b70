"""What each trial gets of a cluster, and refusing at once what can never be placed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tuner.errors import ResourceError
from tuner.spec.search import Resources


@dataclass(frozen=True)
class Placement:
    """What one trial gets, and how many run at once."""

    cpus: int
    gpus: float
    trials_at_once: int


def place(resources: Resources, nodes: Sequence[Mapping[str, float]]) -> Placement:
    """Work out what a trial gets and how many fit, and refuse what never will.

    Parameters
    ----------
    resources : Resources
        What was asked for.
    nodes : sequence of mappings
        What each node of the cluster has, by Ray's names: ``CPU``, ``GPU``.

    Raises
    ------
    ResourceError
        If not one trial fits on any node, or fewer than ``trials_at_once`` fit on all.
    """
    total = {kind: sum(node.get(kind, 0) for node in nodes) for kind in ("CPU", "GPU")}
    gpus = resources.gpus
    if gpus == "auto":
        gpus = 1.0 if total["GPU"] >= 1 else 0.0
    fitting = sum(_fits(node, resources.cpus, gpus) for node in nodes)
    if fitting == 0:
        raise ResourceError(
            f"resources: a trial asks for {resources.cpus} CPUs and {gpus:g} GPUs, but the largest node has "
            f"{max(n.get('CPU', 0) for n in nodes):g} CPUs and {max(n.get('GPU', 0) for n in nodes):g} GPUs "
            f"(the cluster: {total['CPU']:g} and {total['GPU']:g}); lower resources.cpus or resources.gpus"
        )
    wanted = resources.trials_at_once
    if wanted != "auto" and wanted > fitting:
        raise ResourceError(
            f"resources.trials_at_once: {wanted} trials of {resources.cpus} CPUs and {gpus:g} GPUs were asked for, but "
            f"only {fitting} fit on the cluster's {total['CPU']:g} CPUs and {total['GPU']:g} GPUs; "
            f"lower it to {fitting} or write auto"
        )
    return Placement(resources.cpus, gpus, fitting if wanted == "auto" else wanted)


def _fits(node: Mapping[str, float], cpus: int, gpus: float) -> int:
    """Count the trials that fit on one node; a share of a GPU never spans two."""
    by_cpu = int(node.get("CPU", 0) // cpus)
    if gpus == 0:
        return by_cpu
    have = node.get("GPU", 0)
    by_gpu = int(have) * int(1 // gpus + 1e-9) if gpus < 1 else int(have // gpus)
    return min(by_cpu, by_gpu)
