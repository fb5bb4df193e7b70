"""What searches leave behind that nobody needs again: found first, and freed only when asked to."""

import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tuner.errors import RunError, TunerError
from tuner.execute.checkpoints import CHECKPOINTS, DESK, Checkpoints, is_left
from tuner.execute.task import LAST, Manner
from tuner.track.best import rank_trials
from tuner.track.ledger import Ledger
from tuner.track.store import find_store, list_searches

PARTIAL = ".partial"
STARTING_S = 600.0  # a session of Ray's this young may have no process yet


@dataclass(frozen=True)
class Garbage:
    """A file or folder that nobody needs.

    Attributes
    ----------
    path : Path
        Where it is.
    size_bytes : int
        What it takes.
    why : str
        Why nobody needs it.
    search : Path or None
        The folder of the search that it belongs to.
    trial : str
        The trial whose checkpoint it is, if it is one: it may be in the object store that the folder stands for.
    """

    path: Path
    size_bytes: int
    why: str
    search: Path | None = None
    trial: str = ""


def find_garbage(
    results: Path,
    cache: Path,
    ray_folder: Path,
    unused_s: float,
    temporary: Path,
    tell: Callable[[str], None] = lambda _: None,
) -> list[Garbage]:
    """Find what can be freed.

    Parameters
    ----------
    results, cache : Path
        The folders of all searches and of decoded images.
    ray_folder : Path
        Where Ray keeps its sessions.
    unused_s : float
        Decoded images that were not read for so many seconds are made again if they are wanted.
    temporary : Path
        Where this machine's workers train if checkpoints are in an object store.
    tell : function
        Called with what is wrong with a search whose ledger cannot be read; nothing of it is freed.

    Returns
    -------
    list of Garbage
        Nothing of a search that runs, nothing that a search needs to go on, and no record.
    """
    found: list[Garbage] = []
    for folder in list_searches(results):
        try:
            found += list(_find_in_search(folder))
        except TunerError as error:
            tell(f"search {folder.name!r}: {error}")
    found += _find_unused(cache, unused_s)
    found += _find_sessions(ray_folder)
    found += _find_desks(temporary)
    return found


def free(garbage: Garbage) -> None:
    """Delete it, unless its search runs by now.

    Raises
    ------
    LedgerError
        If it does.
    RunError
        If some of it is left.
    """
    if garbage.search is None:
        _delete(garbage.path)
    else:
        with find_store(garbage.search).claimed():
            if not garbage.trial:
                _delete(garbage.path)
            elif garbage.path.name == garbage.trial:
                Checkpoints(garbage.search).drop(garbage.trial)
            else:
                Checkpoints(garbage.search).delete(garbage.trial, garbage.path.name)
    if garbage.path.exists():
        raise RunError(f"{garbage.path}: some of it may not be deleted by this user; let its owner delete it")


def _find_in_search(folder: Path) -> Iterator[Garbage]:
    """Find what a search left that was killed before it could tidy up."""
    if find_store(folder).find_holder() is not None:
        return
    scratch = folder / "ray"
    if scratch.is_dir():
        yield Garbage(scratch, _measure(scratch), "Ray Tune's own files of a search that was killed", folder)
    for partial in sorted(folder.rglob(f"*{PARTIAL}")):
        if not partial.parent.name.endswith(PARTIAL):
            yield Garbage(partial, _measure(partial), "what was cut off", folder)
    there = Checkpoints(folder).list()
    for name, size in there.items():
        if name.endswith(PARTIAL) and not (folder / CHECKPOINTS / name).exists():  # in a store
            path = folder / CHECKPOINTS / name
            yield Garbage(path, size, "a file that was cut off", folder, path.parent.name)
    for stage in Ledger.open(folder).stages():
        trials = stage.trials()
        open_trials = {trial.name for trial in trials if trial.state in {"running", "paused"}}
        ended = [trial for trial in trials if trial.name not in open_trials]
        kept = {trial.name for trial in rank_trials(ended, maximize=stage.maximize)[: Manner().models_kept]}
        for trial in ended:
            path = folder / CHECKPOINTS / trial.name
            own = {name: size for name, size in there.items() if name.startswith(f"{trial.name}/")}
            if trial.name not in kept and own:
                why = f"a model that is not among the best {Manner().models_kept} of its stage"
                yield Garbage(path, sum(own.values()), why, folder, trial.name)
                continue
            for name, size in own.items():
                if name.endswith(f"/{LAST}"):
                    yield Garbage(path / LAST, size, "the training of a trial that has ended", folder, trial.name)


def _find_unused(cache: Path, unused_s: float) -> Iterator[Garbage]:
    for images in sorted(cache.glob("images-*.arrow")):
        status = images.stat()
        unused = time.time() - max(status.st_atime, status.st_mtime)
        if unused > unused_s:
            yield Garbage(images, status.st_size, f"decoded images that were not read for {unused / 86400:.0f} days")


def _find_sessions(ray_folder: Path) -> Iterator[Garbage]:
    """Find the sessions of Ray, of this user, that no process belongs to any more."""
    lines = _read_command_lines()
    for session in sorted(ray_folder.glob("session_2*")) if lines else ():
        if session.is_symlink() or session.stat().st_uid != os.getuid():
            continue
        is_young = time.time() - session.stat().st_mtime < STARTING_S
        if not is_young and not any(session.name in line for line in lines):
            yield Garbage(session, _measure(session), "a session of Ray that has ended")


def _find_desks(temporary: Path) -> Iterator[Garbage]:
    """Find the folders, of this user, in which workers trained that were killed."""
    for desk in sorted(temporary.glob(f"{DESK}*")):
        if desk.is_symlink() or desk.stat().st_uid != os.getuid() or not desk.is_dir():
            continue
        is_young = time.time() - desk.stat().st_mtime < STARTING_S  # it may not be held yet
        if not is_young and is_left(desk):
            yield Garbage(desk, _measure(desk), "where a worker trained that was killed")


def _read_command_lines() -> list[str]:
    """Return the command line of every process; none where the system does not tell."""
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines.append(path.read_bytes().decode(errors="replace"))
        except OSError:
            continue
    return lines


def _measure(path: Path) -> int:
    inside = path.rglob("*") if path.is_dir() else iter([path])
    return sum(file.lstat().st_size for file in inside if file.is_symlink() or file.is_file())


def _delete(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
