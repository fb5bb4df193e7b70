"""A real Redis of the tests' own."""

import contextlib
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from cluster_head import find_free_port

_STARTS_WITHIN_S = 30


@dataclass(frozen=True)
class Redis:
    """A server that keeps all in memory, and asks for a password."""

    port: int = field(default_factory=find_free_port)
    password: str = field(default_factory=lambda: secrets.token_hex(16))

    @property
    def address(self) -> str:
        """Where it is."""
        return f"127.0.0.1:{self.port}"


@contextlib.contextmanager
def running_redis() -> Iterator[Redis]:
    """Start a server and end it."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("redis-server is not installed")
    redis = Redis()
    process = subprocess.Popen(
        [program, "-"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    assert process.stdin is not None
    settings = ("bind 127.0.0.1", f"port {redis.port}", f"requirepass {redis.password}", 'save ""')
    process.stdin.write("\n".join(settings).encode())
    process.stdin.close()
    try:
        deadline = time.monotonic() + _STARTS_WITHIN_S
        while not _listens(redis.port):
            assert process.poll() is None and time.monotonic() < deadline, "redis-server did not start"
            time.sleep(0.1)
        yield redis
    finally:
        process.terminate()
        process.wait(timeout=60)


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
