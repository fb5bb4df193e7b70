"""What one machine of a cluster is like, seen by a process on it.

Sent to the machines as it is, since they may lack this package: it imports nothing of it.
"""

import importlib
import importlib.metadata
import os
import platform
import shutil
import socket
import time
from pathlib import Path
from typing import Any

PACKAGES = ("ray", "torch", "torchvision", "optuna", "numpy")


class NodeFacts:
    """Looks at the machine that it is on."""

    def look(self, results: str, cache: str, scratch: str) -> dict[str, Any]:
        """Return versions, GPUs and free disk space.

        Parameters
        ----------
        results, cache, scratch : str
            The folders of searches, of decoded images and of Ray, empty where not known.

        Returns
        -------
        dict
            ``host``; ``versions`` by package, None where it is missing; ``gpus``, the free and total bytes of each;
            ``gpu_error``; ``disks``, for each folder the free and total bytes where it will lie, None if nowhere.
        """
        versions: dict[str, str | None] = {"python": platform.python_version(), "tuner": _find_tuner()}
        for package in PACKAGES:
            try:
                versions[package] = importlib.metadata.version(package)
            except importlib.metadata.PackageNotFoundError:
                versions[package] = None
        gpus, gpu_error = _find_gpus()
        folders = {"results": results, "cache": cache, "scratch": scratch}
        disks = {name: _find_space(Path(folder)) for name, folder in folders.items() if folder}
        return {
            "host": socket.gethostname(),
            "versions": versions,
            "gpus": gpus,
            "gpu_error": gpu_error,
            "disks": disks,
        }

    def tell_time(self) -> float:
        """Return the machine's clock, in seconds since the epoch."""
        return time.time()

    def exchange(self, folder: str, mine: str, expected: str, text: str) -> str:
        """Write a file into a shared folder and read another one there; return what is wrong, or nothing."""
        try:
            (Path(folder) / mine).write_text(text)
            found = (Path(folder) / expected).read_text()
        except OSError as error:
            return f"{error.strerror}: {error.filename}"
        return "" if found == text else f"{expected} does not hold what was written into it"

    def exchange_in_store(self, system: Any, folder: str, mine: str, expected: str, text: str) -> str:
        """Do the same in an object store, whose file system is that of pyarrow."""
        try:
            with system.open_output_stream(f"{folder}/{mine}") as stream:
                stream.write(text.encode())
            with system.open_input_stream(f"{folder}/{expected}") as stream:
                found = stream.read().decode()
        except OSError as error:
            return " ".join(str(error).split())
        return "" if found == text else f"{expected} does not hold what was written into it"


def _find_tuner() -> str | None:
    try:
        return str(importlib.import_module("tuner").__version__)
    except ImportError:
        return None


def _find_gpus() -> tuple[list[tuple[int, int]], str]:
    """Return the free and the total bytes of every GPU that torch can use, and what is wrong otherwise."""
    try:
        torch = importlib.import_module("torch")
        return [torch.cuda.mem_get_info(i) for i in range(torch.cuda.device_count())], ""
    except Exception as error:  # a driver that does not fit, a GPU in exclusive use, no torch: each has its own error
        return [], f"{type(error).__name__}: {error}"


def _find_space(folder: Path) -> tuple[int, int] | None:
    """Return the free and the total bytes of where a folder lies, or would be made."""
    try:
        while not folder.exists() and folder != folder.parent:
            folder = folder.parent
    except PermissionError:  # it lies in a folder that this user may not enter
        return None
    if not os.access(folder, os.W_OK):
        return None
    usage = shutil.disk_usage(folder)
    return usage.free, usage.total
