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
from typing import Any

import psutil
from conftest import clean_environment

_STARTS_WITHIN_S = 240  # on a machine that others use too


@dataclass
class Head:
    """A head in a folder of its own, which may be killed and started again."""

    folder: Path
    options: dict[str, Any]
    environment: dict[str, str]
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def dashboard(self) -> str:
        """Where its dashboard is."""
        return f"http://127.0.0.1:{self.options['dashboard-port']}"

    @property
    def gcs(self) -> str:
        """Where nodes and drivers reach it."""
        return f"{self.options.get('node-ip-address', '127.0.0.1')}:{self.options['port']}"

    @property
    def token_file(self) -> Path:
        """Where its token lies."""
        return self.folder / "token"

    @property
    def token(self) -> dict[str, str]:
        """What a process has in its environment that may reach it."""
        return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(self.token_file)}

    @property
    def session(self) -> Path:
        """Where Ray keeps its files."""
        return self.folder / "ray"

    def start(self) -> None:
        """Start it and wait until it answers."""
        options = [f"--{name}={value}" for name, value in self.options.items()]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [Path(sys.executable).with_name("ray"), "start", "--head", "--block", *options],
                env=self.environment | self.token | {"RAY_USAGE_STATS_ENABLED": "0"},
                cwd=self.folder,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        deadline = time.monotonic() + _STARTS_WITHIN_S
        while not asks_for_token(self.dashboard):
            assert self.process.poll() is None and time.monotonic() < deadline, (self.folder / "log").read_text()
            time.sleep(0.5)

    def kill(self) -> None:
        """Let its machine lose its power: all its processes at once."""
        assert self.process is not None
        own = psutil.Process(self.process.pid)
        for process in [own, *own.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self.process.wait(timeout=60)
        (self.session / "ray_current_cluster").unlink()  # or ray start takes the nodes on this machine for a head


def find_free_port() -> int:
    """A port of loopback that nobody has now."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextlib.contextmanager
def running_head(cache: Path, options: dict[str, Any] | None = None, **environment: str) -> Iterator[Head]:
    """Start a head of two CPUs that asks for a token, and end it by its process."""
    folder = Path(tempfile.mkdtemp(prefix="head"))  # short: sockets lie in it
    names = ("port", "dashboard-port", "ray-client-server-port", "dashboard-agent-listen-port")
    standard = {name: find_free_port() for name in names} | {
        "dashboard-host": "127.0.0.1",
        "num-cpus": 2,
        "object-store-memory": 2**27,
        "temp-dir": folder / "ray",
    }
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    head = Head(folder, standard | (options or {}), clean_environment(cache) | {"PATH": path} | environment)
    head.token_file.touch(0o600)
    head.token_file.write_text(secrets.token_hex(16))
    try:
        head.start()
        yield head
    finally:
        if head.process is not None:
            head.process.terminate()
            head.process.wait(timeout=60)
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def running_node(head: Head, cache: Path, *prefix: str, ip: str = "") -> Iterator["subprocess.Popen[bytes]"]:
    """Start one more machine with one CPU, by way of a command that changes what it sees."""
    options = ["--block", f"--address={head.gcs}", "--num-cpus=1", f"--object-store-memory={2**27}"]
    options += [f"--node-ip-address={ip}"] if ip else []
    with (head.folder / "node.log").open("ab") as log:
        process = subprocess.Popen(
            [*prefix, Path(sys.executable).with_name("ray"), "start", *options],
            env=clean_environment(cache) | head.token | {"RAY_USAGE_STATS_ENABLED": "0"},
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
