"""A real PostgreSQL of the tests' own."""

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cluster_head import find_free_port


@dataclass(frozen=True)
class Server:
    """A cluster in a folder of its own, which may be stopped and started."""

    programs: Path
    folder: Path
    port: int
    password: str
    user: str | None  # whom it runs as; None for the tests' own user

    @property
    def address(self) -> str:
        """Where it is, with the password."""
        return self.find_address(self.port)

    def find_address(self, port: int) -> str:
        """The same by another port."""
        return f"postgresql://tuner:{self.password}@127.0.0.1:{port}/postgres"

    def control(self, *words: str) -> None:
        """Start, stop or restart it, and wait until that is done."""
        options = f"-p {self.port} -k {self.folder} -c listen_addresses=127.0.0.1 -c fsync=off"
        self.execute("pg_ctl", "-D", str(self.folder), "-o", options, "-l", str(self.folder / "log"), "-w", *words)

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Let all its processes stand still: it is connected to, and does not answer."""
        own = int((self.folder / "postmaster.pid").read_text().split()[0])
        os.kill(own, signal.SIGSTOP)  # first, so that it makes no more
        listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(own)], capture_output=True, text=True, check=True)
        processes = [own, *map(int, listed.stdout.split())]
        for process in processes:
            os.kill(process, signal.SIGSTOP)
        try:
            yield
        finally:
            for process in processes:
                os.kill(process, signal.SIGCONT)

    def execute(self, program: str, *arguments: str) -> None:
        """Execute one of its programs: none runs as root."""
        subprocess.run(
            [self.programs / program, *arguments],
            cwd=self.folder,
            env={**os.environ, "LC_ALL": "C"},
            user=self.user,
            group=self.user,
            extra_groups=None if self.user is None else [],
            stdout=subprocess.DEVNULL,
            check=True,
        )


@contextlib.contextmanager
def running_postgres() -> Iterator[Server]:
    """Make a cluster and start it; without PostgreSQL on the machine the test skips."""
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    initdb = installed[-1] if installed else shutil.which("initdb")
    if initdb is None:
        pytest.skip("no PostgreSQL here; on Debian: apt-get install postgresql")
    user = "postgres" if os.getuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix="pg"))  # short: a socket lies in it
    if user is not None:
        shutil.chown(folder, user, user)
    server = Server(Path(initdb).parent, folder, find_free_port(), secrets.token_hex(8), user)
    try:
        word = folder / "word"
        word.write_text(server.password + "\n")
        word.chmod(0o644)
        data = Server(server.programs, folder / "data", server.port, server.password, user)
        server.execute(
            "initdb", "-D", str(data.folder), "-A", "scram-sha-256", "-U", "tuner", "--pwfile", str(word), "-N"
        )
        data.control("start")
        try:
            yield data
        finally:
            data.control("stop", "-m", "immediate")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
