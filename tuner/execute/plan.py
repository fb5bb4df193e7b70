"""What a search will take, before it is begun: networks measured where its trials would run, then many rehearsals."""

import dataclasses
import math
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

import numpy as np
import ray
from ray.exceptions import RayError

from tuner.errors import ClusterError
from tuner.execute.check_process import checking, settle
from tuner.execute.cluster import connected
from tuner.execute.crew import share_out, start_crew
from tuner.execute.experiment import Surroundings, read_before, read_sources
from tuner.execute.forecast import MeasuredNetwork, Plan, Room, find_misfits
from tuner.execute.growth import place_on_growing
from tuner.execute.placement import Placement, count_fitting, refuse_useless_limits
from tuner.execute.probe import Probe
from tuner.spec.search import SearchSpec
from tuner.spec.space import Config, Space
from tuner.strategy.diagnose import Guess
from tuner.strategy.draws import draw
from tuner.train.data import prepare

if TYPE_CHECKING:  # torch takes seconds to import
    from tuner.execute.rehearsal import Rehearsal
    from tuner.train.cost import Cost

MEASURE_S, MOST_MEASURED = 45.0, 16  # beyond the smallest and the largest network of each family, which always are
REHEARSE_S, LEAST_REHEARSED = 90.0, 10  # a search of thousands of trials takes a minute to rehearse
UNMEASURED = 0.6  # of the start-up: what Ray Tune takes to begin, and MLflow and the command to end
USUAL_UNSTEADINESS, LOOKS = 0.15, 2  # of a machine's speed, as a share; and by how many networks that counts
ANSWERS = 30


def plan_search(
    spec: SearchSpec,
    around: Surroundings,
    say: Callable[[str], None],
    *,
    num_rehearsals: int,
    seed: int,
    began: float,
    clock: Callable[[], float] = time.monotonic,
) -> Plan:
    """Say what a search will take; nothing of it is begun.

    Parameters
    ----------
    spec : SearchSpec
        What was asked.
    around : Surroundings
        Where, and with what.
    say : function
        Told, in one line, what is worth telling.
    num_rehearsals : int, at least 1
        How many searches are simulated, if that does not take too long.
    seed : int
        What learning curves are drawn from.
    began : float
        When the command began, by the clock.
    clock : function
        Seconds that only grow.

    Raises
    ------
    InputError
        If the search cannot be run as asked: trials that can never be placed, for one.
    RunError
        If the networks fail the quick check.
    ClusterError
        If no network can be measured, or a worker is lost.
    """
    before = read_before(spec, around.results)
    sources = read_sources(spec, around.results)
    space = spec.space if isinstance(spec.space, Space) else before.space if before is not None else None
    assert space is not None, "a space that comes from a search has one before it"
    prepared = prepare(spec.data, around.cache)
    loading = Thread(target=import_module, args=("tuner.execute.drive",), daemon=True)
    with checking(spec, space, around.cache) as check, connected(around.ray_address, meanwhile=loading) as nodes:
        placement = place_on_growing(spec.resources, nodes, say)
        refuse_useless_limits(spec.limits, placement)
        settle(check, say)
        try:
            probes = start_crew(Probe, placement, MOST_MEASURED, placement)
            start_up_s = (clock() - began) * (1 + UNMEASURED)
            gpu_bytes = min(ray.get([probe.load.remote(spec.data, around.cache) for probe in probes]))
            say(f"start-up takes {start_up_s:.0f} s; measuring networks on {len(probes)} workers")
            networks, unsteadiness = measure_networks(probes, space, placement, seed, clock)
            measured = [(network.config, network.cost) for network in networks if network.cost is not None]
            if not measured:
                raise ClusterError(f"no network can be trained; the first: {networks[0].name}: {networks[0].fault}")
            stakes = probes[0].fit.remote(
                measured,
                placement.workers,
                spec=spec,
                space=space,
                before=before,
                warm_start=sources,
                placement=placement,
                guess=Guess.of(prepared.class_sizes),
                unsteadiness=unsteadiness,
                num_cpus=sum(node.get("CPU", 0.0) for node in nodes),
                answer_s=measure_answer(probes[0], clock),
            )
            say(f"rehearsing the search on {len(probes)} workers, up to {num_rehearsals} times")
            rehearsals = tuple(run_rehearsals(probes, stakes, num_rehearsals, seed, clock))
            spread = ray.get(probes[0].read_spread.remote(stakes))
        except RayError as error:
            raise ClusterError(f"a worker was lost, or failed: {error}") from error
    at_once = placement.trials_at_once * placement.workers
    per_node = tuple(
        (min(at_once, count_fitting(node, placement.cpus, placement.gpus)), node.get("memory", math.inf))
        for node in nodes
    )
    room = Room(per_node, gpu_bytes, find_free_bytes(around.results))
    misfits = find_misfits(networks, rehearsals, placement, room)
    return Plan(placement, start_up_s, networks, spread, unsteadiness, rehearsals, tuple(misfits))


def measure_networks(
    probes: Sequence[Any], space: Space, placement: Placement, seed: int, clock: Callable[[], float]
) -> tuple[tuple[MeasuredNetwork, ...], float]:
    """Measure the ends of each family, points drawn from the space for as long as there is time, and the ends again.

    Returns
    -------
    tuple of MeasuredNetwork
        What each takes; the mean of both times for the ends.
    float
        How far the two times are apart: the deviation of the logarithm of one. A few times say little, so it is as if
        some more had been seen with a usual one.
    """
    rng = np.random.default_rng(seed)
    ends: list[tuple[str, Config]] = ray.get(probes[0].list_networks.remote(space))
    chosen, until = list(ends), clock() + MEASURE_S

    def choose() -> Iterator[int]:
        yield from range(len(ends))
        while len(chosen) < len(ends) + MOST_MEASURED and clock() < until:
            config = draw(space, rng)
            chosen.append((str(config["architecture"]), config))
            yield len(chosen) - 1
        yield from (number for number in range(len(ends)) if number not in faults)

    def begin(probe: Any, number: int) -> Any:
        return probe.measure.remote(chosen[number][1], placement.workers, seed)

    costs: dict[int, list[Cost]] = {}
    faults: dict[int, str] = {}
    for number, found in share_out(probes, choose(), begin):
        if isinstance(found, str):
            faults[number] = found
        else:
            costs.setdefault(number, []).append(found)
    networks = [
        MeasuredNetwork(name, config, average(costs.get(number, [])), faults.get(number, ""), number >= len(ends))
        for number, (name, config) in enumerate(chosen)
    ]
    twice = [own for own in costs.values() if len(own) == 2]
    apart = [math.log((one.train_s + one.rest_s) / (other.train_s + other.rest_s)) for one, other in twice]
    usual = LOOKS * USUAL_UNSTEADINESS**2
    return tuple(networks), math.sqrt((usual + sum(each**2 / 2 for each in apart)) / (LOOKS + len(apart)))


def measure_answer(probe: Any, clock: Callable[[], float]) -> float:
    """Measure what a worker that has nothing to do takes to answer."""
    began = clock()
    for _ in range(ANSWERS):
        ray.get(probe.is_ready.remote())
    return (clock() - began) / ANSWERS


def average(costs: Sequence["Cost"]) -> "Cost | None":
    """Return the mean of costs; None of none."""
    if not costs:
        return None
    fields = [dataclasses.asdict(cost) for cost in costs]
    return type(costs[0])(**{name: sum(one[name] for one in fields) / len(fields) for name in fields[0]})


def run_rehearsals(
    probes: Sequence[Any], stakes: Any, num_rehearsals: int, seed: int, clock: Callable[[], float]
) -> Iterator["Rehearsal"]:
    """Simulate the search again and again, but no longer than is worth it."""
    until = clock() + REHEARSE_S

    def choose() -> Iterator[int]:
        for number in range(num_rehearsals):
            if number >= LEAST_REHEARSED and clock() >= until:
                return
            yield number

    for _, found in share_out(probes, choose(), lambda probe, number: probe.rehearse.remote(stakes, (seed, number))):
        yield found


def find_free_bytes(folder: Path) -> float:
    """Return what is free where a folder is, or will be."""
    while not folder.exists():
        folder = folder.parent
    return float(shutil.disk_usage(folder).free)
