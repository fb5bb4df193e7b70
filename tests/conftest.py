"""What all tests share."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from cluster_head import Head
    from object_store import Bucket
    from postgres_server import Server

settings.register_profile("unhurried", deadline=None)  # how long a test takes is the machine's affair
settings.load_profile("unhurried")

TUNER = Path(sys.executable).with_name("tuner")

SPEC = """\
name: small
data: digits
space:
  architecture:
    choice:
      simple_cnn: {depth: {int: [1, 2]}, width: {logint: [8, 16]}}
      lenet: {}
  learning_rate: {loguniform: [1e-3, 0.3]}
  l2: {loguniform: [1e-7, 1e-3]}
stages:
  coarse: {trials: 8, max_epochs: 3, halving: {reduction: 3, min_epochs: 1}}
  fine: {trials: 4, max_epochs: 4, halving: {reduction: 2, min_epochs: 2}}
"""


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where decoded images are kept, once for all tests."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def tuner(tmp_path: Path, cache: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """The installed command, in an empty folder."""

    def run(*arguments: str, timeout_s: float = 240, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [TUNER, *arguments],
            cwd=tmp_path,
            env=clean_environment(cache) | environment,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    return run


def clean_environment(cache: Path) -> dict[str, str]:
    """This process's environment, less what would steer the command."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "TUNER_", "RAY_", "TUNE_"))}
    return kept | {"TUNER_CACHE": str(cache), "TUNER_NO_CHECK": "1"}  # a check loads torch in one more process


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A small search of two stages, as a file in the test's folder."""
    path = tmp_path / "small.yaml"
    path.write_text(SPEC)
    return path


@pytest.fixture(scope="session")
def head(cache: Path) -> "Iterator[Head]":
    """A Ray head that asks for a token, one for all integration tests."""
    from cluster_head import running_head

    with running_head(cache) as head:
        yield head


@pytest.fixture(scope="session")
def postgres() -> "Iterator[Server]":
    """A PostgreSQL, one for all integration tests."""
    from postgres_server import running_postgres

    with running_postgres() as server:
        yield server


@pytest.fixture(scope="session")
def bucket() -> "Iterator[Bucket]":
    """An object store with a bucket, one for all integration tests."""
    from object_store import running_store

    with running_store() as bucket:
        yield bucket
