"""Clusters to which machines come when they are wanted."""

import dataclasses
import os
import time
from collections.abc import Callable, Mapping, Sequence

from ray.autoscaler.sdk import request_resources

from tuner.errors import InputError, ResourceError
from tuner.execute.cluster import list_nodes
from tuner.execute.placement import Placement, place
from tuner.spec.search import Resources
from tuner.spec.sections import parse_duration

VARIABLE = "TUNER_MACHINES_WITHIN"
LOOK_EVERY_S = 2.0


def place_on_growing(
    resources: Resources, nodes: Sequence[Mapping[str, float]], say: Callable[[str], None]
) -> Placement:
    """Work out what a trial gets, on a cluster that may have no machine for it yet.

    Where ``TUNER_MACHINES_WITHIN`` in the environment says for how long, as in 20m, the cluster's autoscaler is asked
    for the machines of one trial, and these are waited for. More than fit then is not refused: trials that wait for a
    machine are what it brings further ones for.

    Parameters
    ----------
    resources : Resources
        What was asked for.
    nodes : sequence of mappings
        What each node of the cluster has now, by Ray's names.
    say : function
        Told, in one line, that machines are waited for.

    Raises
    ------
    InputError
        If the variable holds no duration.
    ResourceError
        As `place` has it: at once without the variable, and if no machine comes in time.
    """
    patience_s = _read_patience()
    if patience_s is None:
        return place(resources, nodes)
    alone = resources.model_copy(update={"trials_at_once": "auto"})
    bundles = _find_bundles(alone)
    deadline, is_asked = time.monotonic() + patience_s, False
    while True:
        try:
            placement = place(alone, nodes)
            break
        except ResourceError:
            if time.monotonic() >= deadline:
                raise
        if not is_asked:
            request_resources(bundles=bundles)
            is_asked = True
            say(f"no machine has room for a trial; one is asked for, and waited for up to {patience_s:g} s")
        time.sleep(LOOK_EVERY_S)
        nodes = list_nodes()
    if is_asked:
        request_resources(bundles=[])  # from here on the trials themselves ask
    wanted = resources.trials_at_once
    return placement if wanted == "auto" else dataclasses.replace(placement, trials_at_once=wanted)


def _read_patience() -> float | None:
    text = os.environ.get(VARIABLE)
    if not text:
        return None
    patience_s = parse_duration(text)
    if patience_s is None:
        raise InputError(f"{VARIABLE}: must be a duration such as 20m or 1h, found {text!r}; write one, or unset it")
    return patience_s


def _find_bundles(resources: Resources) -> list[dict[str, float]]:
    """Return what the workers of one trial need, and refuse what no machine could have; a GPU only if asked for."""
    largest = {"CPU": 10.0**6, "GPU": 0.0 if resources.gpus == "auto" else 10.0**6}
    each = place(resources, [largest])
    return [{"CPU": each.cpus, **({"GPU": each.gpus} if each.gpus else {})}] * each.workers
