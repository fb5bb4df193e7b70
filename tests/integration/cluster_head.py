"""A real Ray head with a dashboard and a token, and further machines of its cluster."""

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from conftest import clean_environment

_STARTS_WITHIN_S = 240  # on a machine that others use too


@dataclass(frozen=True)
class Head:
    """Where a head is reached, and with what."""

    dashboard: str
    gcs: str
    token_file: Path
    session: Path


def find_free_port() -> int:
    """A port of loopback that nobody has now."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextlib.contextmanager
def running_head(cache: Path, ip: str = "", **environment: str) -> Iterator[Head]:
    """Start a head of two CPUs that asks for a token, and end it by its process; nodes reach it by an address."""
    folder = Path(tempfile.mkdtemp(prefix="head"))  # short: sockets lie in it
    token = folder / "token"
    token.touch(0o600)
    token.write_text(secrets.token_hex(16))
    dashboard, gcs = find_free_port(), find_free_port()
    options = {
        "port": gcs,
        "dashboard-host": "127.0.0.1",
        "dashboard-port": dashboard,
        "ray-client-server-port": find_free_port(),
        "dashboard-agent-listen-port": find_free_port(),
        "num-cpus": 2,
        "object-store-memory": 2**27,
        "temp-dir": folder / "ray",
    } | ({"node-ip-address": ip} if ip else {})
    own = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token), "RAY_USAGE_STATS_ENABLED": "0"}
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                Path(sys.executable).with_name("ray"),
                "start",
                "--head",
                "--block",
                *(f"--{name}={value}" for name, value in options.items()),
            ],
            env=clean_environment(cache) | own | {"PATH": path} | environment,
            cwd=folder,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    address = f"http://127.0.0.1:{dashboard}"
    try:
        deadline = time.monotonic() + _STARTS_WITHIN_S
        while not asks_for_token(address):
            assert process.poll() is None and time.monotonic() < deadline, (folder / "log").read_text()
            time.sleep(0.5)
        yield Head(address, f"{ip or '127.0.0.1'}:{gcs}", token, folder / "ray")
    finally:
        process.terminate()
        process.wait(timeout=60)
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def running_node(head: Head, cache: Path, *prefix: str, ip: str = "") -> Iterator["subprocess.Popen[bytes]"]:
    """Start one more machine with one CPU, by way of a command that changes what it sees."""
    own = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(head.token_file), "RAY_USAGE_STATS_ENABLED": "0"}
    options = ["--block", f"--address={head.gcs}", "--num-cpus=1", f"--object-store-memory={2**27}"]
    options += [f"--node-ip-address={ip}"] if ip else []
    with (head.session.parent / "node.log").open("wb") as log:
        process = subprocess.Popen(
            [*prefix, Path(sys.executable).with_name("ray"), "start", *options],
            env=clean_environment(cache) | own,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(timeout=60)


def asks_for_token(address: str) -> bool:
    """Whether a dashboard answers, and not to anyone."""
    try:
        urllib.request.urlopen(f"{address}/api/jobs/", timeout=5).close()
    except urllib.error.HTTPError as error:
        return error.code == 401
    except OSError:
        pass
    return False
