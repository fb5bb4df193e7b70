"""Connecting to Ray, and refusing at once what it can never place."""

import contextlib
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import ray

from tuner.errors import ClusterError, ResourceError
from tuner.spec.search import Resources


@dataclass(frozen=True)
class Placement:
    """What one trial gets, and how many run at once."""

    cpus: int
    gpus: float
    trials_at_once: int


@contextlib.contextmanager
def connected(address: str | None) -> Iterator[dict[str, float]]:
    """Connect to Ray, or start it here, for as long as the block lasts.

    Parameters
    ----------
    address : str or None
        An existing cluster's address; None starts Ray on this machine.

    Yields
    ------
    dict
        What the cluster has, by Ray's names: ``CPU``, ``GPU``.

    Raises
    ------
    ClusterError
        If the cluster cannot be reached.
    """
    options: dict[str, object] = {"address": address} if address else {"address": "local", "object_store_memory": 2**27}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ray.init(include_dashboard=None if address else False, log_to_driver=False, logging_level="ERROR", **options)
    except (ConnectionError, ValueError, RuntimeError, TimeoutError) as error:
        raise ClusterError(
            f"no Ray cluster answers at {address}; check the address (host:6379 beside it, ray://host:10001 from elsewhere) "
            f"and that its head runs, or leave --ray-address out to use this machine. Ray says: {error}"
        ) from error
    try:
        yield ray.cluster_resources()
    finally:
        ray.shutdown()


def place(resources: Resources, total: dict[str, float], nodes: list[dict[str, float]]) -> Placement:
    """Work out what a trial gets and how many fit, and refuse what never will.

    Parameters
    ----------
    resources : Resources
        What was asked for.
    total : dict
        What the whole cluster has.
    nodes : list of dict
        What each of its nodes has.

    Raises
    ------
    ResourceError
        If not one trial fits on any node, or fewer than ``trials_at_once`` fit on all.
    """
    gpus = resources.gpus
    if gpus == "auto":
        gpus = 1.0 if total.get("GPU", 0) >= 1 else 0.0
    fitting = sum(_fits(node, resources.cpus, gpus) for node in nodes)
    if fitting == 0:
        raise ResourceError(
            f"resources: a trial asks for {resources.cpus} CPUs and {gpus:g} GPUs, but the largest node has "
            f"{max(n.get('CPU', 0) for n in nodes):g} CPUs and {max(n.get('GPU', 0) for n in nodes):g} GPUs "
            f"(the cluster: {total.get('CPU', 0):g} and {total.get('GPU', 0):g}); lower resources.cpus or resources.gpus"
        )
    wanted = resources.trials_at_once
    if wanted != "auto" and wanted > fitting:
        raise ResourceError(
            f"resources.trials_at_once: {wanted} trials of {resources.cpus} CPUs and {gpus:g} GPUs were asked for, but only "
            f"{fitting} fit on the cluster's {total.get('CPU', 0):g} CPUs and {total.get('GPU', 0):g} GPUs; "
            f"lower it to {fitting} or write auto"
        )
    return Placement(resources.cpus, gpus, fitting if wanted == "auto" else wanted)


def _fits(node: dict[str, float], cpus: int, gpus: float) -> int:
    """Count the trials that fit on one node; a share of a GPU never spans two."""
    by_cpu = int(node.get("CPU", 0) // cpus)
    if gpus == 0:
        return by_cpu
    have = node.get("GPU", 0)
    by_gpu = int(have) * int(1 // gpus + 1e-9) if gpus < 1 else int(have // gpus)
    return min(by_cpu, by_gpu)


def node_resources() -> list[dict[str, float]]:
    """Return what each living node of the connected cluster has."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]
