"""Who keeps the images of a search's ledger: one at a time."""

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold a search's images: two mirrors of one search would make its runs twice. Waits for its turn."""
    with (folder / "mirror.lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
