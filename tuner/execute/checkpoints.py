"""Where the checkpoints of a search's trials are: in its folder, or in the object store that it stands for."""

import contextlib
import fcntl
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

from tuner.errors import RunError
from tuner.execute.remote import Remote, find_remote
from tuner.execute.task import LAST, MODEL, TrialTask

CHECKPOINTS = "checkpoints"  # in a search's folder: a folder for each trial
DESK = "tuner-trial-"  # begins the name of the folder that one worker trains in, in the trial's or a temporary one
OWNER = "worker"  # in a trial's folder of a store: which worker may put checkpoints there


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
        files = sorted(path for path in self._folder.glob("*/*") if path.is_file())
        return {path.relative_to(self._folder).as_posix(): path.stat().st_size for path in files}

    def delete(self, trial: str, name: str) -> None:
        """Delete a file of a trial, if it is there."""
        if self._remote is not None:
            self._remote.delete(f"{trial}/{name}")
        (self._folder / trial / name).unlink(missing_ok=True)

    def settle(self, trial: str) -> None:
        """Keep of a trial that no worker has any more its model alone."""
        if self._remote is not None:  # a worker that was killed between sending a file and naming it left that too
            own = self._remote.under(trial)
            own.delete(*(name for name in own.list() if name != MODEL))
        (self._folder / trial / LAST).unlink(missing_ok=True)
        for desk in (self._folder / trial).glob(f"{DESK}*"):
            shutil.rmtree(desk, ignore_errors=True)

    def drop(self, trial: str) -> None:
        """Delete all of a trial."""
        if self._remote is not None:
            own = self._remote.under(trial)
            own.delete(*own.list())
        shutil.rmtree(self._folder / trial, ignore_errors=True)


class _Folder:
    """A trial's folder where machines share one."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.desks = folder

    def claim(self, own: Path) -> None:
        """Move other workers' folders into this one's: they write to paths that are gone."""
        for other in self.desks.glob(f"{DESK}*"):
            if other != own:
                with contextlib.suppress(FileNotFoundError):
                    other.rename(own / other.name)

    def fetch(self, name: str, path: Path) -> bool:
        """Copy a file, if it is there."""
        try:
            shutil.copyfile(self.desks / name, path)
        except FileNotFoundError:
            return False
        return True

    def put(self, path: Path, name: str) -> None:
        """Give a file its name."""
        path.replace(self.desks / name)


class _Store:
    """A trial's folder in an object store."""

    desks = None  # where temporary folders are

    def __init__(self, remote: Remote) -> None:
        self.fetch = remote.fetch
        self._remote = remote
        self._token = uuid.uuid4().hex

    def claim(self, own: Path) -> None:
        """Say that it is this worker's from now on."""
        self._seen = own / OWNER
        self._seen.write_text(self._token)
        self._remote.send(self._seen, OWNER)

    def put(self, path: Path, name: str) -> None:
        """Send a file, which gets its name only if the trial is still this worker's."""
        self._remote.send(path, name, before_naming=self._check)

    def _check(self) -> None:
        if not self._remote.fetch(OWNER, self._seen) or self._seen.read_text() != self._token:
            raise RunError(
                f"{self._remote.address}: another worker has this trial by now; this one stores nothing more"
            )


@contextlib.contextmanager
def held(desk: Path) -> Iterator[None]:
    """Hold a folder's lock, which the kernel frees when its holder dies, so that ``is_left`` can tell."""
    descriptor = os.open(desk, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def is_left(desk: Path) -> bool:
    """Tell whether whoever held a folder of this machine is dead."""
    try:
        descriptor = os.open(desk, os.O_RDONLY)
    except OSError:  # it is gone by now, or another user's
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True


@contextlib.contextmanager
def reached(task: TrialTask, *, writes: bool = True) -> Iterator[tuple[Path, Callable[[], None]]]:
    """Bring a trial's checkpoints to this worker for as long as the block lasts, and take them from any other.

    Parameters
    ----------
    task : TrialTask
        The trial.
    writes : bool
        Whether this worker writes them; of several that train together one does.

    Yields
    ------
    Path
        The folder to train in.
    function
        Puts what has changed in it where every machine reaches it; to be called before an epoch is told.

    Notes
    -----
    A worker that was cut off trains on while another has its trial already. What it then puts would be older than what
    the other has put, so each trains in a folder of its own, and the next one takes that away.
    """
    if not writes and not task.store:
        yield task.folder, lambda: None
        return
    place = _Store(Remote(task.store)) if task.store else _Folder(task.folder)
    with tempfile.TemporaryDirectory(prefix=DESK, suffix=".partial", dir=place.desks) as desk, held(Path(desk)):
        folder, put = Path(desk), dict[str, int]()
        if writes:
            place.claim(folder)
        if place.fetch(LAST, folder / LAST):
            put[LAST] = (folder / LAST).stat().st_mtime_ns

        def send() -> None:
            for name in (MODEL, LAST):  # a model without its training does no harm: it is made again
                path = folder / name
                if path.exists() and put.get(name) != (changed := path.stat().st_mtime_ns):
                    place.put(path, name)
                    put[name] = changed

        yield folder, send
