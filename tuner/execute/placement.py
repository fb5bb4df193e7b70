"""What each trial gets of a cluster, and refusing at once what can never be placed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tuner.errors import ResourceError
from tuner.spec.search import Limits, Resources

SHARING = (8, 4, 2)  # trials on one GPU


@dataclass(frozen=True)
class Placement:
    """What one trial gets, and how many run at once.

    Attributes
    ----------
    cpus, gpus : int, float
        Of each of its workers.
    trials_at_once : int
        How many trials.
    workers : int
        How many processes train each of them together.
    """

    cpus: int
    gpus: float
    trials_at_once: int
    workers: int = 1

    @property
    def held_gpus(self) -> float:
        """GPUs that one trial holds."""
        return self.gpus * self.workers


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
        wanted_gpus = 1 if resources.workers == "auto" else resources.workers
        gpus = float(wanted_gpus) if total["GPU"] >= 1 else 0.0
    workers = max(1, int(gpus)) if resources.workers == "auto" else resources.workers
    each = gpus / workers
    if workers > 1 and each not in {0, 1}:
        raise ResourceError(
            f"resources: workers that train together have one GPU each or none, found {gpus:g} GPUs for {workers} "
            f"workers; set resources.gpus to {workers} or 0, or leave resources.workers out"
        )
    asked = f"{resources.cpus * workers} CPUs and {gpus:g} GPUs"
    if workers > 1:
        asked += f" (for {workers} workers of {resources.cpus} CPUs and {each:g} GPUs)"
    # the workers of a trial may be on several nodes, one of them never is
    fitting = sum(_fits(node, resources.cpus, each) for node in nodes) // workers
    if fitting == 0:
        raise ResourceError(
            f"resources: a trial asks for {asked}, but the largest node has "
            f"{max(n.get('CPU', 0) for n in nodes):g} CPUs and {max(n.get('GPU', 0) for n in nodes):g} GPUs "
            f"(the cluster: {total['CPU']:g} and {total['GPU']:g}); lower resources.cpus, resources.gpus or "
            "resources.workers"
        )
    wanted = resources.trials_at_once
    if wanted != "auto" and wanted > fitting:
        raise ResourceError(
            f"resources.trials_at_once: {wanted} trials of {asked} were asked for, but "
            f"only {fitting} fit on the cluster's {total['CPU']:g} CPUs and {total['GPU']:g} GPUs; "
            f"lower it to {fitting} or write auto"
        )
    return Placement(resources.cpus, each, fitting if wanted == "auto" else wanted, workers)


def suggest_sharing(resources: Resources, nodes: Sequence[Mapping[str, float]]) -> str | None:
    """Say how trials may share a GPU, where ``auto`` gives each a whole one and CPUs are left over.

    Notes
    -----
    A process that trains a small network keeps a GPU busy for an eighth of the time, since it is the CPU that starts
    each of its kernels. Eight trials together saw 5.5 times as many images a second as one with two small networks,
    3.3 times with a ResNet-18 (benchmarks/gpu.py).
    """
    cpus_of_a_gpu = max((node.get("CPU", 0) / node["GPU"] for node in nodes if node.get("GPU", 0) >= 1), default=0)
    sharing = next((count for count in SHARING if count * resources.cpus <= cpus_of_a_gpu), None)
    if resources.gpus != "auto" or resources.workers not in {"auto", 1} or sharing is None:
        return None
    return (
        f"each trial has a whole GPU, which small networks leave mostly idle: {sharing} share one with "
        f"--set resources.gpus={1 / sharing:g}, as long as they fit into its memory together"
    )


def refuse_useless_limits(limits: Limits, placement: Placement) -> None:
    """Refuse a limit that can never be reached with what the trials get.

    Raises
    ------
    ResourceError
        If GPU hours are limited and no trial gets a GPU.
    """
    if limits.gpu_hours is not None and placement.held_gpus == 0:
        raise ResourceError(
            f"limits.gpu_hours: {limits.gpu_hours:g} GPU hours are the limit, but there is no GPU for the trials to "
            "use; take it out or limit the time"
        )


def _fits(node: Mapping[str, float], cpus: int, gpus: float) -> int:
    """Count the workers that fit on one node; a share of a GPU never spans two."""
    by_cpu = int(node.get("CPU", 0) // cpus)
    if gpus == 0:
        return by_cpu
    have = node.get("GPU", 0)
    by_gpu = int(have) * int(1 / gpus + 1e-9) if gpus < 1 else int(have // gpus)
    return min(by_cpu, by_gpu)
