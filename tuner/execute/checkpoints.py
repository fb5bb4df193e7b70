"""Where the checkpoints of a search's trials are: in its folder, or in the object store that it stands for."""

import contextlib
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from tuner.execute.remote import Remote, find_remote
from tuner.execute.task import LAST, MODEL, TrialTask

CHECKPOINTS = "checkpoints"  # in a search's folder: a folder for each trial


class Checkpoints:
    """The checkpoints of one search's trials.

    Parameters
    ----------
    folder : Path
        The search's folder.
    """

    def __init__(self, folder: Path) -> None:
        remote = find_remote(folder)
        self._folder = folder / CHECKPOINTS
        self._remote = None if remote is None else remote.under(CHECKPOINTS)

    def find_place(self, trial: str) -> tuple[Path, str]:
        """Return a trial's folder, and its address if that is in a store."""
        return self._folder / trial, "" if self._remote is None else self._remote.under(trial).address

    def fetch_model(self, trial: str) -> Path:
        """Return the path of a trial's model, which need not be there."""
        path = self._folder / trial / MODEL
        if self._remote is not None:
            self._remote.fetch(f"{trial}/{MODEL}", path)
        return path

    def list(self) -> dict[str, int]:
        """Return the size in bytes of every file by TRIAL/NAME."""
        if self._remote is not None:
            return self._remote.list()
        files = sorted(path for path in self._folder.rglob("*") if path.is_file())
        return {path.relative_to(self._folder).as_posix(): path.stat().st_size for path in files}

    def delete(self, trial: str, name: str) -> None:
        """Delete a file of a trial, if it is there."""
        if self._remote is not None:
            self._remote.delete(f"{trial}/{name}")
        (self._folder / trial / name).unlink(missing_ok=True)

    def drop(self, trial: str) -> None:
        """Delete all of a trial."""
        if self._remote is not None:
            own = self._remote.under(trial)
            own.delete(*own.list())
        shutil.rmtree(self._folder / trial, ignore_errors=True)


@contextlib.contextmanager
def reached(task: TrialTask) -> Iterator[tuple[Path, Callable[[], None]]]:
    """Bring a trial's checkpoints to this machine for as long as the block lasts.

    Parameters
    ----------
    task : TrialTask
        The trial.

    Yields
    ------
    Path
        The folder to train in.
    function
        Sends what has changed in it to where every machine reaches it; to be called before an epoch is told.
    """
    if not task.store:
        task.folder.mkdir(parents=True, exist_ok=True)
        yield task.folder, lambda: None
        return
    remote, sent = Remote(task.store), dict[str, int]()
    with tempfile.TemporaryDirectory(prefix="tuner-trial-") as scratch:
        folder = Path(scratch)
        for name in (MODEL, LAST):
            if remote.fetch(name, folder / name):
                sent[name] = (folder / name).stat().st_mtime_ns

        def send() -> None:
            for name in (MODEL, LAST):  # a model without its training does no harm: it is made again
                path = folder / name
                if path.exists() and sent.get(name) != (changed := path.stat().st_mtime_ns):
                    remote.send(path, name)
                    sent[name] = changed

        yield folder, send
