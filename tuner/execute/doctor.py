"""Looks over a whole cluster before a search is trusted to it: one finding a question, with the remedy."""

import contextlib
import dataclasses
import os
import socket
import statistics
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Any

import ray
from ray import cloudpickle
from ray._private.authentication.authentication_utils import is_token_auth_enabled
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from tuner.errors import AddressError, ClusterError, InputError
from tuner.execute import node_facts
from tuner.execute.authentication import WHERE
from tuner.execute.cluster import connected
from tuner.execute.remote import Remote, read_remote

CLOCK_SKEW_S = 1.0  # the ledger orders what happened by the driver's clock, MLflow draws what the nodes' clocks said
FREE_BYTES = 2**30
RAY_STOPS_AT = 0.95  # of its disk used, Ray writes nothing more
GPU_FREE = 0.5  # of its memory: less is in use by someone else
_ANSWERS_WITHIN_S = 120.0
_SAME_EVERYWHERE = (
    "install the same versions on every machine: pip install -c constraints.txt, or the same image (cluster/Dockerfile)"
)


@dataclass(frozen=True)
class Finding:
    """One question and its answer.

    Attributes
    ----------
    check : str
        What was looked at.
    verdict : str
        pass, warn or fail.
    found : str
        What was found.
    remedy : str
        What to do; empty for pass.
    """

    check: str
    verdict: str
    found: str
    remedy: str = ""


@dataclass(frozen=True, eq=False)
class _Node:
    """A machine of the cluster and what it says of itself; facts is None if it does not answer, or was not asked."""

    node_id: str
    address: str
    host: str
    resources: Mapping[str, float]
    actor: Any
    facts: Mapping[str, Any] | None
    error: str = ""


def examine_cluster(ray_address: str | None, results: Path, cache: Path) -> Iterator[Finding]:
    """Look over a Ray cluster from one of its machines, or this machine if it is none.

    Parameters
    ----------
    ray_address : str or None
        The cluster; None starts Ray here.
    results : Path
        The folder of all searches.
    cache : Path
        Where each machine keeps decoded images.

    Yields
    ------
    Finding
        As soon as it is known.
    """
    try:
        with connected(ray_address, Thread(target=lambda: None)) as machines:
            total = {kind: sum(machine.get(kind, 0) for machine in machines) for kind in ("CPU", "GPU")}
            where = "this machine" if ray_address is None else f"{ray_address}, {len(machines)} machines"
            yield Finding(
                "ray", "pass", f"{where}: Ray {ray.__version__}, {total['CPU']:g} CPUs, {total['GPU']:g} GPUs"
            )
            yield _look_at_token(ray_address)
            nodes = _ask_nodes(str(results), str(cache))
            silent = [node for node in nodes if node.facts is None]
            for node in silent:
                remedy = "see its logs in /tmp/ray/session_latest/logs; take it out of the cluster or start it again"
                yield Finding("nodes", "fail", f"{node.address} runs no task: {node.error}", remedy)
            heard = [node for node in nodes if node.facts is not None]
            for look in (_look_at_versions, _look_at_gpus, _look_at_clocks, _look_at_disks):
                yield from look(heard)
            yield _look_at_storage(heard, results)
    except (AddressError, ClusterError) as error:
        remedy = "start its head, or name another with --ray-address"
        if "no Ray cluster answers" in str(error) and _is_listening(ray_address):
            remedy = (
                f"something listens there: is the token right? It is read from {WHERE}, and sent only with "
                "RAY_AUTH_MODE=token set; the address has to be the head's own, and Ray and Python the same as there"
            )
        yield Finding("ray", "fail", str(error).partition(". Ray says")[0], remedy)


def _is_listening(address: str | None) -> bool:
    host, _, port = (address or "").removeprefix("ray://").rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except (OSError, ValueError):
        return False
    return True


def _look_at_token(ray_address: str | None) -> Finding:
    if is_token_auth_enabled():
        return Finding("token", "pass", "asked for, and right" if ray_address else "asked for by Ray here")
    return Finding(
        "token",
        "warn",
        "none is asked for: whoever reaches the cluster can run commands on it",
        "start every node with RAY_AUTH_MODE=token and the same token (ray get-auth-token --generate)",
    )


def refuse_unreached(results: Path) -> None:
    """See, before any trial is started, that every machine of the cluster reaches the results.

    Parameters
    ----------
    results : Path
        The folder of all searches; where it stands for one in an object store, that is asked for.

    Raises
    ------
    InputError
        If one does not; the message names it.
    """
    finding = _look_at_storage(_start_probes({}), results)
    if finding.verdict == "fail":
        raise InputError(f"--results {finding.found}; {finding.remedy}")


def _start_probes(variables: Mapping[str, str]) -> list[_Node]:
    """Start a process on every machine that is asked of it."""
    cloudpickle.register_pickle_by_value(node_facts)  # type: ignore[no-untyped-call] # a machine may lack this package
    probe: Any = ray.remote(node_facts.NodeFacts)
    return [
        _Node(
            machine["NodeID"],
            machine["NodeManagerAddress"],
            machine["NodeManagerHostname"],
            machine["Resources"],
            probe.options(
                num_cpus=0,
                scheduling_strategy=NodeAffinitySchedulingStrategy(machine["NodeID"], soft=False),
                runtime_env={"env_vars": dict(variables)} if variables else None,
            ).remote(),
            None,
        )
        for machine in ray.nodes()  # type: ignore[no-untyped-call]
        if machine["Alive"]
    ]


def _ask_nodes(results: str, cache: str) -> list[_Node]:
    """Ask every machine at once what it is like."""
    here: Any = ray._private.worker.global_worker
    scratch = str(Path(here.node.get_session_dir_path()).parent)
    nodes = _start_probes({"RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"})  # a process without a GPU sees all of them
    asked = [node.actor.look.remote(results, cache, scratch) for node in nodes]
    deadline = time.monotonic() + _ANSWERS_WITHIN_S
    return [
        dataclasses.replace(node, **dict(zip(("facts", "error"), _hear(answer, deadline), strict=True)))
        for node, answer in zip(nodes, asked, strict=True)
    ]


def _hear(answer: Any, deadline: float) -> tuple[Any, str]:
    """Return a machine's answer, or None and why there is none."""
    try:
        return ray.get(answer, timeout=max(1.0, deadline - time.monotonic())), ""
    except Exception as failure:  # a worker that does not start has many names
        text = str(failure).strip()
        return None, text.splitlines()[-1] if text else type(failure).__name__


def _look_at_versions(nodes: list[_Node]) -> Iterator[Finding]:
    here = node_facts.NodeFacts().look("", "", "")["versions"]
    for node in nodes:
        theirs = node.facts["versions"] if node.facts is not None else {}
        others = [
            f"{name} {theirs[name] or 'missing'} and here {version}"
            for name, version in here.items()
            if theirs[name] != version
        ]
        if others:
            yield Finding("versions", "fail", f"{node.address}: {', '.join(others)}", _SAME_EVERYWHERE)
            return
    alike = ", ".join(f"{name} {here[name]}" for name in ("python", "ray", "torch", "tuner"))
    yield Finding("versions", "pass", f"alike on every machine: {alike}")


def _look_at_gpus(nodes: list[_Node]) -> Iterator[Finding]:
    is_right = True
    for node in nodes:
        assert node.facts is not None, "only those that answered"
        known, seen = int(node.resources.get("GPU", 0)), node.facts["gpus"]
        if len(seen) < known:
            is_right = False
            why = f" ({node.facts['gpu_error']})" if node.facts["gpu_error"] else ""
            yield Finding(
                "gpus",
                "fail",
                f"{node.address}: Ray counts {known} GPUs and torch can use {len(seen)}{why}",
                "see whether nvidia-smi shows them there, and whether torch is built for this driver "
                "(python -c 'import torch; torch.zeros(1).cuda()')",
            )
        for i, (free, total) in enumerate(seen[:known]):
            if free < GPU_FREE * total:
                is_right = False
                yield Finding(
                    "gpus",
                    "warn",
                    f"{node.address}: GPU {i} has {_gib(free)} of {_gib(total)} free",
                    "see with nvidia-smi who uses it; a trial that does not fit fails alone",
                )
    num_gpus = sum(int(node.resources.get("GPU", 0)) for node in nodes)
    if is_right:
        yield Finding("gpus", "pass", f"torch can use all {num_gpus}" if num_gpus else "none; trials use CPUs")


def _look_at_clocks(nodes: list[_Node]) -> Iterator[Finding]:
    skews = {node.address: _measure_skew(node.actor.tell_time) for node in nodes}
    wrong = {address: skew for address, skew in skews.items() if abs(skew) > CLOCK_SKEW_S}
    for address, skew in wrong.items():
        found = f"{address}: its clock is {abs(skew):.1f} s {'ahead' if skew > 0 else 'behind'}"
        yield Finding("clock", "fail", found, "let it follow a time server: timedatectl set-ntp true")
    if skews and not wrong:
        yield Finding("clock", "pass", f"none is off by more than {max(map(abs, skews.values())) * 1000:.0f} ms")


def _measure_skew(tell_time: Any) -> float:
    """Return how far a machine's clock is ahead, in seconds: the median of five round trips."""
    skews: list[float] = []
    for _ in range(5):
        before = time.time()
        theirs = ray.get(tell_time.remote())
        skews.append(theirs - (before + time.time()) / 2)
    return statistics.median(skews)


def _look_at_disks(nodes: list[_Node]) -> Iterator[Finding]:
    what = {"results": "--results", "cache": "--cache", "scratch": "ray start --temp-dir"}
    least: dict[str, int] = {}
    is_right = True
    for node in nodes:
        assert node.facts is not None, "only those that answered"
        for name, space in node.facts["disks"].items():
            if space is None:
                is_right = False
                found = f"{node.address}: the folder of {name} cannot be written"
                yield Finding(
                    "disk", "fail", found, f"give its user the right to write there, or choose another: {what[name]}"
                )
                continue
            free, total = space
            least[name] = min(free, least.get(name, free))
            is_full = name == "scratch" and free < (1 - RAY_STOPS_AT) * total
            if free < FREE_BYTES or is_full:
                is_right = False
                found = f"{node.address}: {_gib(free)} of {_gib(total)} free for {name}"
                yield Finding("disk", "fail", found, f"free some, or choose another folder: {what[name]}")
    if is_right:
        yield Finding(
            "disk", "pass", "free on every machine: " + ", ".join(f"{_gib(b)} for {n}" for n, b in least.items())
        )


def _look_at_storage(nodes: list[_Node], results: Path) -> Finding:
    """Let every machine read what this one writes into the results, and the other way round."""
    nonce = f".doctor-{os.getpid()}-{time.time_ns()}"
    if (remote := read_remote(results)) is not None:
        return _look_at_store(nodes, remote, nonce)
    names = {node.node_id: f"{nonce}-{node.node_id}" for node in nodes}
    remedy = (
        "mount one folder on every machine (NFS, a volume of ReadWriteMany) and name it with --results, or search on "
        "one machine"
    )
    try:
        results.mkdir(parents=True, exist_ok=True)
        (results / nonce).write_text(nonce)
        asked = [node.actor.exchange.remote(str(results), names[node.node_id], nonce, nonce) for node in nodes]
        wrong = _find_wrong(nodes, asked)
        for node in nodes:
            if node not in wrong and (results / names[node.node_id]).read_text() != nonce:
                wrong[node] = "what it writes is not seen here"
    except OSError as error:
        return Finding("storage", "fail", f"{results}: {error.strerror}", remedy)
    finally:
        for name in (nonce, *names.values()):
            with contextlib.suppress(OSError):  # a folder that cannot be reached has been found wrong already
                (results / name).unlink(missing_ok=True)
    if wrong:
        return Finding("storage", "fail", f"{results} is not the same everywhere: {_list_wrong(wrong)}", remedy)
    return Finding("storage", "pass", f"{results} is written and read by every machine")


def _look_at_store(nodes: list[_Node], remote: Remote, nonce: str) -> Finding:
    """Let every machine write into an object store, and read there what this one wrote."""
    names = [f"{nonce}-{node.node_id}" for node in nodes]
    remedy = (
        "let every machine reach the store, with credentials of its own (an instance's role) or in the environment of "
        "ray start: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    )
    own = node_facts.NodeFacts().exchange_in_store(remote.system, remote.root, nonce, nonce, nonce)
    if own:
        return Finding("storage", "fail", f"{remote.address}: {own}", remedy)
    asked = [
        node.actor.exchange_in_store.remote(remote.system, remote.root, name, nonce, nonce)
        for node, name in zip(nodes, names, strict=True)
    ]
    try:
        wrong = _find_wrong(nodes, asked)
    finally:
        remote.delete(nonce, *names)
    if wrong:
        return Finding(
            "storage", "fail", f"{remote.address} is not reached from everywhere: {_list_wrong(wrong)}", remedy
        )
    return Finding("storage", "pass", f"{remote.address} is written and read by every machine")


def _find_wrong(nodes: list[_Node], asked: list[Any]) -> dict[_Node, str]:
    """Hear what every machine found wrong with the storage, or with itself."""
    deadline = time.monotonic() + _ANSWERS_WITHIN_S
    heard = [_hear(answer, deadline) for answer in asked]
    return {node: said or error for node, (said, error) in zip(nodes, heard, strict=True) if said or error}


def _list_wrong(wrong: Mapping[_Node, str]) -> str:
    return "; ".join(f"{node.host} ({node.address}): {why}" for node, why in wrong.items())


def _gib(num_bytes: float) -> str:
    return f"{num_bytes / 2**30:.1f} GiB"
