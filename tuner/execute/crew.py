"""Workers beside a search's trials, each with what a trial gets, and work that is shared out among them."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import ray

from tuner.errors import ClusterError
from tuner.execute.placement import Placement

FIRST_WITHIN_S, OTHERS_WITHIN_S = 300.0, 30.0


def start_crew(kind: type[Any], placement: Placement, most: int, *given: Any, **options: Any) -> list[Any]:
    """Start as many workers as fit where trials run, and wait until they are ready.

    Parameters
    ----------
    kind : class
        What each of them is an actor of; it has a method ``is_ready``.
    placement : Placement
        What each of them gets: what a trial's process does.
    most : int, at least 1
        More are not needed.
    given : anything
        What ``kind`` is built with.
    options : anything
        Options of Ray's for each of them.

    Raises
    ------
    ClusterError
        If none can be started.
    """
    build: Any = ray.remote(kind).options(num_cpus=placement.cpus, num_gpus=placement.gpus, **options)
    crew = [build.remote(*given) for _ in range(min(placement.trials_at_once * placement.workers, most))]
    answers: dict[Any, Any] = {worker.is_ready.remote(): worker for worker in crew}
    ready, _ = ray.wait(list(answers), timeout=FIRST_WITHIN_S)
    if not ready:
        raise ClusterError(f"no worker could be started in {FIRST_WITHIN_S:g} s; see tuner doctor")
    ready, late = ray.wait(list(answers), num_returns=len(answers), timeout=OTHERS_WITHIN_S)
    for answer in late:
        ray.kill(answers[answer])
    return [answers[answer] for answer in ready]


def share_out(crew: Sequence[Any], work: Iterator[Any], begin: Callable[[Any, Any], Any]) -> Iterator[tuple[Any, Any]]:
    """Give each worker that is free the next piece of work, and yield every piece with its result, as they come."""
    under_way = {begin(worker, piece): (worker, piece) for worker, piece in zip(crew, work, strict=False)}
    while under_way:
        (done,), _ = ray.wait(list(under_way))
        worker, piece = under_way.pop(done)
        for following in itertools.islice(work, 1):
            under_way[begin(worker, following)] = worker, following
        yield piece, ray.get(done)
