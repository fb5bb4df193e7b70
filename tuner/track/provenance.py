"""Where results come from: versions, and the commit of the folder that the search was started in."""

import importlib.metadata
import subprocess
from pathlib import Path
from typing import Any

from tuner import __version__

_PACKAGES = ("torch", "torchvision", "ray", "optuna", "mlflow")


def read_provenance(folder: Path) -> dict[str, Any]:
    """Read versions and the state of the git checkout.

    Parameters
    ----------
    folder : Path
        Any folder; in a git checkout its commit is recorded.

    Returns
    -------
    dict
        ``versions`` by package; ``git_commit`` (None outside a checkout) and ``git_dirty``.
    """
    commit = _git(folder, "rev-parse", "HEAD")
    return {
        "versions": {"tuner": __version__} | {name: importlib.metadata.version(name) for name in _PACKAGES},
        "git_commit": commit,
        "git_dirty": bool(_git(folder, "status", "--porcelain")) if commit else False,
    }


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
