"""Connecting to Ray."""

import contextlib
import functools
import logging
import os
import socket
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from threading import Event, Thread
from typing import Any

import ray
from ray._private import parameter, ray_constants, services

from tuner.errors import AddressError, ClusterError
from tuner.execute.authentication import keep_token_private

_ANSWERS_WITHIN_S = 5.0
_LOOK_EVERY_S = 2.0
_RAYLET_SILENT_S = 3.0
_HEAD_SILENT_S = 45.0  # with Redis it may come back; without, Ray ends this process after a minute
_ENDS_WITHIN_S = 30.0  # after a loss: in time for Ray to do it first


@contextlib.contextmanager
def connected(address: str | None, meanwhile: Thread) -> Iterator[list[dict[str, float]]]:
    """Connect to Ray, or start it here, for as long as the block lasts.

    Parameters
    ----------
    address : str or None
        An existing cluster's address; None starts Ray on this machine.
    meanwhile : Thread
        Run while Ray starts, and waited for.

    Yields
    ------
    list of dict
        What each living node of the cluster has, by Ray's names: ``CPU``, ``GPU``.

    Raises
    ------
    AddressError
        If no cluster answers there.
    ClusterError
        If Ray cannot be started here.
    """
    options: dict[str, Any] = {"address": "local", "include_dashboard": False, "object_store_memory": 2**27}
    if address is not None:
        refuse_silent(address, _explain_address(address))
        options = {"address": address}
    else:
        keep_token_private()
    meanwhile.start()
    try:
        with warnings.catch_warnings(), on_loopback(only=address is None), lean(is_started_here=address is None):
            warnings.simplefilter("ignore")
            ray.init(log_to_driver=False, logging_level=logging.ERROR, **options)
    except Exception as error:  # Ray raises its own, built-in and bare ones
        if address is None:
            raise ClusterError(f"Ray cannot be started on this machine: {error}") from error
        raise AddressError(f"{_explain_address(address)}. Ray says: {error}") from error
    try:
        meanwhile.join()
        yield list_nodes()
    finally:
        ray.shutdown()


def list_nodes() -> list[dict[str, float]]:
    """Return what each living node of the cluster has now, by Ray's names: ``CPU``, ``GPU``."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]


@contextlib.contextmanager
def on_loopback(*, only: bool) -> Iterator[None]:
    """Let a Ray that starts in the block listen on loopback only: by itself it does so where it cannot be a cluster."""
    before = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = before and not only
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before


@contextlib.contextmanager
def lean(*, is_started_here: bool) -> Iterator[None]:
    """Let a Ray that starts in the block have no more processes than it needs, and those out of signals' way.

    A single machine has no use for the autoscaler's, nor for the one that carries workers' logs to a driver that asks
    for none; the start takes half as much of a CPU without them, 2.5 s rather than 4.8 s.

    Who wants a command to end may send the signal to its whole process group, as a terminal does and ``timeout``. Ray's
    processes have one of their own, so that Ray is still there while the search ends.
    """
    settings: Any = parameter
    starts: Any = services
    whole, start = settings.RayParams, starts.ConsolePopen
    if is_started_here:
        settings.RayParams = functools.partial(whole, no_monitor=True, include_log_monitor=False)
        starts.ConsolePopen = functools.partial(start, process_group=0)
    try:
        yield
    finally:
        settings.RayParams, starts.ConsolePopen = whole, start


@contextlib.contextmanager
def watched(on_loss: Callable[[str], None]) -> Iterator[None]:
    """Look every few seconds, for as long as the block lasts, whether Ray still answers, and tell once if it does not.

    Ray itself ends the process then, without an exception: some seconds after this machine's raylet has died, and a
    minute after the head has. Where it does not, and waits for what will not answer, the process is ended here: so it
    is after a raylet that was asked to terminate.

    Parameters
    ----------
    on_loss : function
        Told what is lost.
    """
    context, over = ray.get_runtime_context(), Event()
    own = [node for node in ray.nodes() if node["NodeID"] == context.get_node_id()]  # type: ignore[no-untyped-call]
    raylets = [f"{node['NodeManagerAddress']}:{node['NodeManagerPort']}" for node in own]
    places = [("Ray's process on this machine", raylet, _RAYLET_SILENT_S) for raylet in raylets]
    places.append(("the head of the Ray cluster", context.gcs_address, _HEAD_SILENT_S))

    def look() -> None:
        silent_since: dict[str, float] = {}
        while not over.wait(_LOOK_EVERY_S):
            for what, where, patience_s in places:
                if _answers(where):
                    silent_since.pop(where, None)
                elif time.monotonic() - silent_since.setdefault(where, time.monotonic()) >= patience_s:
                    on_loss(f"{what} ({where}) does not answer any more")
                    if not over.wait(_ENDS_WITHIN_S):
                        sys.stdout.flush()
                        os._exit(1)
                    return

    watching = Thread(target=look, daemon=True, name="watch over Ray")
    watching.start()
    try:
        yield
    finally:
        over.set()


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_ANSWERS_WITHIN_S).close()
    except OSError:
        return False
    return True


def refuse_silent(address: str, explanation: str) -> None:
    """Look whether anything listens at a cluster's address, which Ray would try for a minute.

    Parameters
    ----------
    address : str
        HOST:PORT, or a form that only Ray knows, which is not looked at.
    explanation : str
        What the error says.

    Raises
    ------
    AddressError
        If nothing does.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not port.isdigit():
        return  # auto, or another form that Ray knows
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_ANSWERS_WITHIN_S).close()
    except OSError as error:
        raise AddressError(f"{explanation} ({error.strerror or error})") from error


def _explain_address(address: str) -> str:
    return (
        f"no Ray cluster answers at {address}: check that its head runs there (HOST:6379 from one of its machines, "
        "ray://HOST:10001 from elsewhere), or leave --ray-address out to use this machine"
    )
